//! Which clients and servers of TLS are traced at both ends, on the right sockets: what `cargo xtask tls-matrix` runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::agent::Agent;
use crate::recording::Recording;
use crate::servers::{Postgres, Redis};
use crate::spans::Span;
use crate::tls::{
    Certificate, TlsLoad, TlsVerdict, expect_sockets, expect_spans_per_connection, judge, number_in_path,
};
use crate::tls_servers::{AIOHTTP, NGINX, NODE, SERVERS, TlsServer};
use crate::world::World;

/// A client, by its kind of [`TlsLoad`].
#[derive(Debug)]
pub struct TlsProgram {
    pub name: &'static str,
    kind: &'static str,
}

const fn client(name: &'static str, kind: &'static str) -> TlsProgram {
    TlsProgram { name, kind }
}

/// The client that is run with every server.
const HTTP_CLIENT: &TlsProgram = &client("Python http.client", "http");

/// Clients that are run with nginx.
const CLIENTS: [&TlsProgram; 6] = [
    HTTP_CLIENT,
    &client("Requests", "requests"),
    &client("httpx", "httpx"),
    &client("aiohttp client", "aiohttp"),
    &client("Node https client", "https"),
    &client("Node fetch (undici)", "fetch"),
];

const REDIS_PY: &TlsProgram = &client("redis-py", "redis");
const PSYCOPG: &TlsProgram = &client("psycopg 3", "postgres");
/// What redis-py sends on a new connection before its first command: HELLO, two of CLIENT SETINFO, CLIENT MAINT_NOTIFICATIONS, and PING.
const REDIS_PY_BEGINS_WITH: usize = 5;

const NODE_PG: &TlsProgram = &client("node-postgres", "pg");

/// The other end.
#[derive(Debug, Clone, Copy)]
enum Service {
    Http(&'static TlsServer),
    Redis,
    /// It forks for each connection, so only the client is traced.
    Postgres,
}

/// A client and a server.
#[derive(Debug)]
pub struct Pair {
    pub client: &'static TlsProgram,
    service: Service,
}

impl Pair {
    /// The server's name.
    #[must_use]
    pub fn server(&self) -> &'static str {
        match self.service {
            Service::Http(server) => server.name,
            Service::Redis => "Redis",
            Service::Postgres => "PostgreSQL (not traced)",
        }
    }

    /// Why it cannot run here.
    #[must_use]
    pub fn skip_reason(&self) -> Option<String> {
        match self.service {
            Service::Http(server) => server.skip_reason(),
            Service::Redis | Service::Postgres => None,
        }
    }
}

/// Every pair: each client with nginx, each server with one client, and what is only for each other.
#[must_use]
pub fn pairs() -> Vec<Pair> {
    let with = |client, server| Pair { client, service: Service::Http(server) };
    let mut pairs: Vec<_> = CLIENTS.iter().map(|client| with(client, NGINX)).collect();
    pairs.extend(SERVERS.iter().filter(|server| server.name != NGINX.name).map(|server| with(HTTP_CLIENT, server)));
    pairs.push(with(CLIENTS[3], AIOHTTP));
    pairs.push(with(CLIENTS[4], NODE));
    pairs.push(Pair { client: REDIS_PY, service: Service::Redis });
    pairs.extend([PSYCOPG, NODE_PG].map(|client| Pair { client, service: Service::Postgres }));
    pairs
}

/// A way to send requests. The name is the heading of its column.
#[derive(Debug)]
pub struct Round {
    pub name: &'static str,
    in_flight: usize,
    keep: bool,
    /// Connections are open before the agent starts.
    is_late: bool,
}

/// All rounds.
pub const ROUNDS: [Round; 4] = [
    Round { name: "1 kept", in_flight: 1, keep: true, is_late: false },
    Round { name: "50 kept", in_flight: 50, keep: true, is_late: false },
    Round { name: "10, one per request", in_flight: 10, keep: false, is_late: false },
    Round { name: "10 kept, from before the agent", in_flight: 10, keep: true, is_late: true },
];

/// What a round showed.
#[derive(Debug)]
pub struct Verdict {
    requests: usize,
    ends: Vec<TlsVerdict>,
    /// Requests whose server span is below their client span. `None` where spans do not show which request is theirs.
    joined: Option<usize>,
    /// The libraries that were read: name and file.
    pub libraries: Vec<(String, String)>,
}

impl Verdict {
    /// Whether each request has its span at each traced end, on the right socket.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.ends.iter().all(|end| end.right == self.requests)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_right() {
            write!(f, "{}", self.requests)?;
        } else {
            for (index, TlsVerdict { right, wrong, untied }) in self.ends.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}**{right} right, {wrong} wrong, {untied} untied**")?;
            }
        }
        match self.joined {
            Some(0) => f.write_str(", not joined"),
            Some(joined) if joined < self.requests => write!(f, ", {joined} joined"),
            _ => Ok(()),
        }
    }
}

