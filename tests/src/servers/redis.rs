//! Redis, keeping nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::machine::need_program;
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A Redis server on a port of its own, and on the unix socket `redis.sock` in the world's folder.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
}

impl Redis {
    /// Starts one and waits until it accepts connections.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_as(world, true)
    }

    /// The same outside of the watched cgroup.
    pub fn start_unwatched(world: &World) -> Result<Self> {
        Self::start_as(world, false)
    }

    fn start_as(world: &World, watched: bool) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = world.command(need_program("redis-server")?);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--unixsocket", "redis.sock"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(world.dir());
        let launch = Launch { name: "redis", watched, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        process.logged(within(STARTS_WITHIN), "Ready to accept connections", 1)?;
        Ok(Self { process, port })
    }

    /// `redis://127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.port.address())
    }

    /// `unix://PATH`, of its unix socket.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.process.world().dir().join("redis.sock").display())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How many commands it was sent until now, by its own word; the question for it is one.
    pub fn asked(&self) -> Result<usize> {
        let mut stream = TcpStream::connect(self.port.address()).context("cannot connect to Redis")?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.write_all(b"INFO ALL\r\n")?;
        let mut answer = BufReader::new(stream);
        let mut length = String::new();
        answer.read_line(&mut length)?;
        let length = length.trim().strip_prefix('$').and_then(|length| length.parse().ok());
        let mut told = String::new();
        answer.take(length.context("Redis answers no string")?).read_to_string(&mut told)?;
        commands(&told).with_context(|| format!("Redis says\n{told}"))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Those it has executed, those it refused, and the question. A refusal is an error that no execution ended with.
fn commands(told: &str) -> Option<usize> {
    let field = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
    let (executed, errors): (usize, usize) = (field("total_commands_processed")?, field("total_error_replies")?);
    // cmdstat_get:calls=2,usec=17,usec_per_call=8.50,rejected_calls=1,failed_calls=0
    let failed = |line: &str| line.strip_prefix("cmdstat_")?.rsplit_once("failed_calls=")?.1.parse::<usize>().ok();
    let failed: usize = told.lines().filter_map(failed).sum();
    Some(executed + errors - failed + 1)
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn what_was_refused_was_asked_too() {
        let told = "# Stats\r\ntotal_commands_processed:3\r\ntotal_error_replies:4\r\n# Commandstats\r\n\
                    cmdstat_get:calls=2,usec=17,usec_per_call=8.50,rejected_calls=1,failed_calls=0\r\n\
                    cmdstat_incrby:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=1\r\n";
        assert_eq!(commands(told), Some(3 + 3 + 1));
    }
}
