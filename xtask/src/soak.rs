//! `cargo xtask soak`: traces a steady load and a stream of new processes. What the agent holds must not grow.

mod held;
mod load;
mod plot;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::Nginx;
use onlooker_tests::tls::Certificate;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Agent, CountingCollector, Summary, World};

use self::held::{Held, Sample};
use self::load::{Churn, MOST_REQUESTS, Sent};
use self::table::{Section, Table};
use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Trace a steady load and new processes for half an hour, and check that what the agent holds does not grow (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For how many seconds.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(60..))]
    seconds: u32,
    /// New processes a second, each of which sends requests.
    #[arg(long, default_value_t = 20)]
    processes: u32,
    /// Requests a second to a server that runs all the time. By default 500, and 200 with `--tls`.
    #[arg(long)]
    requests: Option<u32>,
    /// All over TLS, with a connection for each request to that server. Both ends are traced.
    #[arg(long)]
    tls: bool,
    /// Trace with this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Write the table and a picture to docs/benchmarks.md.
    #[arg(long)]
    write: bool,
    /// Further options of `onlooker run`.
    #[arg(last = true)]
    options: Vec<String>,
}

/// Requests a second, without and with TLS.
const REQUESTS: [u32; 2] = [500, 200];

/// Time between two looks at the agent.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The last batch of spans arrives within this time on a busy machine.
const ARRIVES_WITHIN: Duration = Duration::from_secs(20);

impl Verb for Options {
    /// Fails if something grows, or if the account of requests does not add up.
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("soak", "loading programs into the kernel needs root")?;
        setup::make_ready(&[&setup::EBPF, &setup::PACKAGES, &setup::PYTHON])?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => build::agent(Profile::Release)?,
        };
        wait::handle_signals()?;
        let (samples, account) = World::story("the soak", |world| self.soak(world, &agent))?;
        let table = Table::of(&samples);
        let text = format!("{account}\n\n{table}");
        shell::say(&text);
        if self.write {
            let section = if self.tls { Section::Tls } else { Section::Plain };
            table::write(section, &text, &plot::svg(&samples))?;
        }
        let grown = table.grown();
        ensure!(grown.is_empty(), "these have grown: {}", grown.join(", "));
        Ok(ExitCode::SUCCESS)
    }
}

impl Options {
    /// Returns what the agent held, and a sentence with the account of requests.
    fn soak(&self, world: &World, agent: &Path) -> Result<(Vec<Sample>, String)> {
        let length = Duration::from_secs(self.seconds.into());
        let rate = self.requests.unwrap_or(REQUESTS[usize::from(self.tls)]);
        let certificate = self.tls.then(|| Certificate::make(world)).transpose()?;
        let site = Nginx::site("location / { return 200 hello; }");
        let site = certificate.iter().fold(site, |site, certificate| site.tls(&certificate.dir()));
        let nginx = site.start(world)?;
        let churn = certificate.as_ref().map(|it| Churn::start(world, it, nginx.port(), rate, length)).transpose()?;
        let collector = CountingCollector::start()?;
        let (cgroup, endpoint) = (world.cgroup().path().display().to_string(), collector.endpoint());
        let options: Vec<_> = self.options.iter().map(String::as_str).collect();
        let options = [&["--cgroup", &cgroup, "--export", "otlp", "--endpoint", &endpoint], &options[..]].concat();
        let mut agent = Agent::select(world, agent, &options, &[])?;
        let pid = agent.process().pid();

        let address = nginx.address();
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{address}/hello");
        let (samples, steady, new) = thread::scope(|scope| {
            let steady = scope.spawn(|| match churn {
                Some(mut churn) => churn.run(length),
                None => load::steady(&address, rate, length),
            });
            let new = scope.spawn(|| load::new_processes(world, &url, self.processes, length));
            let samples = watch(pid, length);
            let end = |_| anyhow::anyhow!("a thread of the load panicked");
            let (steady, new) = (steady.join().map_err(end), new.join().map_err(end));
            Ok::<_, anyhow::Error>((samples?, steady??, new??))
        })?;

        let summary = Summary::read(&agent.finish()?);
        let exported = summary.get("spans_exported");
        wait::until(within(ARRIVES_WITHIN), "all exported spans at the collector", || {
            Ok((collector.spans() >= exported).then_some(()))
        })?;
        ensure!(collector.spans() == exported, "{exported} spans were exported, {} received", collector.spans());
        let account = if self.tls { account_of_tls } else { account };
        let account = account(steady, new, &summary)?;
        Ok((samples, format!("In {} s: {account}", self.seconds)))
    }
}

/// Looks at the agent until the time is over.
fn watch(pid: u32, length: Duration) -> Result<Vec<Sample>> {
    let start = Instant::now();
    let mut samples = Vec::new();
    while start.elapsed() < length {
        ensure!(!wait::interrupted(), "interrupted");
        samples.push(Sample { at: start.elapsed(), held: Held::by(pid)? });
        thread::sleep(SAMPLE_INTERVAL);
    }
    Ok(samples)
}

/// Every request has a span or is counted as lost. A request of a new process has two: its own, and that of the server.
fn account(steady: Sent, new: Sent, summary: &Summary) -> Result<String> {
    let (exported, lost) = (summary.get("spans_exported"), summary.lost());
    let caused = steady.requests + 2 * new.requests;
    ensure!(exported + lost == caused, "{caused} request ends, {exported} exported, {lost} lost:\n{summary}");
    Ok(format!(
        "{} requests to one server and {} new processes with {} requests: {exported} spans, and {lost} counted as lost.",
        steady.requests, new.processes, new.requests
    ))
}

/// The same with TLS, where both ends of each request are traced. A new process may be faster than it is attached to: the
/// connection is then counted as not read, or as read late, and its own spans may be missing.
fn account_of_tls(steady: Sent, new: Sent, summary: &Summary) -> Result<String> {
    let [exported, tls, read, late] =
        ["spans_exported", "connections_tls", "connections_tls_read", "connections_tls_read_late"]
            .map(|name| summary.get(name));
    let lost = summary.lost();
    let caused = 2 * (steady.requests + new.requests);
    let unread = tls.saturating_sub(read) + late;
    let missing = caused.checked_sub(exported + lost).context("there are more spans than requests")?;
    ensure!(
        missing <= new.requests.min(MOST_REQUESTS * unread),
        "{caused} request ends, {exported} exported, {lost} lost, {unread} connections not read or read late:\n{summary}"
    );
    Ok(format!(
        "{} TLS connections with a request each, and {} new processes with {} requests over TLS: {exported} spans of both \
         ends, and {lost} counted as lost. {missing} requests of new processes are without their own span. {unread} of \
         their connections are counted as not read or read late.",
        steady.requests, new.processes, new.requests
    ))
}
