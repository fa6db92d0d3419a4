//! The OpenTelemetry Collector, writing what it receives to a file: as deploy/collector/config.yaml has it, but on ports and
//! with a file of the test's own.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::STARTS_WITHIN;
use crate::machine::{self, need_file};
use crate::ports::Port;
use crate::process::{Launch, Process, Stdout};
use crate::spans;
use crate::wait::within;
use crate::world::World;

/// A collector that takes OTLP over gRPC and over HTTP, outside of the watched cgroup.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    scheme: &'static str,
    grpc: Port,
    http: Port,
    received: PathBuf,
}

impl Collector {
    /// Why there is none here, if so: the reason to skip a test.
    pub fn missing() -> Result<Option<String>> {
        let binary = machine::collector()?;
        let missing = || format!("{} is missing: run `cargo xtask setup collector`", binary.display());
        Ok((!binary.is_file()).then(missing))
    }

    /// Starts one and waits until it takes traces.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_on(world, Port::claim()?, Port::claim()?)
    }

    /// Starts one on ports that are known before: for one that comes back after it was gone.
    pub fn start_on(world: &World, grpc: Port, http: Port) -> Result<Self> {
        Self::start_as(world, None, grpc, http)
    }

    /// Starts one that shows `server.pem` of the folder `pki`, whose key is `server.key`, and takes traces only from those
    /// that show a certificate by `ca.pem`.
    pub fn start_guarded(world: &World, pki: &Path) -> Result<Self> {
        Self::start_as(world, Some(pki), Port::claim()?, Port::claim()?)
    }

    fn start_as(world: &World, pki: Option<&Path>, grpc: Port, http: Port) -> Result<Self> {
        let received = world.dir().join("received.jsonl");
        let mut command = world.command(need_file(machine::collector()?)?);
        command.arg("--config").arg(configuration());
        let mut set = |property: &str, value: &dyn Display| {
            command.arg(format!("--set={property}={value}"));
        };
        set("exporters.file.path", &received.display());
        set("exporters.file.flush_interval", &"50ms");
        // Its own metrics would be served on a fixed port.
        set("service.telemetry.metrics.level", &"none");
        for (protocol, port) in [("grpc", &grpc), ("http", &http)] {
            let property = format!("receivers.otlp.protocols.{protocol}");
            set(&format!("{property}.endpoint"), &port.address());
            for (file, name) in [("cert_file", "server.pem"), ("key_file", "server.key"), ("client_ca_file", "ca.pem")]
            {
                if let Some(pki) = pki {
                    set(&format!("{property}.tls.{file}"), &pki.join(name).display());
                }
            }
        }
        let launch = Launch { name: "collector", watched: false, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, &mut command)?;
        process.logged(within(STARTS_WITHIN), "Everything is ready", 1)?;
        let scheme = if pki.is_some() { "https" } else { "http" };
        Ok(Self { process, scheme, grpc, http, received })
    }

    /// Has its own program look at the configuration that it is started with, and at nothing else of ours.
    pub fn validate(world: &World) -> Result<()> {
        let mut command = world.command(need_file(machine::collector()?)?);
        world.run_unwatched(command.args(["validate", "--config"]).arg(configuration()))?;
        Ok(())
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT takes for gRPC.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.grpc.address())
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT takes for HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.http.address())
    }

    /// The environment of who exports to it, over the protocol that `OTEL_EXPORTER_OTLP_PROTOCOL` calls so.
    #[must_use]
    pub fn environment(&self, protocol: &str) -> [(&'static str, String); 2] {
        let endpoint = if protocol == "grpc" { self.grpc_endpoint() } else { self.http_endpoint() };
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned())]
    }

    /// Every export request received so far, as OTLP JSON (`ExportTraceServiceRequest`), in order of arrival.
    pub fn received(&self) -> Result<Vec<Value>> {
        spans::lines(&self.received)
    }

    /// The file of what it received.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.received
    }

    /// Stops it and gives its ports back, gRPC's first, so that another can take its place.
    pub fn stop(self) -> (Port, Port) {
        let Self { process, grpc, http, .. } = self;
        drop(process);
        (grpc, http)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/collector/config.yaml")
}
