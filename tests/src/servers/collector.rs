//! The OpenTelemetry Collector, which writes what it receives to a file. Its configuration is deploy/collector/config.yaml,
//! with the test's own ports and file.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::STARTS_WITHIN;
use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_file};
use crate::ports::Port;
use crate::spans;
use crate::wait::within;
use crate::world::World;

/// A running collector that accepts OTLP over gRPC and HTTP. It is outside of the watched cgroup.
#[derive(Debug)]
pub struct Collector {
    process: ChildProcess,
    scheme: &'static str,
    grpc: Port,
    http: Port,
    received: PathBuf,
}

impl Collector {
    /// Why no collector can run on this machine, if so: the reason to skip a test.
    pub fn skip_reason() -> Result<Option<String>> {
        let binary = machine::collector()?;
        let missing = || format!("{} is missing: run `cargo xtask setup collector`", binary.display());
        Ok((!binary.is_file()).then(missing))
    }

    /// Starts a collector and waits until it accepts traces.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_on(world, Port::claim()?, Port::claim()?)
    }

    /// Starts a collector on ports that were reserved before, for example those of one that was stopped.
    pub fn start_on(world: &World, grpc: Port, http: Port) -> Result<Self> {
        Self::start_as(world, None, grpc, http)
    }

    /// Starts a collector that requires mutual TLS. The folder `pki` holds its `server.pem` and `server.key`, and the
    /// `ca.pem` that client certificates must be signed by.
    pub fn start_with_mutual_tls(world: &World, pki: &Path) -> Result<Self> {
        Self::start_as(world, Some(pki), Port::claim()?, Port::claim()?)
    }

    fn start_as(world: &World, pki: Option<&Path>, grpc: Port, http: Port) -> Result<Self> {
        let received = world.dir().join("received.jsonl");
        let mut command = world.command(require_file(machine::collector()?)?);
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
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "Everything is ready", 1)?;
        let scheme = if pki.is_some() { "https" } else { "http" };
        Ok(Self { process, scheme, grpc, http, received })
    }

    /// Has the collector validate the configuration that it is started with.
    pub fn validate(world: &World) -> Result<()> {
        let mut command = world.command(require_file(machine::collector()?)?);
        world.run_unwatched(command.args(["validate", "--config"]).arg(configuration()))?;
        Ok(())
    }

    /// The value of OTEL_EXPORTER_OTLP_ENDPOINT for gRPC.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.grpc.address())
    }

    /// The value of OTEL_EXPORTER_OTLP_ENDPOINT for HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.http.address())
    }

    /// The environment of an exporter to this collector. `protocol` is a value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    #[must_use]
    pub fn environment(&self, protocol: &str) -> [(&'static str, String); 2] {
        let endpoint = if protocol == "grpc" { self.grpc_endpoint() } else { self.http_endpoint() };
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned())]
    }

    /// Every export request received so far, as OTLP JSON (`ExportTraceServiceRequest`), in order of arrival.
    pub fn received(&self) -> Result<Vec<Value>> {
        spans::read_lines(&self.received)
    }

    /// The file that it writes received spans to.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.received
    }

    /// Stops the collector and returns its ports, gRPC first, so that another one can use them.
    pub fn stop(self) -> (Port, Port) {
        let Self { process, grpc, http, .. } = self;
        drop(process);
        (grpc, http)
    }

    /// The collector's process.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.process
    }
}

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/collector/config.yaml")
}
