//! Whether the requests of real clients arrive with the same bytes, traced or not, but for the added line.
//!
//! Each client makes the same requests twice: without an agent, and with one that adds a trace context. The receiver responds with as many
//! bytes as a request asks for. It is right if
//!
//! - each head is the same, but for one added line, and each body;
//! - a request with a context of its own is the same altogether;
//! - all responses are the same, by their digest;
//! - the agent counts as many added lines as arrived.
//!
//! Over TLS nothing is added. There requests and responses must be the same altogether, and the agent must have read them.

use std::fmt;

use anyhow::{Context as _, Result, ensure};

use crate::agent::Agent;
use crate::receiver::{Receiver, Request};
use crate::recording::Summary;
use crate::servers::{App, AppOptions};
use crate::tls::Certificate;
use crate::tls_servers::start_terminator;
use crate::world::World;

/// A row of [`CLIENTS`].
#[derive(Debug)]
pub struct Client {
    pub name: &'static str,
    app: fn() -> AppOptions,
    /// Arguments before the receiver's URL.
    arguments: &'static [&'static str],
    /// It can be given the certificate of a server of TLS.
    pub has_tls: bool,
}

/// Every client.
pub const CLIENTS: &[Client] = &[
    Client { name: "curl", app: || App::python("varied"), arguments: &["curl"], has_tls: true },
    Client { name: "Requests", app: || App::python("varied"), arguments: &["requests"], has_tls: true },
    Client { name: "httpx", app: || App::python("varied"), arguments: &["httpx"], has_tls: true },
    Client { name: "aiohttp", app: || App::python("varied"), arguments: &["aiohttp"], has_tls: true },
    Client { name: "Node http", app: || App::node("varied"), arguments: &["http"], has_tls: true },
    Client { name: "Node fetch (undici)", app: || App::node("varied"), arguments: &["fetch"], has_tls: true },
    Client { name: "Go net/http", app: || App::go("varied"), arguments: &[], has_tls: true },
    Client { name: "Java HttpURLConnection", app: || App::java("Varied"), arguments: &["connection"], has_tls: false },
    Client { name: "Java HttpClient", app: || App::java("Varied"), arguments: &["client"], has_tls: false },
];

/// Variables by which clients are given the certificate.
const AUTHORITIES: [&str; 4] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];

/// How many requests a client makes, and the most bytes of a body.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub requests: usize,
    pub most: usize,
}

/// What was right.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    pub requests: usize,
    /// Requests that arrived with one line more.
    pub added: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} with a line more", self.requests, self.added)
    }
}

/// The client with this name.
pub fn client(name: &str) -> Result<&'static Client> {
    CLIENTS.iter().find(|client| client.name == name).with_context(|| format!("there is no client {name}"))
}

impl Client {
    /// Why it cannot run here.
    #[must_use]
    pub fn skip_reason(&self) -> Option<String> {
        (self.app)().skip_reason()
    }

    /// Compares its requests over TLS with `agent` and without. A proxy decrypts them, and its library is observed too.
    pub fn compare_over_tls(&self, load: &Load, agent: &std::path::Path) -> Result<Verdict> {
        World::story("same bytes over TLS", |world| {
            let receiver = Receiver::of_digests()?;
            let certificate = Certificate::make(world)?;
            let proxy = start_terminator(world, &certificate, &format!("127.0.0.1:{}", receiver.port()))?;
            let counts = [load.requests.to_string(), load.most.to_string()];
            let url = format!("https://127.0.0.1:{}", proxy.port);
            let arguments = self.arguments.iter().copied().chain([&*url, &*counts[0], &*counts[1]]);
            let mut app = arguments.fold((self.app)(), AppOptions::argument);
            for variable in AUTHORITIES {
                app = app.env(variable, format!("{}/cert.pem", certificate.dir()));
            }
            let expected_responses = app.run(world)?;
            let expected = receiver.requests();
            let mut traced = Agent::watch(world, agent, &["--export", "none"], &[])?;
            let responses = app.run(world)?;
            let summary = Summary::read(&traced.finish()?);
            let found = receiver.requests().split_off(expected.len());
            ensure!(responses == expected_responses, "responses differ: {responses} {expected_responses}");
            ensure!(expected.len() == load.requests, "{} requests arrived", expected.len());
            ensure!(found == expected, "requests differ");
            ensure!(summary.get("connections_tls_read") > 0, "no plaintext was read: {summary}");
            Ok(Verdict { requests: load.requests, added: 0 })
        })
    }

