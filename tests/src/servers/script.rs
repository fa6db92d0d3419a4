//! A Python script of tests/apps/python that serves by itself.

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::machine::{self, need_file};
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::wait::within;
use crate::world::World;

/// What a script prints once it listens.
const LISTENING: &str = "listening";

/// A running script that listens on a port of its own: its first argument.
#[derive(Debug)]
pub struct Script {
    process: Process,
    port: Port,
}

impl Script {
    /// Starts `tests/apps/python/NAME.py PORT ARGUMENTS...` and waits until it says that it listens.
    pub fn start(world: &World, name: &str, arguments: &[&str]) -> Result<Self> {
        let python = need_file(machine::python_environment()?.join("bin/python"))?;
        let port = Port::claim()?;
        let mut command = world.command(python);
        command
            .arg(machine::apps("python").join(name).with_extension("py"))
            .arg(port.to_string())
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1");
        let launch = Launch { name, watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        process.logged(within(STARTS_WITHIN), LISTENING, 1)?;
        Ok(Self { process, port })
    }

    /// `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its first process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
