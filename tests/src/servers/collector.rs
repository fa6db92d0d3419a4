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
    scheme: &'static str,
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
        Self::start_as(world, "http", &Value::Null, grpc, http)
    }

    /// Starts one that shows `server.pem` of the folder `pki`, whose key is `server.key`, and takes traces only from those that
    /// show a certificate by `ca.pem`.
    pub fn start_guarded(world: &World, pki: &Path) -> Result<Self> {
        let tls = json!({
            "cert_file": pki.join("server.pem"), "key_file": pki.join("server.key"), "client_ca_file": pki.join("ca.pem"),
        });
        Self::start_as(world, "https", &tls, Port::claim()?, Port::claim()?)
    }

    fn start_as(world: &World, scheme: &'static str, tls: &Value, grpc: Port, http: Port) -> Result<Self> {
        let binary = need_file(machine::collector()?)?;
        let received = world.dir().join("received.jsonl");
        // JSON is YAML.
        let settings = json!({
            "receivers": { "otlp": { "protocols": {
                "grpc": { "endpoint": grpc.address(), "tls": tls },
                "http": { "endpoint": http.address(), "tls": tls },
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
        Ok(Self { process, scheme, grpc, http, received })
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