    /// Compares its requests with `agent` and without.
    pub fn compare(&self, load: &Load, agent: &std::path::Path) -> Result<Verdict> {
        World::story("same bytes", |world| {
            let receiver = Receiver::of_digests()?;
            let counts = [load.requests.to_string(), load.most.to_string()];
            let url = receiver.url("");
            let arguments = self.arguments.iter().copied().chain([&*url, &*counts[0], &*counts[1]]);
            let app = arguments.fold((self.app)(), AppOptions::argument);
            let expected_responses = app.run(world)?;
            let expected = receiver.requests();
            let mut traced = Agent::watch(world, agent, &["--inject", "--export", "none"], &[])?;
            let responses = app.run(world)?;
            let summary = Summary::read(&traced.finish()?);
            let found = receiver.requests().split_off(expected.len());
            ensure!(responses == expected_responses, "responses differ: {responses} {expected_responses}");
            ensure!(
                expected.len() == load.requests && found.len() == load.requests,
                "{} {}",
                expected.len(),
                found.len()
            );
            let mut added = 0;
            for (expected, found) in expected.iter().zip(&found) {
                added += usize::from(is_added(expected, found)?);
            }
            ensure!(summary.get("kernel_traceparent_added") == added as u64, "{added} lines arrived: {summary}");
            Ok(Verdict { requests: load.requests, added })
        })
    }
}

/// Whether the request arrived with one line more. Fails if it is not the same otherwise.
fn is_added(expected: &Request, found: &Request) -> Result<bool> {
    let differs = || format!("{}\narrived as\n{}", expected.head, found.head);
    ensure!(expected.body == found.body, "another body: {}", differs());
    if expected.head == found.head {
        return Ok(false);
    }
    let before = expected.head.strip_suffix("\r\n").with_context(differs)?;
    let line = found.head.strip_prefix(before).and_then(|rest| rest.strip_suffix("\r\n\r\n")).with_context(differs)?;
    let parts: Vec<_> = line.split('-').map(str::len).collect();
    ensure!(line.starts_with("traceparent: 00-") && parts == ["traceparent: 00".len(), 32, 16, 2], "{}", differs());
    ensure!(expected.values("traceparent").is_empty(), "a second one: {}", differs());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\n";
    const LINE: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

    #[rstest]
    #[case::the_same("", "", Some(false))]
    #[case::a_line_more("", LINE, Some(true))]
    #[case::two_lines_more("", "traceparent: 00-a-b-01\r\ntraceparent: 00-a-b-01\r\n", None)]
    #[case::a_second_one(LINE, &[LINE, LINE].concat(), None)]
    #[case::another_line("", "tracestate: a=b\r\n", None)]
    #[case::a_line_less(LINE, "", None)]
    fn one_line_may_be_added(#[case] expected: &str, #[case] found: &str, #[case] is: Option<bool>) {
        let request = |lines: &str| Request { head: [HEAD, lines, "\r\n"].concat(), body: Vec::new() };
        assert_eq!(is_added(&request(expected), &request(found)).ok(), is);
    }

    #[test]
    fn another_body_is_an_error() {
        let request = |body: &[u8]| Request { head: HEAD.to_owned(), body: body.to_vec() };
        assert!(is_added(&request(b"a"), &request(b"b")).is_err());
    }
}
