//! `--inject`: later requests on a connection whose socket stays enrolled.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::{Agent, Receiver, Recording, Request, Summary, World, agent_binary, record_skip};
use rstest::rstest;

/// How often each program makes its three requests.
const TIMES: usize = 10;

/// Kernels on which sockets may stay enrolled, as docs/propagation.md says.
const KERNELS: [&str; 2] = ["6.12.", "6.18."];

/// Records that the test is skipped, if sockets do not stay enrolled on this kernel.
fn is_skipped(app: &AppOptions) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = (!KERNELS.iter().any(|kernel| release.starts_with(kernel)))
        .then(|| format!("sockets do not stay enrolled on Linux {}", release.trim()));
    let reason = kernel.or_else(|| app.skip_reason());
    reason.inspect(|reason| record_skip(reason)).is_some()
}

fn body(path: &str) -> Vec<u8> {
    match path {
        "/post" => (0..1_usize << 20).map(|index| index as u8).collect(),
        "/chunked" => format!("one{}three", "two".repeat(1000)).into_bytes(),
        _ => Vec::new(),
    }
}

/// Trace and span id of the one `traceparent`.
fn context(request: &Request) -> Result<(&str, &str)> {
    let values = request.values("traceparent");
    ensure!(values.len() == 1, "{} fields in {}", values.len(), request.head);
    let mut parts = values[0].split('-').skip(1);
    parts.next().zip(parts.next()).with_context(|| request.head.clone())
}

#[rstest]
#[case::python(App::python("keeping"))]
#[case::node(App::node("keeping"))]
#[case::go(App::go("keeping"))]
fn each_request_on_a_kept_connection_has_the_ids_of_its_span(#[case] app: AppOptions) -> Result<()> {
    if is_skipped(&app) {
        return Ok(());
    }
    World::story("kept", |world| {
        let receiver = Receiver::of_requests()?;
        let recording = Recording::start_with(world, &["--inject"])?;
        app.clone().argument(&receiver.url("")).argument(&TIMES.to_string()).run(world)?;
        let requests = receiver.requests();
        let counted = requests.iter().filter(|request| request.path() != "/own").count();
        recording.wait_for_spans(counted)?;
        let outcome = recording.stop(requests.len())?;
        let tried = requests.iter().take_while(|request| matches!(request.path(), "/first" | "/second")).count();
        let expected = ["/get", "/post", "/own"].repeat(TIMES);
        let paths = requests[tried..].iter().map(Request::path);
        ensure!(paths.eq(expected.into_iter().chain(["/chunked", "/after"])), "{requests:?}");
        for request in &requests[tried..] {
            let path = request.path();
            ensure!(request.body == body(path), "{path}: {} bytes arrived", request.body.len());
            match path {
                // Where chunks end is not followed.
                "/after" => ensure!(request.values("traceparent").is_empty(), "{}", request.head),
                "/own" => ensure!(context(request)?.0 == "0af7651916cd43dd8448eb211c80319c", "{}", request.head),
                _ => {
                    let (trace, span) = context(request)?;
                    let found = outcome.spans.iter().find(|found| found.span_id == span);
                    let found = found.with_context(|| format!("no span has the ids of {}", request.head))?;
                    ensure!(
                        found.trace_id == trace && found.get("url.full").ends_with(path),
                        "{found:?}\n{}",
                        request.head
                    );
                }
            }
        }
        ensure!(outcome.summary.get("kernel_traceparent_own") == TIMES as u64, "{}", outcome.summary);
        Ok(())
    })
}

#[test]
fn later_requests_in_any_pieces_arrive_with_one_line_more() -> Result<()> {
    let app = App::python("kept_in_pieces");
    if is_skipped(&app) {
        return Ok(());
    }
    World::story("kept in pieces", |world| {
        let receiver = Receiver::of_repeated_requests()?;
        let mut agent = Agent::watch(world, &agent_binary()?, &["--inject", "--export", "none"], &[])?;
        let printed = app.argument(&receiver.port().to_string()).argument("7").argument("400").run(world)?;
        let summary = Summary::read(&agent.finish()?);
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut added = 0;
        for line in printed.lines() {
            let (what, rest) = line.split_once('_').with_context(|| line.to_owned())?;
            let (kind, rest) = rest.split_once(' ').with_context(|| line.to_owned())?;
            let (outcome, count) = rest.split_once(' ').with_context(|| line.to_owned())?;
            let count: u64 = count.parse()?;
            ensure!(matches!(outcome, "same" | "added"), "{printed}");
            let may_have = matches!(what, "first" | "later") && kind != "own";
            ensure!(outcome == "same" || may_have, "{line}\n{printed}");
            added += if outcome == "added" { count } else { 0 };
            if may_have {
                *counts.entry((what, outcome)).or_default() += count;
            }
        }
        ensure!(summary.get("kernel_traceparent_added") == added, "{printed}\n{summary}");
        ensure!(summary.get("kernel_traceparent_pipelined") > 0, "{printed}\n{summary}");
        // The first connections leave, until the agent knows the program. So do those whose uploads were cut short.
        let later = |outcome: &str| counts.get(&("later", outcome)).copied().unwrap_or(0);
        ensure!(later("added") > 4 * later("same"), "{printed}\n{summary}");
        Ok(())
    })
}

/// Events, errors, lengths and control messages, in more than thirty cases.
#[test]
fn a_socket_that_stays_enrolled_behaves_like_any_other() -> Result<()> {
    let app = App::python("socket_behaviours");
    if is_skipped(&app) {
        return Ok(());
    }
    World::story("behaviours", |world| {
        let expected = app.run(world)?;
        let mut agent = Agent::watch(world, &agent_binary()?, &["--inject", "--export", "none"], &[])?;
        let found = app.clone().argument("enrolled").run(world)?;
        agent.finish()?;
        for (found, expected) in found.lines().zip(expected.lines()) {
            ensure!(found == expected, "without an agent: {expected}");
        }
        ensure!(expected.lines().count() > 30 && found == expected, "{found}\n{expected}");
        Ok(())
    })
}
