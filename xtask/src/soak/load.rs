//! The load: requests at even intervals, and processes that are started at even intervals.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::App;
use onlooker_tests::tls::Certificate;
use onlooker_tests::{World, wait};

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) requests: u64,
    pub(super) processes: u64,
}

/// Connections of the steady load, and how many requests each serves until another one replaces it.
const CONNECTIONS: u64 = 8;
const REQUESTS_PER_CONNECTION: u64 = 100;

/// Connections that are behind their intervals at the end are made within this time.
const CHURN_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A process that takes longer than this hangs.
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How a new process sends requests, and how many. The second one lives for a second.
const PROCESSES: [(&[&str], u64); 2] = [(&["URL"], 1), (&["--rate", "60/m", "URL", "URL"], 2)];

/// The most that one of them sends on its connection.
pub(super) const MOST_REQUESTS: u64 = 2;

/// Sends requests to a server, from outside of what is watched.
pub(super) fn steady(address: &str, rate: u32, length: Duration) -> Result<Sent> {
    let head = format!("GET /hello HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut connections: Vec<RawClient> = Vec::new();
    let requests = at_even_intervals(rate, length, |number| {
        let place = usize::try_from(number % CONNECTIONS)?;
        if (number / CONNECTIONS).is_multiple_of(REQUESTS_PER_CONNECTION) {
            let connection = RawClient::open(address)?;
            match connections.get_mut(place) {
                Some(old) => *old = connection,
                None => connections.push(connection),
            }
        }
        let (response, _) = connections[place].exchange(&head)?;
        ensure!(response.status == 200, "{}", response.head);
        Ok(())
    })?;
    Ok(Sent { requests, processes: 0 })
}

/// A watched process that opens TLS connections with one request each, at even intervals. It began before the agent, and waits.
#[derive(Debug)]
pub(super) struct Churn {
    app: App,
    go: PathBuf,
}

impl Churn {
    pub(super) fn start(
        world: &World,
        certificate: &Certificate,
        port: u16,
        rate: u32,
        length: Duration,
    ) -> Result<Self> {
        let go = world.dir().join("go");
        let app = App::python("tls_churn")
            .argument(&port.to_string())
            .argument(&rate.to_string())
            .argument(&length.as_secs().to_string())
            .argument(&go.display().to_string())
            .argument(&certificate.dir())
            .start(world)?;
        Ok(Self { app, go })
    }

    /// Lets it begin, and waits until it has made all connections.
    pub(super) fn run(&mut self, length: Duration) -> Result<Sent> {
        fs::write(&self.go, "").context("cannot let the connections begin")?;
        let process = self.app.process();
        let done = wait::until(wait::within(length + CHURN_ENDS_WITHIN), "end of the connections", || {
            let log = process.log()?;
            let failed = log.lines().find(|line| line.starts_with("failed "));
            ensure!(failed.is_none(), "a connection {}", failed.unwrap_or_default());
            Ok(log.lines().find_map(|line| line.strip_prefix("done ")).map(str::to_owned))
        })?;
        let requests = done.parse().context("the program prints a number")?;
        Ok(Sent { requests, processes: 0 })
    }
}

/// Starts processes that send requests, and are watched.
pub(super) fn new_processes(world: &World, url: &str, rate: u32, length: Duration) -> Result<Sent> {
    let (mut alive, mut requests) = (Vec::new(), 0);
    let processes = at_even_intervals(rate, length, |number| {
        let (arguments, sent) = PROCESSES[usize::try_from(number)? % PROCESSES.len()];
        let arguments = arguments.iter().map(|argument| if *argument == "URL" { url } else { argument });
        let mut curl = world.command("curl");
        curl.args(["--silent", "--fail", "--insecure", "--noproxy", "*", "--max-time", "30"]).args(arguments);
        alive.push(world.spawn(&mut curl)?);
        requests += sent;
        reap(&mut alive)
    })?;
    wait::until(wait::within(PROCESS_ENDS_WITHIN), "end of the last processes", || {
        reap(&mut alive)?;
        Ok(alive.is_empty().then_some(()))
    })?;
    Ok(Sent { requests, processes })
}

/// Removes the processes that have ended. Fails if one of them has failed.
fn reap(alive: &mut Vec<Child>) -> Result<()> {
    let mut still = Vec::with_capacity(alive.len());
    for mut child in alive.drain(..) {
        match child.try_wait().context("cannot wait for curl")? {
            Some(status) => ensure!(status.success(), "curl failed ({status})"),
            None => still.push(child),
        }
    }
    *alive = still;
    Ok(())
}

/// Calls `act` with 0, 1, 2..., `rate` times a second. A late call follows at once, so that the rate is kept.
fn at_even_intervals(rate: u32, length: Duration, mut act: impl FnMut(u64) -> Result<()>) -> Result<u64> {
    let start = Instant::now();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
        if due >= length {
            return Ok(number);
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        ensure!(!wait::interrupted(), "interrupted");
        act(number)?;
    }
    unreachable!("the loop has no end but its return")
}
