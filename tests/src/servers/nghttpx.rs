//! nghttpx: a proxy that speaks HTTP/2 in clear text to both sides, and upgrades from HTTP/1.

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::require_program;
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A running nghttpx.
#[derive(Debug)]
pub struct Nghttpx {
    _process: ChildProcess,
    port: Port,
}

impl Nghttpx {
    /// Starts a proxy to `upstream` (`HOST:PORT`), and waits until it serves.
    pub fn start(world: &World, upstream: &str) -> Result<Self> {
        let port = Port::claim()?;
        let mut command = world.command(require_program("nghttpx")?);
        command.args(["--conf=/dev/null", "--workers=1", "--accesslog-file=/dev/null"]);
        command.arg(format!("--frontend=127.0.0.1,{port};no-tls"));
        command.arg(format!("--backend={};;proto=h2", upstream.replace(':', ",")));
        let launch = Launch { name: "nghttpx", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "Created worker thread", 1)?;
        Ok(Self { _process: process, port })
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.port.address())
    }
}
