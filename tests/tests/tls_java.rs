//! TLS of Java programs (JSSE), with `--java`: sockets and engines, both ends, on several JDKs.
//!
//! The server answers with the port of the client's socket that it sees. So each span's socket is compared with the truth. Both
//! ends of each request are joined by the positions of their plaintext.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onlooker_tests::machine::{java_libraries, java_of_version};
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, record_skip};
use rstest::rstest;

/// The first request's number, how many, how many in flight, and the bytes that are sent and received.
const ROUNDS: [&str; 4] = ["100:20:1:0:16", "1000:100:10:300:2000", "10000:200:50:0:100", "20000:4:2:100000:4000000"];
const REQUESTS: usize = 20 + 100 + 200 + 4;

/// A JVM on a busy machine.
const LOADS_WITHIN: Duration = Duration::from_secs(30);

/// The key and certificate of 127.0.0.1.
fn keystore(world: &World) -> Result<PathBuf> {
    let java = java_of_version(17).context("JDK 17 is not installed")?;
    let file = world.dir().join("keystore.p12");
    let mut keytool = world.command(java.with_file_name("keytool"));
    keytool.args(["-genkeypair", "-alias", "test", "-keyalg", "EC", "-validity", "30", "-dname", "CN=127.0.0.1"]);
    keytool
        .args(["-ext", "san=ip:127.0.0.1", "-storetype", "PKCS12", "-storepass", "changeit", "-keystore"])
        .arg(&file);
    world.run_unwatched(&mut keytool)?;
    Ok(file)
}

/// Why the tests cannot run here, if so.
fn skip_reason(versions: &[u32]) -> Option<String> {
    let missing = versions.iter().chain([&17]).find(|&&version| java_of_version(version).is_none());
    missing.map(|version| format!("no JDK {version} is installed"))
}

fn server(name: &str, version: u32, options: &[&str], keystore: &str) -> AppOptions {
    let app = App::java(name).jvm(version, options).env("KEYSTORE", keystore);
    if name == "SecureTomcat" { app.libraries() } else { app }
}

fn client(kind: &str, threads: &str, url: &str, version: u32, rounds: &[&str], keystore: &str) -> AppOptions {
    let app = App::java("SecureClient").jvm(version, &[]).env("KEYSTORE", keystore);
    rounds.iter().fold(app.argument(kind).argument(threads).argument(url), |app, round| app.argument(round))
}

/// What the client printed: the port of each request's socket, by the request's number.
fn ports(printed: &str) -> Result<HashMap<u64, String>> {
    let answered = printed.lines().filter_map(|line| line.strip_prefix("answered "));
    answered
        .map(|line| {
            let (number, port) = line.split_once(' ').context("a number and a port")?;
            Ok((number.parse()?, port.to_owned()))
        })
        .collect()
}

/// Each request has one span at each end, on the right socket, and the server's is the child of the client's.
fn expect_both_ends(spans: &[Span], ports: &HashMap<u64, String>) -> Result<()> {
    let of = |number, kind: &str| -> Result<&Span> {
        let mut found = spans.iter().filter(|span| number_of(span) == Some(number) && span.kind == kind);
        match (found.next(), found.next()) {
            (Some(span), None) => Ok(span),
            (None, _) => bail!("request {number} has no {kind} span"),
            _ => bail!("request {number} has two {kind} spans"),
        }
    };
    for (&number, port) in ports {
        let (sent, received) = (of(number, "client")?, of(number, "server")?);
        let sockets = [sent.get("network.local.port"), received.get("network.peer.port")];
        ensure!(sockets == [port; 2], "request {number} was on port {port}, and its spans on {sockets:?}");
        let evidence = received.get("onlooker.parent.evidence");
        ensure!(
            received.parent.as_ref() == Some(&sent.span_id) && evidence == "host",
            "request {number}: the server's span is not the child of the client's, but of {:?} by {evidence}",
            received.parent
        );
        ensure!(received.get("url.scheme") == "https", "request {number}: {:?}", received.attributes);
    }
    Ok(())
}

/// Requests `url` by a program that is not traced.
fn curl(world: &World, url: &str) -> Result<String> {
    let mut curl = world.command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*", "--insecure", url]);
    Ok(String::from_utf8_lossy(&world.run_unwatched(&mut curl)?.stdout).into_owned())
}

/// What the agent logs with `--verbose` when it has attached to the library in a JVM.
fn is_read(pid: u32) -> String {
    format!("TLS is read pid={pid} library=\"JSSE\"")
}

/// The files that Onlooker or a JVM may have left in /tmp for these processes.
fn left_behind(pids: &[u32]) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/tmp")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_of = |pid: &u32| name == format!(".attach_pid{pid}") || name == format!(".java_pid{pid}");
        if name.starts_with(".onlooker-") || pids.iter().any(is_of) {
            left.push(name);
        }
    }
    Ok(left)
}