impl Pair {
    /// Runs a round of `requests` with `agent`.
    pub fn run(&self, round: &Round, requests: usize, agent: &Path) -> Result<Verdict> {
        World::story("tls matrix", |world| {
            let certificate = Certificate::make(world)?;
            let load = TlsLoad {
                kind: self.client.kind,
                requests,
                in_flight: round.in_flight,
                keep: round.keep,
                warm: round.is_late,
            };
            let dir = certificate.dir();
            match self.service {
                Service::Http(server) => {
                    let server = server.start(world, &certificate)?;
                    let (ports, spans, libraries) = record(world, &load, &certificate, server.port, None, agent)?;
                    let ends = ["client", "server"].map(|kind| judge(&spans, kind, &ports, number_in_path));
                    let ends = ends.into_iter().collect::<Result<_>>()?;
                    let mut verdict = Verdict { requests, ends, joined: None, libraries };
                    if verdict.is_right() {
                        verdict.joined = Some(expect_sockets(&spans, &ports)?);
                    }
                    Ok(verdict)
                }
                Service::Redis => {
                    let redis = Redis::start_with_tls(world, &dir)?;
                    let (ports, mut spans, libraries) = record(world, &load, &certificate, redis.port(), None, agent)?;
                    spans.retain(|span| span.name == "GET");
                    expect_spans_per_connection(&spans, &ports)?;
                    Ok(Verdict { requests, ends: Vec::new(), joined: None, libraries })
                }
                Service::Postgres => {
                    let postgres = Postgres::start_with_tls(world, &dir)?;
                    let only = Some("client");
                    let (ports, spans, libraries) = record(world, &load, &certificate, postgres.port(), only, agent)?;
                    for span in &spans {
                        let port = span.get("network.local.port");
                        ensure!(ports.values().any(|expected| port == expected.to_string()), "{span:?}");
                    }
                    Ok(Verdict { requests, ends: Vec::new(), joined: None, libraries })
                }
            }
        })
    }
}

/// Ports by number, spans, and libraries.
type Recorded = (BTreeMap<u64, u16>, Vec<Span>, Vec<(String, String)>);

/// Records the load. `only`: a kind of spans, if only the client is traced.
fn record(
    world: &World,
    load: &TlsLoad,
    certificate: &Certificate,
    port: u16,
    only: Option<&str>,
    agent: &Path,
) -> Result<Recorded> {
    let mut client = load.client(world, certificate, port)?;
    let file = world.dir().join("spans.jsonl");
    let path = file.display().to_string();
    let (pid, cgroup) = (client.pid().to_string(), world.cgroup().name()?.to_owned());
    let selected = if only.is_some() { ["--pid", &pid] } else { ["--cgroup", &cgroup] };
    let options = [&selected[..], &["--verbose", "--file", &path]].concat();
    let mut recording = Recording::of_agent(Agent::select(world, agent, &options, &[])?, &file);
    let ports = client.run()?;
    let log = recording.agent().process().log()?;
    let ends = if only.is_some() { 1 } else { 2 };
    let connections: BTreeSet<_> = ports.values().collect();
    let set_up = if load.kind == REDIS_PY.kind && !load.warm { REDIS_PY_BEGINS_WITH * connections.len() } else { 0 };
    let outcome = recording.finish(ends * (load.requests + set_up))?;
    let libraries = libraries(&log).context("the agent read no library")?;
    Ok((ports, outcome.spans, libraries))
}

/// The libraries that the agent says it reads, each once.
fn libraries(log: &str) -> Option<Vec<(String, String)>> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        let end = rest.find(" file=").or_else(|| rest.find(char::is_whitespace)).unwrap_or(rest.len());
        Some(rest[..end].trim_matches('"').to_owned())
    };
    let lines = log.lines().filter(|line| line.contains("TLS is read pid="));
    let mut all: Vec<_> = lines.filter_map(|line| Some((field(line, "library")?, field(line, "file")?))).collect();
    all.sort();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_agents_log() {
        let log = "INFO TLS is read pid=7 library=\"OpenSSL\" file=\"/usr/lib/libssl.so.3\"\n\
                   INFO TLS is read pid=8 library=\"OpenSSL\" file=\"/usr/lib/libssl.so.3\"\n\
                   INFO other\nINFO TLS is read pid=9 library=Go crypto/tls file=/srv/app\n";
        let expected = [("Go crypto/tls", "/srv/app"), ("OpenSSL", "/usr/lib/libssl.so.3")];
        let expected = expected.map(|(library, file)| (library.to_owned(), file.to_owned()));
        assert_eq!(libraries(log), Some(expected.to_vec()));
        assert_eq!(libraries("INFO other\n"), None);
    }

    #[test]
    fn a_verdict_says_what_is_not_right() {
        let end = |right| TlsVerdict { right, wrong: 0, untied: 10 - right };
        let verdict = |right, joined| {
            let verdict = Verdict { requests: 10, ends: vec![end(10), end(right)], joined, libraries: Vec::new() };
            verdict.to_string()
        };
        assert_eq!(verdict(10, Some(10)), "10");
        assert_eq!(verdict(10, Some(0)), "10, not joined");
        assert_eq!(verdict(10, Some(4)), "10, 4 joined");
        assert_eq!(verdict(9, None), "**10 right, 0 wrong, 0 untied**, **9 right, 0 wrong, 1 untied**");
    }
}
