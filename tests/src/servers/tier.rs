//! A Collector of one of the tiers of deploy/collector, or one with other components. A verb of xtask builds it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_file};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// A running Collector outside of the watched cgroup, with ports of its own.
#[derive(Debug)]
pub struct Tier {
    process: ChildProcess,
    grpc: Port,
    http: Port,
    metrics: Port,
    /// Reserved as long as the Collector serves it.
    _health: Port,
}

impl Tier {
    /// Starts a Collector with these configurations, each merged into the ones before, and waits until it accepts traces.
    ///
    /// `name` names its log. `environment` holds the variables that the configurations read, besides its own addresses.
    pub fn start(
        world: &World,
        name: &str,
        configurations: &[PathBuf],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_command(
            world,
            name,
            world.command(require_file(machine::gateway_collector()?)?),
            configurations,
            environment,
        )
    }

    /// Like [`Tier::start`], with this command in place of the gateways' Collector.
    pub fn start_command(
        world: &World,
        name: &str,
        mut command: Command,
        configurations: &[PathBuf],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let [grpc, http, metrics, health] = [Port::claim()?, Port::claim()?, Port::claim()?, Port::claim()?];
        for configuration in configurations {
            command.arg("--config").arg(configuration);
        }
        // Its own metrics would be served on a fixed port.
        command.arg("--set=service.telemetry.metrics.level=none");
        for (variable, port) in
            [("LISTEN_GRPC", &grpc), ("LISTEN_HTTP", &http), ("LISTEN_METRICS", &metrics), ("LISTEN_HEALTH", &health)]
        {
            command.env(variable, port.address());
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let launch = Launch { name, watched: false, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "Everything is ready", 1)?;
        Ok(Self { process, grpc, http, metrics, _health: health })
    }

    /// Has the Collector check configurations that are merged.
    pub fn validate(world: &World, configurations: &[PathBuf]) -> Result<()> {
        let mut command = world.command(require_file(machine::gateway_collector()?)?);
        command.arg("validate");
        for configuration in configurations {
            command.arg("--config").arg(configuration);
        }
        world.run_unwatched(&mut command).map(drop)
    }

    /// `127.0.0.1:PORT`, for OTLP over gRPC.
    #[must_use]
    pub fn grpc(&self) -> String {
        self.grpc.address()
    }

    /// The value of OTEL_EXPORTER_OTLP_ENDPOINT for HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// Where Prometheus would scrape it.
    #[must_use]
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.metrics.address())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

/// A file below deploy/collector.
#[must_use]
pub fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/collector").join(file)
}
