//! `onlooker propagation` finds a service that does not pass a trace context on.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::Nginx;
use onlooker_tests::{Networks, World, agent_binary};
use serde_json::Value;

const FORMATS: [&str; 6] = ["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray"];

/// Makes nginx drop every field of a trace context.
const DROPPED: [&str; 12] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
    "ot-tracer-traceid",
    "ot-tracer-spanid",
    "ot-tracer-sampled",
    "x-amzn-trace-id",
];

fn check(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(agent_binary()?);
    command.arg("propagation").args(arguments).stdin(Stdio::null()).output().context("cannot run the check")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_service_that_drops_the_context_is_found_in_each_format() -> Result<()> {
    World::story("drops", |world| {
        let last = Nginx::site("location / { return 200 hello; }").named("last").start(world)?;
        let drops: String = DROPPED.iter().map(|name| format!("proxy_set_header {name} \"\"; ")).collect();
        let site = format!("location / {{ proxy_pass http://{}; {drops} }}", last.address());
        let dropping = Nginx::site(&site).named("dropping").start(world)?;
        let first = Nginx::proxy_to(&dropping.address()).named("first").start(world)?;
        let hops = [first.url("/"), dropping.url("/"), last.url("/")];
        let output = check(&["--url", &first.url("/shop"), "--hops", &hops.join(","), "--json"])?;
        ensure!(output.status.code() == Some(1), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
        ensure!(report["survives"] == false, "{report}");
        let rows = report["formats"].as_array().context("a list")?;
        ensure!(rows.iter().map(|row| row["format"].as_str().unwrap_or_default()).eq(FORMATS), "{report}");
        for row in rows {
            ensure!(row["lost_at"] == hops[2], "{row}");
            let findings = row["hops"].as_array().context("a list")?.iter();
            ensure!(
                findings.map(|hop| hop["finding"].as_str().unwrap_or_default()).eq(["survived", "survived", "lost"]),
                "{row}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_chain_that_passes_the_context_on_is_confirmed() -> Result<()> {
    World::story("passes", |world| {
        let last = Nginx::site("location / { return 200 hello; }").named("last").start(world)?;
        let idle = Nginx::site("location / { return 200 hello; }").named("idle").start(world)?;
        let first = Nginx::proxy_to(&last.address()).named("first").start(world)?;
        let output = check(&["--url", &first.url("/"), "--hops", &last.url("/"), "--format", "w3c,b3"])?;
        let expected = format!(
            "tracecontext: arrives everywhere\n  arrived      {0}\nb3: arrives everywhere\n  arrived      {0}\n",
            last.url("/")
        );
        ensure!(output.status.code() == Some(0) && output.stdout == expected.as_bytes(), "{}", said(&output));
        // A service that the request does not pass, and one that does not run.
        let output = check(&["--url", &first.url("/"), "--hops", &idle.url("/"), "--format", "b3"])?;
        ensure!(output.status.code() == Some(1) && said(&output).contains("NOT REACHED"), "{}", said(&output));
        let output = check(&["--url", &first.url("/"), "--hops", "http://127.0.0.1:1/", "--format", "b3"])?;
        ensure!(output.status.code() == Some(2) && said(&output).contains("no process"), "{}", said(&output));
        let output = check(&["--url", &first.url("/"), "--format", "b4"])?;
        ensure!(output.status.code() == Some(2) && said(&output).contains("unknown name \"b4\""), "{}", said(&output));
        Ok(())
    })
}

/// A service that no agent can watch must repeat the trace id.
#[test]
fn a_service_on_another_host_is_believed_by_its_answer() -> Result<()> {
    let networks = Networks::create()?;
    let far = networks.ends[1].clone();
    let far_world = World::in_network(&far)?;
    World::story("echo", |_| {
        let world = World::in_network(&networks.ends[0])?;
        let answer = "add_header Seen \"$http_traceparent\"; return 200 hello;";
        let site = format!("server {{ listen {}:8080; location / {{ {answer} }} }}", far.address());
        let _echo = Nginx::site("return 200;").http(&site).start(&far_world)?;
        let url = format!("http://{}:8080/", far.address());
        let script = format!("{} propagation --url {url} --format w3c,b3 2>&1; echo $?", agent_binary()?.display());
        let output = world.run(world.command("sh").args(["-c", &script]))?;
        let expected = format!(
            "tracecontext: arrives everywhere\n  arrived      {url} (by its answer)\n\
             b3: does not arrive at {url}\n  LOST         {url} (by its answer)\n1\n"
        );
        ensure!(output.stdout == expected.as_bytes(), "{}", said(&output));
        Ok(())
    })
}

#[test]
fn other_urls_are_errors() -> Result<()> {
    for url in ["https://127.0.0.1/", "127.0.0.1", "ftp://127.0.0.1/"] {
        let output = check(&["--url", url])?;
        ensure!(output.status.code() == Some(2), "{url}: {}", said(&output));
    }
    Ok(())
}
