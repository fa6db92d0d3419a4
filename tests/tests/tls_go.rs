//! TLS of Go programs: net/http as client and as server.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{until, within};
use onlooker_tests::{Recording, World, record_skip};

const ATTACHED_WITHIN: Duration = Duration::from_secs(30);

/// Requests per round.
const COUNT: usize = 200;

/// How many are in flight, and what becomes of connections.
const ROUNDS: [(usize, &str); 4] = [(1, "keep"), (10, "keep"), (50, "keep"), (10, "churn")];

/// The client's requests by number, each with the local port of its connection.
type Ports = HashMap<String, String>;

/// Makes the client send `count` requests, the first with this number.
fn send(client: &App, count: usize, in_flight: usize, mode: &str, first: usize) -> Result<Ports> {
    let path = format!("/{count}/{in_flight}/{mode}/{first}");
    let mut connection = RawClient::open(&client.address())?;
    connection.send(format!("GET {path} HTTP/1.0\r\n\r\n"))?;
    let answer = connection.read_to_string()?;
    ensure!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    let line = |line: &str| line.split_once(' ').map(|(number, port)| (number.to_owned(), port.to_owned()));
    let ports: Ports = answer.lines().skip_while(|line| !line.is_empty()).filter_map(line).collect();
    ensure!(ports.len() == count, "{} of {count} are answered", ports.len());
    Ok(ports)
}

/// Fails unless each request has one span at each end, on the socket that it was sent on.
fn expect_sockets(spans: &[Span], ports: &Ports) -> Result<()> {
    for (kind, attribute) in [("client", "network.local.port"), ("server", "network.peer.port")] {
        let mut found: HashMap<&str, &Span> = HashMap::new();
        for span in spans.iter().filter(|span| span.kind == kind) {
            let number = path(span);
            if ports.contains_key(number) {
                ensure!(found.insert(number, span).is_none(), "request {number} has two {kind} spans");
            }
        }
        for (number, port) in ports {
            let span = found.get(number.as_str()).with_context(|| format!("request {number} has no {kind} span"))?;
            ensure!(span.get(attribute) == port, "request {number}: {} instead of {port}", span.get(attribute));
            ensure!(span.get("url.scheme") == "https", "request {number}: {}", span.get("url.scheme"));
        }
    }
    Ok(())
}

/// The path of a request, without the slash. Clients name the whole URL.
fn path(span: &Span) -> &str {
    let url = span.get("url.full").rsplit('/').next().unwrap_or_default();
    let of_client = url.split('?').next().unwrap_or_default();
    if of_client.is_empty() { span.get("url.path").trim_start_matches('/') } else { of_client }
}

fn both_ends(program: &str, build: impl Fn(AppOptions) -> AppOptions) -> Result<()> {
    let (server, client) = (build(App::go("tls_server")), build(App::go("tls_client")));
    if let Some(reason) = server.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story(program, |world| {
        let server = server.start(world)?;
        let client = client.argument(&format!("https://{}", server.address())).start(world)?;
        // Connections that are older than the agent.
        send(&client, 50, 50, "keep", 0)?;
        let recording = Recording::start(world)?;
        let mut tries = 0;
        until(within(ATTACHED_WITHIN), "both programs' TLS is read", || {
            tries += 1;
            send(&client, 1, 1, "churn", 1_000_000 + tries)?;
            let spans = recording.spans()?;
            let seen = |kind: &str| spans.iter().any(|span| span.kind == kind && span.get("url.scheme") == "https");
            Ok((seen("client") && seen("server")).then_some(()))
        })?;
        let mut all = Ports::new();
        for (round, (in_flight, mode)) in ROUNDS.into_iter().enumerate() {
            all.extend(send(&client, COUNT, in_flight, mode, (round + 1) * 10_000)?);
        }
        let asked = tries + ROUNDS.len();
        let ends = asked + 2 * all.len();
        recording.wait_for_spans(ends + 2)?;
        let outcome = recording.stop(ends + 2..=ends + 2 * tries)?;
        expect_sockets(&outcome.spans, &all)
    })
}

#[test]
fn go_with_symbols() -> Result<()> {
    both_ends("TLS of Go", |app| app)
}

#[test]
fn go_without_symbols() -> Result<()> {
    both_ends("TLS of Go, stripped (`-s -w`)", |app| app.go_arguments(&["-ldflags=-s -w"]).without_cgo())
}

#[test]
fn go_without_symbols_at_any_address_with_cgo() -> Result<()> {
    both_ends("TLS of Go, stripped, PIE, cgo", |app| app.go_arguments(&["-buildmode=pie", "-ldflags=-s -w"]))
}
