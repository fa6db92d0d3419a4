//! Redis, without persistence.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::require_program;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A running Redis on a TCP port and on the unix socket `redis.sock` in the world's folder.
#[derive(Debug)]
pub struct Redis {
    process: ChildProcess,
    port: Port,
}

impl Redis {
    /// Starts Redis and waits until it accepts connections.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_as(world, true, None)
    }

    /// Starts Redis with TLS instead of clear text on its port. `certificate` is the folder of its certificate.
    pub fn start_with_tls(world: &World, certificate: &str) -> Result<Self> {
        Self::start_as(world, true, Some(certificate))
    }

    /// Like [`Redis::start`], outside of the watched cgroup.
    pub fn start_unwatched(world: &World) -> Result<Self> {
        Self::start_as(world, false, None)
    }

    fn start_as(world: &World, watched: bool, certificate: Option<&str>) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = world.command(require_program("redis-server")?);
        command
            .args(["--bind", "127.0.0.1", "--unixsocket", "redis.sock"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(world.dir());
        let number = port.to_string();
        match certificate {
            None => command.args(["--port", &number]),
            Some(dir) => command.args(["--port", "0", "--tls-port", &number, "--tls-auth-clients", "no"]).args([
                "--tls-cert-file",
                &format!("{dir}/cert.pem"),
                "--tls-key-file",
                &format!("{dir}/key.pem"),
            ]),
        };
        let launch = Launch { name: "redis", watched, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "Ready to accept connections", 1)?;
        Ok(Self { process, port })
    }

    /// `redis://127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.port.address())
    }

    /// `unix://PATH` of its unix socket.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.process.world().dir().join("redis.sock").display())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Asks Redis how many commands it has received. The command for this question is included.
    pub fn command_count(&self) -> Result<usize> {
        let mut stream = TcpStream::connect(self.port.address()).context("cannot connect to Redis")?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.write_all(b"INFO ALL\r\n")?;
        let mut response = BufReader::new(stream);
        let mut length = String::new();
        response.read_line(&mut length)?;
        let length = length.trim().strip_prefix('$').and_then(|length| length.parse().ok());
        let mut info = String::new();
        response.take(length.context("Redis did not respond with a string")?).read_to_string(&mut info)?;
        commands(&info).with_context(|| format!("Redis responded\n{info}"))
    }

    /// Its process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

/// Executed and rejected commands, and this question. A rejected command is an error reply without a failed execution.
fn commands(info: &str) -> Option<usize> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
    let (executed, errors): (usize, usize) = (field("total_commands_processed")?, field("total_error_replies")?);
    // cmdstat_get:calls=2,usec=17,usec_per_call=8.50,rejected_calls=1,failed_calls=0
    let failed = |line: &str| line.strip_prefix("cmdstat_")?.rsplit_once("failed_calls=")?.1.parse::<usize>().ok();
    let failed: usize = info.lines().filter_map(failed).sum();
    Some(executed + errors - failed + 1)
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn rejected_commands_are_counted() {
        let info = "# Stats\r\ntotal_commands_processed:3\r\ntotal_error_replies:4\r\n# Commandstats\r\n\
                    cmdstat_get:calls=2,usec=17,usec_per_call=8.50,rejected_calls=1,failed_calls=0\r\n\
                    cmdstat_incrby:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=1\r\n";
        assert_eq!(commands(info), Some(3 + 3 + 1));
    }
}