#[rstest]
#[case::java_11_sockets_and_connections(11, "SecureSockets", "HttpsURLConnection", "platform")]
#[case::java_17_https_server_and_http_client(17, "SecureServer", "HttpClient", "platform")]
#[case::java_17_tomcat_and_connections(17, "SecureTomcat", "HttpsURLConnection", "platform")]
#[case::java_21_virtual_threads(21, "SecureServer", "HttpsURLConnection", "virtual")]
#[case::java_25_sockets_and_http_client(25, "SecureSockets", "HttpClient", "platform")]
fn tls_of_both_ends_is_read(
    #[case] version: u32,
    #[case] name: &str,
    #[case] client_kind: &str,
    #[case] threads: &str,
) -> Result<()> {
    if let Some(reason) = skip_reason(&[version]) {
        record_skip(&reason);
        return Ok(());
    }
    if name == "SecureTomcat" && !java_libraries()?.is_dir() {
        record_skip("Tomcat is not installed: run `cargo xtask setup java`");
        return Ok(());
    }
    World::story(&format!("tls-java-{version}-{name}-{client_kind}"), |world| {
        let keystore = keystore(world)?;
        let keystore = keystore.to_str().context("the path is text")?;
        let mut server = server(name, version, &[], keystore).env("THREADS", threads).start(world)?;
        let mut recording = Recording::start_with(world, &["--java", "--verbose"])?;
        recording.agent().wait_for_log(within(LOADS_WITHIN), &is_read(server.process().pid()))?;
        let url = format!("https://{}", server.address());
        let client = client(client_kind, threads, &url, version, &ROUNDS, keystore);
        let log = recording.agent().process().log_file().to_str().context("the path is text")?;
        let printed = client.env("AGENT_LOG", log).run(world)?;
        let ports = ports(&printed)?;
        ensure!(ports.len() == REQUESTS, "{} of {REQUESTS} requests were answered:\n{printed}", ports.len());
        let outcome = recording.finish(2 * REQUESTS)?;
        expect_both_ends(&outcome.spans, &ports)?;
        let pid = server.process().pid();
        ensure!(outcome.summary.get("jvms_not_loaded") == 0, "{}", outcome.summary);
        let left: Vec<_> = left_behind(&[pid])?.into_iter().filter(|name| !name.starts_with(".java_pid")).collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        server.process().stop_within(LOADS_WITHIN)?;
        let left = left_behind(&[pid])?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    })
}

/// A JVM that forbids it goes on as before. Both are counted: the JVM, and the connections whose TLS is not read.
#[rstest]
#[case::no_agents(21, "-XX:-EnableDynamicAgentLoading")]
#[case::no_attaching(17, "-XX:+DisableAttachMechanism")]
fn a_jvm_that_forbids_it_is_left_alone_and_counted(#[case] version: u32, #[case] option: &str) -> Result<()> {
    if let Some(reason) = skip_reason(&[version]) {
        record_skip(&reason);
        return Ok(());
    }
    World::story(&format!("tls-java-forbidden-{version}"), |world| {
        let keystore = keystore(world)?;
        let keystore = keystore.to_str().context("the path is text")?;
        let mut recording = Recording::start_with(world, &["--java"])?;
        let mut server = server("SecureServer", version, &[option], keystore).start(world)?;
        recording.agent().wait_for_log(within(LOADS_WITHIN), option)?;
        let url = format!("https://{}/r/0/1", server.address());
        let answer = curl(world, &url)?;
        ensure!(answer.trim().parse::<u16>().is_ok(), "{answer}");
        let outcome = recording.finish(0)?;
        ensure!(outcome.summary.get("jvms_not_loaded") == 1, "{}", outcome.summary);
        ensure!(outcome.summary.get("connections_tls_java") == 1, "{}", outcome.summary);
        let printed = server.process().log()?;
        ensure!(!printed.contains("WARNING") && !printed.contains("Full thread dump"), "{printed}");
        ensure!(left_behind(&[server.process().pid()])?.is_empty());
        Ok(())
    })
}

/// Without `--java` nothing is done to a JVM, and its connections are counted.
#[test]
fn without_the_option_connections_are_counted() -> Result<()> {
    if let Some(reason) = skip_reason(&[]) {
        record_skip(&reason);
        return Ok(());
    }
    World::story("tls-java-off", |world| {
        let keystore = keystore(world)?;
        let keystore = keystore.to_str().context("the path is text")?;
        let mut server = server("SecureServer", 17, &[], keystore).start(world)?;
        let recording = Recording::start(world)?;
        for number in 0..3 {
            curl(world, &format!("https://{}/r/0/{number}", server.address()))?;
        }
        let outcome = recording.finish(0)?;
        ensure!(outcome.summary.get("connections_tls_java") == 3, "{}", outcome.summary);
        ensure!(left_behind(&[server.process().pid()])?.is_empty());
        Ok(())
    })
}

/// An agent that is killed leaves a JVM that works, and the next agent reads its TLS without loading anything.
#[test]
fn the_next_agent_finds_the_library() -> Result<()> {
    if let Some(reason) = skip_reason(&[]) {
        record_skip(&reason);
        return Ok(());
    }
    World::story("tls-java-again", |world| {
        let keystore = keystore(world)?;
        let keystore = keystore.to_str().context("the path is text")?;
        let mut server = server("SecureServer", 17, &[], keystore).start(world)?;
        let (address, pid) = (server.address(), server.process().pid());
        let mut killed = Recording::start_with(world, &["--java", "--verbose"])?;
        killed.agent().wait_for_log(within(LOADS_WITHIN), &is_read(pid))?;
        let get = |number: u32| curl(world, &format!("https://{address}/r/0/{number}"));
        get(1)?;
        let spans = killed.wait_for_spans(1)?;
        ensure!(number_of(&spans[0]) == Some(1), "{spans:?}");
        killed.agent().process().signal(libc::SIGKILL)?;
        killed.agent().process().wait_for_exit(within(LOADS_WITHIN))?;
        // The next agent appends to this file.
        fs::remove_file(killed.file())?;
        get(2)?;
        let mut recording = Recording::start_with(world, &["--java", "--verbose"])?;
        recording.agent().wait_for_log(within(LOADS_WITHIN), &is_read(pid))?;
        get(3)?;
        let outcome = recording.finish(1)?;
        ensure!(number_of(&outcome.spans[0]) == Some(3), "{:?}", outcome.spans);
        Ok(())
    })
}
