//! memcached on a TCP port.

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::require_program;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A running memcached.
#[derive(Debug)]
pub struct Memcached {
    _process: ChildProcess,
    port: Port,
}

impl Memcached {
    /// Starts memcached and waits until it listens.
    pub fn start(world: &World) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = world.command(require_program("memcached")?);
        // It refuses to run as root, and says that it listens only if it is verbose.
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-u", "nobody", "-vv"]);
        let launch = Launch { name: "memcached", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "server listening", 1)?;
        Ok(Self { _process: process, port })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }
}
