//! nginx with one worker, traced and untraced. Every request becomes an exported span.
//!
//! The worker has a processor of its own. The load, the agent and the collector share the others. Only h2load runs on the worker's
//! processor, so that the agent has one without the load. Rounds with and without the agent alternate, and the report has the medians.
//!
//! nginx counts its requests. After each traced round, this number must equal the spans that the collector received plus
//! the losses that the agent counted.

mod paced;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onlooker_tests::machine::find_program;
use onlooker_tests::ports::Port;
use onlooker_tests::servers::Nginx;
use onlooker_tests::{Agent, CountingCollector, Summary, World, agent_binary};

use crate::cpu;
use crate::not_interrupted;
use crate::probes;
use crate::report::{Aim, Row};
use crate::statistics::median;

const ROUNDS: usize = 6;
/// The duration of each load.
const LOADED: Duration = Duration::from_secs(2);
/// Keep-alive connections.
const CONNECTIONS: usize = 32;
/// Requests per second of the paced load. One processor serves more.
const PACE: u32 = 20_000;
/// What h2load sends, over so many connections with so many streams each: about two seconds.
const STREAMS: u64 = 150_000;
const STREAMS_OVER: [&str; 2] = ["10", "10"];
/// The spans of the last requests are delivered within this time.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// The measurements of one load.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    /// Requests per second, as the load counts them.
    per_second: f64,
    /// CPU time of nginx's worker per request, in microseconds.
    nginx: f64,
    /// CPU time of the agent per request, in microseconds. 0 if untraced.
    agent: f64,
    /// The agent's memory in bytes, after the load: all, and anonymous memory only.
    resident: f64,
    anonymous: f64,
}

/// All loads of one kind, untraced and traced.
#[derive(Debug, Default)]
struct Loads {
    bare: Vec<Loaded>,
    traced: Vec<Loaded>,
}

impl Loads {
    fn bare(&self, what: fn(&Loaded) -> f64) -> f64 {
        median(self.bare.iter().map(what))
    }

    fn traced(&self, what: fn(&Loaded) -> f64) -> f64 {
        median(self.traced.iter().map(what))
    }
}

/// The requests of all traced rounds.
#[derive(Debug, Default)]
struct Account {
    requests: u64,
    exported: u64,
    lost: u64,
}

pub(crate) fn measure(agent: Option<&Path>) -> Result<Vec<Row>> {
    let agent = agent.map_or_else(agent_binary, |path| Ok(path.to_path_buf()))?;
    World::story("the measurement of nginx", |world| Measurement::begin(world, agent)?.rounds())
}

struct Measurement<'w> {
    world: &'w World,
    agent: PathBuf,
    wrk: PathBuf,
    h2load: PathBuf,
    nginx: Nginx,
    /// Where nginx speaks HTTP/2.
    http2: Port,
    worker: u32,
    /// What an empty pair of tracepoint programs adds to an operation, in microseconds: the unit that machines share.
    pair: f64,
    collector: CountingCollector,
    fastest: Loads,
    paced: Loads,
    streams: Loads,
    account: Account,
}

impl<'w> Measurement<'w> {
    fn begin(world: &'w World, agent: PathBuf) -> Result<Self> {
        cpu::leave_to_the_measured()?;
        let pair = probes::empty_pair()? / 1e3;
        let wrk = find_program("wrk").context("wrk is not installed: run `cargo xtask setup`")?;
        let h2load = find_program("h2load").context("h2load is not installed: run `cargo xtask setup`")?;
        let answer = "location / { default_type text/plain; return 200 'hello, world'; }";
        let site = format!("{answer} location = /status {{ stub_status; }}");
        let http2 = Port::claim()?;
        let of_http2 = format!("server {{ listen {} http2; {answer} }}", http2.address());
        let mut nginx = Nginx::site(&site).http(&of_http2).start(world)?;
        let master = nginx.process().pid();
        let [worker] = cpu::children_of(master)?[..] else { bail!("nginx does not have exactly one worker") };
        cpu::measure_there(worker)?;
        let collector = CountingCollector::start()?;
        let (fastest, paced, streams) = Default::default();
        let account = Account::default();
        Ok(Self { world, agent, wrk, h2load, nginx, http2, worker, pair, collector, fastest, paced, streams, account })
    }

    fn rounds(mut self) -> Result<Vec<Row>> {
        for _ in 0..ROUNDS {
            let fastest = self.load(None, Self::wrk)?;
            self.fastest.bare.push(fastest);
            let paced = self.load(None, Self::pace)?;
            self.paced.bare.push(paced);
            let streams = self.load(None, Self::h2load)?;
            self.streams.bare.push(streams);
            self.traced_round()?;
        }
        Ok(self.rows())
    }

    fn traced_round(&mut self) -> Result<()> {
        let requests = self.requests()?;
        let exported = self.collector.spans();
        let endpoint = self.collector.endpoint();
        let environment =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        let mut agent = Agent::watch(self.world, &self.agent, &["--export", "otlp"], &environment)?;
        let pid = agent.process().pid();
        let fastest = self.load(Some(pid), Self::wrk)?;
        self.fastest.traced.push(fastest);
        let paced = self.load(Some(pid), Self::pace)?;
        self.paced.traced.push(paced);
        let streams = self.load(Some(pid), Self::h2load)?;
        self.streams.traced.push(streams);

        let summary = Summary::read(&agent.finish()?);
        // Two requests asked for the count: one before the agent started and one after it ended.
        let requests = self.requests()? - requests - 1;
        let (exported, lost) = (self.collector.spans() - exported, summary.lost());
        ensure!(
            requests == exported + lost,
            "{requests} requests are not {exported} spans and {lost} losses; the agent counted\n{summary}"
        );
        self.account.requests += requests;
        self.account.exported += exported;
        self.account.lost += lost;
        Ok(())
    }

