//! curl, and what it measured of its own exchange.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::world::World;

/// What `curl --write-out '%{json}'` says.
#[derive(Debug)]
pub struct Curl {
    told: Value,
    /// The response body.
    pub body: Vec<u8>,
    /// How long it waited for a processor.
    pub held_up: Duration,
}

impl Curl {
    /// Runs curl in the watched cgroup. An HTTP error status is not a failure; no answer within 60 s is.
    pub fn run(world: &World, arguments: &[&str]) -> Result<Self> {
        let mut curl = world.command("curl");
        // What is written goes to stderr, apart from the body.
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"])
            .args(["--write-out", "%{stderr}%{json}"])
            .args(arguments);
        let (output, held_up) = world.run_timed(&mut curl)?;
        let told = serde_json::from_slice(&output.stderr)
            .with_context(|| format!("curl said {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(Self { told, body: output.stdout, held_up })
    }

    /// The status code of the response.
    #[must_use]
    pub fn status(&self) -> u64 {
        self.told["response_code"].as_u64().unwrap_or(0)
    }

    /// From the connection's being there, after which the request was sent, to the response's end.
    #[must_use]
    pub fn since_connected(&self) -> Duration {
        self.between("time_connect", "time_total")
    }

    /// From when the request was about to be sent, or had just been (that differs by curl's version), to the response's end.
    #[must_use]
    pub fn exchange(&self) -> Duration {
        self.between("time_pretransfer", "time_total")
    }

    fn between(&self, from: &str, to: &str) -> Duration {
        let seconds = |name: &str| self.told[name].as_f64().unwrap_or(0.0);
        Duration::from_secs_f64((seconds(to) - seconds(from)).max(0.0))
    }
}
