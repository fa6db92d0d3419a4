//! An agent that watches one hop.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::mark::Mark;
use super::report::Finding;

/// Loading the kernel programs takes a second, and longer on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The agent delivers the rest of its spans for 5 s at most.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How often new spans are looked for.
const PAUSE: Duration = Duration::from_millis(50);
/// SpanKind of OTLP.
const SERVER: u64 = 2;

/// A running agent that selects the process that listens on a port.
#[derive(Debug)]
pub(super) struct Watched {
    agent: Child,
    port: u16,
    /// Holds the spans, and goes with this value.
    folder: PathBuf,
}

impl Watched {
    /// Starts the agent and waits until it is ready.
    pub(super) async fn start(port: u16) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("onlooker-propagation-{}-{port}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["run", "--port", &port.to_string(), "--export", "none", "--file"]).arg(folder.join(SPANS));
        // What is configured for the host's own agent is not for this one.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let agent = command.spawn();
        let mut watched = match agent {
            Ok(agent) => Self { agent, port, folder },
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                return Err(error).context("cannot start an agent");
            }
        };
        let ready = timeout(STARTS_WITHIN, watched.wait_until_ready()).await;
        ready.context("the agent does not get ready")??;
        Ok(watched)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let mut lines = BufReader::new(self.agent.stderr.take().context("its stderr is a pipe")?).lines();
        let mut said = String::new();
        while let Some(line) = lines.next_line().await? {
            if let Some((_, selected)) = line.split_once("ready: ") {
                ensure!(!selected.starts_with("0 "), "no process of this host listens on port {}", self.port);
                // What it says later is not needed, but it must be able to say it.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(());
            }
            said = line;
        }
        bail!("the agent ended: {said}")
    }

    /// Waits until the hop has a span for each mark, for at most `patience`.
    pub(super) async fn wait_for(&self, marks: &[Mark], patience: Duration) -> Result<Vec<Finding>> {
        let by = Instant::now() + patience;
        loop {
            let traces = self.traces()?;
            let has = |mark: &Mark| traces.iter().any(|trace| trace.ends_with(&mark.digits()));
            let found: Vec<_> = marks.iter().map(has).collect();
            if found.iter().all(|found| *found) || Instant::now() >= by {
                // A request of another trace shows that the hop was reached without the header.
                let without = if traces.is_empty() { Finding::NotReached } else { Finding::Lost };
                return Ok(found.into_iter().map(|found| if found { Finding::Survived } else { without }).collect());
            }
            sleep(PAUSE).await;
        }
    }

    /// The trace ids of the requests that the hop has served.
    fn traces(&self) -> Result<Vec<String>> {
        let file = self.folder.join(SPANS);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // The last line may be incomplete.
        let requests = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let traces = requests.flat_map(|request| {
            let of = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
            let scopes =
                of(&request, "resourceSpans").into_iter().flat_map(move |resource| of(&resource, "scopeSpans"));
            scopes.flat_map(move |scope| of(&scope, "spans")).collect::<Vec<_>>()
        });
        let served = traces.filter(|span| span["kind"] == SERVER && self.is_of_hop(span));
        Ok(served.filter_map(|span| Some(span["traceId"].as_str()?.to_owned())).collect())
    }

    /// Whether the request came to the hop's port. Its process may listen on others.
    fn is_of_hop(&self, span: &Value) -> bool {
        let port = self.port.to_string();
        let is_port = |attribute: &Value| {
            attribute["key"] == "network.local.port" && attribute["value"]["intValue"] == port.as_str()
        };
        span["attributes"].as_array().is_some_and(|attributes| attributes.iter().any(is_port))
    }

    /// Ends the agent.
    pub(super) async fn stop(&mut self) {
        if let Some(pid) = self.agent.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: kill accepts any two integers. The process is a child that was not waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        // Otherwise it is killed when this value is dropped.
        let _ = timeout(STOPS_WITHIN, self.agent.wait()).await;
    }
}

/// The file with the spans.
const SPANS: &str = "spans.jsonl";

impl Drop for Watched {
    fn drop(&mut self) {
        // If this fails, a small file stays.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
