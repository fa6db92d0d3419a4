//! etcd, a single member.

use std::process::Command;

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{find_program, require_program};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    _process: ChildProcess,
    port: Port,
}

impl Etcd {
    /// Why it cannot run on this machine, if so.
    #[must_use]
    pub fn skip_reason() -> Option<String> {
        let missing = ["etcd", "etcdctl"].into_iter().find(|program| find_program(program).is_none())?;
        Some(format!("{missing} is not installed"))
    }

    /// Starts etcd and waits until it serves clients.
    pub fn start(world: &World) -> Result<Self> {
        let (port, peers) = (Port::claim()?, Port::claim()?);
        let [clients, peers] = [&port, &peers].map(|port| format!("http://{}", port.address()));
        let mut command = world.command(require_program("etcd")?);
        command.arg("--data-dir").arg(world.dir().join("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}"), "--logger", "zap", "--log-outputs", "stdout"]);
        let launch = Launch { name: "etcd", watched: true, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "serving client traffic", 1)?;
        process.wait_for_log(within(STARTS_WITHIN), "cluster version is updated", 1)?;
        Ok(Self { _process: process, port })
    }

    /// `etcdctl ARGUMENTS`, for this server.
    #[must_use]
    pub fn etcdctl(&self, world: &World, arguments: &[&str]) -> Command {
        let mut command = world.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.port.address()]).args(arguments);
        command
    }
}