    /// Runs a load, which returns the number of responses it received.
    fn load(&mut self, agent: Option<u32>, load: fn(&Self) -> Result<u64>) -> Result<Loaded> {
        not_interrupted()?;
        let agent_time = || agent.map_or(Ok(Duration::ZERO), cpu::time_of);
        let (nginx_before, agent_before) = (cpu::time_of(self.worker)?, agent_time()?);
        let start = Instant::now();
        let requests = load(self)?;
        let took = start.elapsed();
        let nginx = cpu::time_of(self.worker)? - nginx_before;
        if agent.is_some() {
            self.collector.wait_until_quiet(DELIVERED_WITHIN)?;
        }
        let memory = |name| agent.map_or(Ok(0), |pid| cpu::memory_of(pid, name));
        let per_request = |time: Duration| time.as_nanos() as f64 / 1e3 / requests as f64;
        Ok(Loaded {
            per_second: requests as f64 / took.as_secs_f64(),
            nginx: per_request(nginx),
            agent: per_request(agent_time()? - agent_before),
            resident: memory("VmRSS")? as f64,
            anonymous: memory("RssAnon")? as f64,
        })
    }

    fn wrk(&self) -> Result<u64> {
        let mut wrk = self.world.command(&self.wrk);
        wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string()]);
        wrk.args(["--duration", &format!("{}s", LOADED.as_secs())]).arg(self.nginx.url("/products/7"));
        let output = String::from_utf8_lossy(&self.world.run_unwatched(&mut wrk)?.stdout).into_owned();
        let requests = output.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        requests.with_context(|| format!("wrk did not print the number of its requests:\n{output}"))
    }

    fn pace(&self) -> Result<u64> {
        paced::load(&self.nginx.address(), CONNECTIONS, PACE, LOADED)
    }

    fn h2load(&self) -> Result<u64> {
        let mut h2load = self.world.command(&self.h2load);
        let [connections, streams] = STREAMS_OVER;
        h2load.args(["-n", &STREAMS.to_string(), "-c", connections, "-m", streams]);
        h2load.arg(format!("http://{}/products/7", self.http2.address()));
        let output = cpu::beside_the_measured(|| self.world.run_unwatched(&mut h2load))?;
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.contains(&format!(" {STREAMS} succeeded,")), "not all requests succeeded:\n{output}");
        Ok(STREAMS)
    }

    /// The number of requests that nginx received, this one included.
    fn requests(&self) -> Result<u64> {
        let status = self.world.curl(&[&self.nginx.url("/status")])?;
        // The third line: connections accepted, connections handled, requests.
        let counts = status.lines().nth(2).and_then(|line| line.split_ascii_whitespace().nth(2)?.parse().ok());
        counts.with_context(|| format!("nginx did not return the number of its requests:\n{status}"))
    }

    fn rows(&self) -> Vec<Row> {
        const MIB: f64 = (1 << 20) as f64;
        let Self { fastest, paced, streams, account, .. } = self;
        let mut rows = Vec::new();
        let mut load = |name: &str, loads: &Loads, at_least: f64, agent: fn(Row, &Self) -> Row| {
            let added = loads.traced(|load| load.nginx) - loads.bare(|load| load.nginx);
            let throughput = loads.traced(|load| load.per_second);
            let of_agent =
                Row::new(format!("{name}: the agent's CPU per request"), loads.traced(|load| load.agent), "µs");
            rows.extend([
                Row::new(format!("{name}: untraced"), loads.bare(|load| load.per_second), "per s"),
                Row::new(format!("{name}: traced"), throughput, "per s")
                    .beside(loads.bare(|load| load.per_second), "of untraced")
                    .aim(Aim::AtLeast(at_least)),
                Row::new(format!("{name}: nginx's CPU per request, untraced"), loads.bare(|load| load.nginx), "µs"),
                Row::new(format!("{name}: nginx's CPU per request, tracing adds"), added, "µs")
                    .beside(self.pair, "pairs")
                    .aim(Aim::AtMost(1.0)),
                agent(of_agent, self),
            ]);
        };
        load("wrk", fastest, 0.88, |agent, _| agent.aim(Aim::AtMost(2.0)));
        load(&format!("{PACE} per s"), paced, 0.98, |agent, _| agent.aim(Aim::AtMost(2.0)));
        // A stream is compared with a request of HTTP/1.
        load("h2load", streams, 0.85, |agent, all| {
            agent.beside(all.fastest.traced(|load| load.agent), "of wrk's").aim(Aim::AtMost(1.5))
        });
        let resident = fastest.traced(|load| load.resident).max(paced.traced(|load| load.resident));
        let anonymous = fastest.traced(|load| load.anonymous).max(paced.traced(|load| load.anonymous));
        rows.extend([
            Row::new("the agent's memory (RSS)", resident / MIB, "MiB").aim(Aim::AtMost(40.0)),
            Row::new("  of which its own, not the ring's or the binary's", anonymous / MIB, "MiB"),
            Row::new("requests while traced", account.requests as f64, ""),
            Row::new("  exported", account.exported as f64, "spans"),
            Row::new("  counted as lost", account.lost as f64, ""),
        ]);
        rows
    }
}
