//! The OpenTelemetry Collector, writing what it receives to a file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

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
    grpc: Port,
    http: Port,
    received: PathBuf,
}

impl Collector {
    /// Starts one and waits until it takes traces.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_on(world, Port::claim()?, Port::claim()?)
    }

    /// Starts one on ports that are known before: for one that comes back after it was gone.
    pub fn start_on(world: &World, grpc: Port, http: Port) -> Result<Self> {
        let binary = need_file(machine::collector()?)?;
        let received = world.dir().join("received.jsonl");
        // JSON is YAML.
        let settings = json!({
            "receivers": { "otlp": { "protocols": {
                "grpc": { "endpoint": grpc.address() },
                "http": { "endpoint": http.address() },
            }}},
            "exporters": { "file": { "path": received, "append": true, "flush_interval": "50ms" } },
            "service": {
                "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["file"] } },
                // Its own metrics would be served on a fixed port.
                "telemetry": { "metrics": { "level": "none" } },
            },
        });
        let file = world.dir().join("collector.json");
        fs::write(&file, settings.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        let launch = Launch { name: "collector", watched: false, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, world.command(binary).arg("--config").arg(&file))?;
        process.logged(within(STARTS_WITHIN), "Everything is ready", 1)?;
        Ok(Self { process, grpc, http, received })
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT takes for gRPC.
    #[must_use]
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc.address())
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT takes for HTTP.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http.address())
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
