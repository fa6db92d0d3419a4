//! Zipkin, which keeps traces in memory. `cargo xtask gateway` downloads it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::machine::{self, require_file};
use crate::ports::Port;
use crate::wait::within;
use crate::world::World;

/// It takes ten seconds of CPU time, which a busy machine may stretch.
const STARTS_WITHIN: Duration = Duration::from_secs(240);

/// The oldest JDK that it runs on.
const JAVA: u32 = 17;

/// A running Zipkin, outside of the watched cgroup.
#[derive(Debug)]
pub struct Zipkin {
    /// Stops it when this is dropped.
    _process: ChildProcess,
    port: Port,
}

impl Zipkin {
    /// Starts Zipkin and waits until it serves.
    pub fn start(world: &World) -> Result<Self> {
        let port = Port::claim()?;
        let java = machine::java(JAVA).with_context(|| format!("Zipkin needs Java {JAVA}"))?;
        let mut command = world.command(java);
        command.args(["-Xmx256m", "-jar"]).arg(require_file(machine::zipkin()?)?);
        // It would serve on all addresses.
        command.args(["--armeria.ports[0].ip=127.0.0.1", "--armeria.ports[0].protocols[0]=http"]);
        command.arg(format!("--armeria.ports[0].port={port}")).env("STORAGE_TYPE", "mem");
        let launch = Launch { name: "zipkin", watched: false, stdout: Stdout::Log, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, &mut command)?;
        process.wait_for_log(within(STARTS_WITHIN), "Serving HTTP at", 1)?;
        Ok(Self { _process: process, port })
    }

    /// Where spans are sent in Zipkin's format.
    #[must_use]
    pub fn spans_url(&self) -> String {
        format!("http://{}/api/v2/spans", self.port.address())
    }

    /// The ids of the spans that it has of a trace.
    pub fn trace(&self, world: &World, trace_id: &str) -> Result<BTreeSet<String>> {
        let url = format!("http://{}/api/v2/trace/{trace_id}", self.port.address());
        let mut curl = world.command("curl");
        let output = world.run_unwatched(curl.args(["--silent", "--show-error", "--noproxy", "*", &url]))?;
        // A trace that it does not have is a text.
        let spans: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let ids = spans.as_array().into_iter().flatten().filter_map(|span| Some(span.get("id")?.as_str()?.to_owned()));
        Ok(ids.collect())
    }
}
