//! A Go client that sends numbered requests over TLS, and what the spans must say of their sockets.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::RawClient;
use crate::recording::{Outcome, Recording};
use crate::servers::{App, AppOptions};
use crate::spans::Span;
use crate::wait::{until, within};
use crate::world::World;

const ATTACHED_WITHIN: Duration = Duration::from_secs(30);

/// Requests per round.
const COUNT: usize = 120;

/// How many are in flight, and what becomes of connections.
const ROUNDS: [(usize, &str); 4] = [(1, "keep"), (10, "keep"), (50, "keep"), (10, "churn")];

/// The client's requests by number, each with the local port of its connection.
pub type Ports = HashMap<String, String>;

/// The client: `tls_client.go`.
#[derive(Debug)]
pub struct TlsRequests(App);

impl TlsRequests {
    /// Starts it. It will send requests to the server at `address` (`HOST:PORT`).
    pub fn start(world: &World, client: AppOptions, address: &str) -> Result<Self> {
        Ok(Self(client.argument(&format!("https://{address}")).start(world)?))
    }

    /// Sends `count` requests, the first with this number.
    pub fn send(&self, count: usize, in_flight: usize, mode: &str, first: usize) -> Result<Ports> {
        let path = format!("/{count}/{in_flight}/{mode}/{first}");
        let mut connection = RawClient::open(&self.0.address())?;
        connection.send(format!("GET {path} HTTP/1.0\r\n\r\n"))?;
        let answer = connection.read_to_string()?;
        ensure!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
        let line = |line: &str| line.split_once(' ').map(|(number, port)| (number.to_owned(), port.to_owned()));
        let ports: Ports = answer.lines().skip_while(|line| !line.is_empty()).filter_map(line).collect();
        ensure!(ports.len() == count, "{} of {count} are answered", ports.len());
        Ok(ports)
    }

    /// Opens connections, to be older than the agent.
    pub fn open_connections(&self) -> Result<()> {
        self.send(50, 50, "keep", 0).map(drop)
    }

    /// Records rounds of requests, on connections that are kept, and on one connection per request. Each request causes `ends` spans
    /// over TLS. Fails unless every end is exported.
    pub fn record_rounds(&self, world: &World, ends: usize) -> Result<(Outcome, Ports)> {
        let recording = Recording::start(world)?;
        let mut tries = 0;
        until(within(ATTACHED_WITHIN), "the TLS of all programs is read", || {
            tries += 1;
            let number = 1_000_000 + tries;
            self.send(1, 1, "churn", number)?;
            let number = number.to_string();
            let spans = recording.spans()?;
            let seen = spans.iter().filter(|span| path(span) == number).count();
            Ok((seen >= ends || spans_of_last(&spans) >= ends).then_some(()))
        })?;
        let mut all = Ports::new();
        for (round, (in_flight, mode)) in ROUNDS.into_iter().enumerate() {
            all.extend(self.send(COUNT, in_flight, mode, (round + 1) * 10_000)?);
        }
        let least = tries + ROUNDS.len() + ends * all.len();
        recording.wait_until("every request of the rounds has its spans", |spans| {
            let of_rounds = spans.iter().filter(|span| all.contains_key(path(span))).count();
            of_rounds >= ends * all.len()
        })?;
        Ok((recording.stop(least..=least + ends * tries)?, all))
    }
}

/// The most spans that a request has which was sent to find out whether TLS is read.
fn spans_of_last(spans: &[Span]) -> usize {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for span in spans.iter().filter(|span| path(span).len() == "1000000".len()) {
        *counts.entry(path(span)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// The path of a request, without the slash. Clients name the whole URL.
#[must_use]
pub fn path(span: &Span) -> &str {
    let url = span.get("url.full").rsplit('/').next().unwrap_or_default();
    let of_client = url.split('?').next().unwrap_or_default();
    if of_client.is_empty() { span.get("url.path").trim_start_matches('/') } else { of_client }
}

/// The value of `attribute` in the one span of each request that a service has of this kind. Fails unless there is exactly one.
pub fn one_each(spans: &[Span], service: &str, kind: &str, attribute: &str, requests: &Ports) -> Result<Ports> {
    let mut found = Ports::new();
    for span in spans.iter().filter(|span| span.service == service && span.kind == kind) {
        let number = path(span);
        if requests.contains_key(number) {
            ensure!(span.get("url.scheme") == "https", "request {number}: {}", span.get("url.scheme"));
            let before = found.insert(number.to_owned(), span.get(attribute).to_owned());
            ensure!(before.is_none(), "request {number} has two {kind} spans of {service}");
        }
    }
    for number in requests.keys() {
        found.get(number).with_context(|| format!("request {number} has no {kind} span of {service}"))?;
    }
    Ok(found)
}

/// Fails unless the client's spans and the server's have the local ports that the client printed.
pub fn expect_ports(spans: &[Span], server: &str, ports: &Ports) -> Result<()> {
    for (service, kind, attribute) in
        [("tls_client", "client", "network.local.port"), (server, "server", "network.peer.port")]
    {
        let found = one_each(spans, service, kind, attribute, ports)?;
        for (number, port) in ports {
            ensure!(found.get(number) == Some(port), "{kind} of request {number}: {:?}, not {port}", found.get(number));
        }
    }
    Ok(())
}
