//! Runs curl and reads the times that it measured itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::world::World;

/// The result of one curl call, as `curl --write-out '%{json}'` reports it.
#[derive(Debug)]
pub struct Curl {
    report: Value,
    /// The response body.
    pub body: Vec<u8>,
    /// How long curl was runnable and waited for a CPU.
    pub scheduling_delay: Duration,
}

impl Curl {
    /// Runs curl in the watched cgroup. An HTTP error status is not a failure. Fails without a response within 60 s.
    pub fn run(world: &World, arguments: &[&str]) -> Result<Self> {
        let mut curl = world.command("curl");
        // The report goes to stderr, to keep it apart from the body.
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"])
            .args(["--write-out", "%{stderr}%{json}"])
            .args(arguments);
        let (output, scheduling_delay) = world.run_timed(&mut curl)?;
        let report = serde_json::from_slice(&output.stderr)
            .with_context(|| format!("curl printed {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(Self { report, body: output.stdout, scheduling_delay })
    }

    /// Status code of the response.
    #[must_use]
    pub fn status(&self) -> u64 {
        self.report["response_code"].as_u64().unwrap_or(0)
    }

    /// From the established connection, just before the request was sent, to the end of the response.
    #[must_use]
    pub fn since_connected(&self) -> Duration {
        self.between("time_connect", "time_total")
    }

    /// From just before or just after sending the request (depending on curl's version) to the end of the response.
    #[must_use]
    pub fn exchange(&self) -> Duration {
        self.between("time_pretransfer", "time_total")
    }

    fn between(&self, from: &str, to: &str) -> Duration {
        let seconds = |name: &str| self.report[name].as_f64().unwrap_or(0.0);
        Duration::from_secs_f64((seconds(to) - seconds(from)).max(0.0))
    }
}
