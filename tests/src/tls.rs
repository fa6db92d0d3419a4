//! TLS: a certificate, a load of numbered requests, and what the spans say of their connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::machine::require_program;
use crate::servers::App;
use crate::spans::Span;
use crate::wait::within;
use crate::world::World;

/// A load of a few hundred requests on a busy machine.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// A folder with a self-signed certificate for `localhost`, `cert.pem`, and its key, `key.pem`.
#[derive(Debug)]
pub struct Certificate(PathBuf);

impl Certificate {
    /// Makes one in the world's folder.
    pub fn make(world: &World) -> Result<Self> {
        let dir = world.dir().join("certificate");
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut openssl = world.command(require_program("openssl")?);
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&dir);
        world.run_unwatched(&mut openssl)?;
        Ok(Self(dir))
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> String {
        self.0.display().to_string()
    }
}

/// How a client of tests/apps/python/tls_client.py or tests/apps/node/tls_client.js sends its requests.
#[derive(Debug, Clone, Copy)]
pub struct TlsLoad {
    /// Of Python: `http`, `requests`, `httpx`, `aiohttp`, `redis` or `postgres`. Of Node: `https`, `fetch` or `pg`.
    pub kind: &'static str,
    pub requests: usize,
    pub in_flight: usize,
    /// Whether it uses its connections again.
    pub keep: bool,
    /// Whether its connections are open before the load begins.
    pub warm: bool,
}

/// A client that is ready to begin.
#[derive(Debug)]
pub struct TlsClient {
    app: App,
    go: PathBuf,
}

impl TlsLoad {
    /// Starts the client of a server on `port`.
    pub fn client(&self, world: &World, certificate: &Certificate, port: u16) -> Result<TlsClient> {
        let go = world.dir().join("go");
        let go_argument = go.display().to_string();
        let app = match self.kind {
            "https" | "fetch" | "pg" => {
                App::node("tls_client").env("NODE_EXTRA_CA_CERTS", format!("{}/cert.pem", certificate.dir()))
            }
            _ => App::python("tls_client"),
        };
        let app = app
            .argument(self.kind)
            .argument(&port.to_string())
            .argument(&self.requests.to_string())
            .argument(&self.in_flight.to_string())
            .argument(if self.keep { "keep" } else { "churn" })
            .argument(&go_argument)
            .argument(&certificate.dir())
            .argument(if self.warm { "warm" } else { "cold" })
            .start(world)?;
        Ok(TlsClient { app, go })
    }
}

impl TlsClient {
    /// Its process id.
    pub fn pid(&mut self) -> u32 {
        self.app.process().pid()
    }

    /// Sends the requests. Returns the client's port of each, by number.
    pub fn run(&mut self) -> Result<BTreeMap<u64, u16>> {
        fs::write(&self.go, "").context("cannot let the load begin")?;
        let process = self.app.process();
        process.wait_for_log(within(DONE_WITHIN), "done ", 1)?;
        let log = process.log()?;
        let done = log.lines().find_map(|line| line.strip_prefix("done ")).context("the client printed no list")?;
        let done: Vec<(u64, u16, u64, u64)> = serde_json::from_str(done).context("the client printed no list")?;
        Ok(done.into_iter().map(|(number, port, ..)| (number, port)).collect())
    }
}

/// The number of the request that a span is of.
#[must_use]
pub fn number_in_path(span: &Span) -> Option<u64> {
    let path = [span.get("url.path"), span.get("url.full")].into_iter().find(|path| !path.is_empty())?;
    path.rsplit('/').next()?.parse().ok()
}

/// What the spans of one side say, compared with what the client measured.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsVerdict {
    /// Requests with exactly one span, on the right socket.
    pub right: usize,
    /// Requests with a span on another connection's socket.
    pub wrong: usize,
    /// Requests with a span without a socket.
    pub untied: usize,
}

/// Fails unless each connection has as many spans of each kind as requests, where spans do not show which request is theirs.
pub fn expect_spans_per_connection(spans: &[Span], ports: &BTreeMap<u64, u16>) -> Result<()> {
    let mut expected = BTreeMap::new();
    for port in ports.values() {
        *expected.entry(port.to_string()).or_insert(0) += 1;
    }
    for kind in ["client", "server"] {
        let mut found = BTreeMap::new();
        for span in spans.iter().filter(|span| span.kind == kind) {
            *found.entry(span.get(port_attribute(kind)).to_owned()).or_insert(0) += 1;
        }
        ensure!(found == expected, "{kind} spans by port: {found:?}, and requests: {expected:?}");
    }
    Ok(())
}

/// A server's peer is the client; a client's own end is its local address.
fn port_attribute(kind: &str) -> &'static str {
    if kind == "server" { "network.peer.port" } else { "network.local.port" }
}

/// Judges the spans of one kind. `number` says which request a span belongs to. Fails if a request has several spans or none.
pub fn judge(
    spans: &[Span],
    kind: &str,
    ports: &BTreeMap<u64, u16>,
    number: impl Fn(&Span) -> Option<u64>,
) -> Result<TlsVerdict> {
    let attribute = port_attribute(kind);
    let mut verdict = TlsVerdict { right: 0, wrong: 0, untied: 0 };
    let mut seen = BTreeSet::new();
    for span in spans.iter().filter(|span| span.kind == kind) {
        let Some((number, port)) = number(span).and_then(|number| Some((number, ports.get(&number)?))) else {
            continue;
        };
        ensure!(seen.insert(number), "request {number} has two {kind} spans");
        match span.get(attribute) {
            "" => verdict.untied += 1,
            found if found == port.to_string() => verdict.right += 1,
            _ => verdict.wrong += 1,
        }
    }
    let missing: Vec<_> = ports.keys().filter(|number| !seen.contains(number)).collect();
    ensure!(missing.is_empty(), "requests without a {kind} span: {missing:?}");
    Ok(verdict)
}

/// Fails unless every request has a span at both ends, on the right socket. Returns how many server spans are
/// below the client's. None may be below another one.
pub fn expect_sockets(spans: &[Span], ports: &BTreeMap<u64, u16>) -> Result<usize> {
    for kind in ["client", "server"] {
        let verdict = judge(spans, kind, ports, number_in_path)?;
        ensure!(verdict.right == ports.len(), "{kind}: {verdict:?}");
    }
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    let mut joined = 0;
    for span in spans {
        ensure!(span.get("url.scheme") == "https" || span.kind == "client", "{span:?}");
        if span.kind == "server"
            && let Some(parent) = &span.parent
        {
            let parent = by_id.get(parent).context("the parent is missing")?;
            ensure!(parent.kind == "client" && number_in_path(parent) == number_in_path(span), "{parent:?} {span:?}");
            ensure!(span.get("onlooker.parent.evidence") == "host", "{span:?}");
            joined += 1;
        }
    }
    Ok(joined)
}
