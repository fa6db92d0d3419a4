//! Redis, keeping nothing.

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::machine::need_program;
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

/// A Redis server on a port of its own, and on the unix socket `redis.sock` in the world's folder.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
}

impl Redis {
    /// Starts one and waits until it accepts connections.
    pub fn start(world: &World) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = world.command(need_program("redis-server")?);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--unixsocket", "redis.sock"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(world.dir());
        let launch = Launch { name: "redis", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        process.logged(within(STARTS_WITHIN), "Ready to accept connections", 1)?;
        Ok(Self { process, port })
    }

    /// `redis://127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.port.address())
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
