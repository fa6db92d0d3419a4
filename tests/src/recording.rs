//! An agent whose spans go to a file, and the sum at its end: what was sent is what was exported and what was counted as lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::agent::{Agent, agent_beside};
use crate::servers::Collector;
use crate::spans::{self, Span};
use crate::wait::{self, within};
use crate::world::World;

/// From the end of an exchange to its span: a second, and what a busy machine takes.
const EXPORTED_WITHIN: Duration = Duration::from_secs(20);

/// An agent that watches a world, and the file where its spans end up.
#[derive(Debug)]
pub struct Recording {
    agent: Agent,
    file: PathBuf,
}

impl Recording {
    /// Starts one that writes every span to a file, and waits until it is ready.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_with(world, &[])
    }

    /// The same with more of the agent's options.
    pub fn start_with(world: &World, options: &[&str]) -> Result<Self> {
        let file = world.dir().join("spans.jsonl");
        let path = file.to_str().context("the temporary folder's path is UTF-8")?;
        let agent = Agent::watch(world, &agent_beside()?, &[&["--file", path], options].concat(), &[])?;
        Ok(Self { agent, file })
    }

    /// Starts one that sends every span to `collector`, over the protocol that `OTEL_EXPORTER_OTLP_PROTOCOL` calls so.
    pub fn through(collector: &Collector, world: &World, protocol: &str) -> Result<Self> {
        let endpoint = if protocol == "grpc" { collector.grpc_endpoint() } else { collector.http_endpoint() };
        let environment =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let agent = Agent::watch(world, &agent_beside()?, &[], &environment)?;
        Ok(Self { agent, file: collector.file().to_owned() })
    }

    /// What was exported so far, by start.
    pub fn spans(&self) -> Result<Vec<Span>> {
        spans::spans(&spans::lines(&self.file)?)
    }

    /// Waits until `count` spans are exported, and returns all there are then.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Span>> {
        let mut seen = Vec::new();
        wait::until(within(EXPORTED_WITHIN), &format!("{count} spans"), || {
            seen = self.spans()?;
            Ok((seen.len() >= count).then_some(()))
        })
        .with_context(|| format!("{} came:\n{}", seen.len(), spans::tree(&seen, &[])))?;
        Ok(seen)
    }

    /// Stops the agent and takes the sum.
    pub fn finish(mut self) -> Result<Account> {
        let summary = Summary::read(&self.agent.finish()?);
        // A collector that has taken them writes them in its own time.
        let exported = usize::try_from(summary.get("spans_exported"))?;
        let spans = self.wait_for(exported)?;
        // What is lost is missed by what stays: its times and its parents.
        if summary.lost() == 0 {
            spans::expect_causes(&spans)?;
        }
        Ok(Account { spans, summary })
    }

    /// The agent.
    pub fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// The file of its spans.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// All that an agent exported, and what it counted.
#[derive(Debug)]
pub struct Account {
    /// By start.
    pub spans: Vec<Span>,
    /// The counters it printed at its end.
    pub summary: Summary,
}

impl Account {
    /// Fails unless `ends` request ends (a request that both sides' processes are watched of has two) are accounted for, to the
    /// unit: exported or counted as lost.
    pub fn adds_up_to(&self, ends: usize) -> Result<&Self> {
        let (exported, lost) = (self.spans.len(), usize::try_from(self.summary.lost())?);
        ensure!(
            exported + lost == ends,
            "{ends} were sent, but {exported} exported and {lost} counted as lost; the counters are\n{}",
            self.summary
        );
        Ok(self)
    }

    /// Fails unless the same holds and none was lost.
    pub fn is_complete_with(&self, ends: usize) -> Result<&Self> {
        self.adds_up_to(ends)?;
        ensure!(self.spans.len() == ends, "of {ends}, {} were lost\n{}", self.summary.lost(), self.summary);
        Ok(self)
    }

    /// Fails unless the spans are the tree `expected`: see [`spans::expect_tree`].
    pub fn is_tree(&self, show: &[&str], expected: &str) -> Result<&Self> {
        spans::expect_tree(&self.spans, show, expected)?;
        Ok(self)
    }
}

/// The counters that an agent printed at its end; those that are not 0.
#[derive(Debug, Clone, Default)]
pub struct Summary(BTreeMap<String, u64>);

impl Summary {
    /// Reads the lines `onlooker: NAME VALUE  MEANING` out of the agent's stderr.
    #[must_use]
    pub fn read(stderr: &str) -> Self {
        let counter = |line: &str| {
            let mut words = line.strip_prefix("onlooker: ")?.split_whitespace();
            let (name, value) = (words.next()?, words.next()?.parse().ok()?);
            Some((name.to_owned(), value))
        };
        Self(stderr.lines().filter_map(counter).collect())
    }

    /// The value of a counter.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Request ends that began, or would have, and are no exported span.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let counted = |name: &str| {
            name.starts_with("requests_lost_")
                || name.starts_with("spans_dropped_")
                || ["kernel_ring_full_requests", "spans_left_to_sdk", "spans_rejected_by_collector"].contains(&name)
        };
        self.0.iter().filter(|(name, _)| counted(name)).map(|(_, value)| value).sum()
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_summary_is_read_from_what_the_agent_says() {
        let summary = Summary::read(
            "onlooker: ready: 3 processes selected\n\
             onlooker: events                        12  Records taken\n\
             onlooker: requests_lost_head_missing     2  Requests that\n\
             onlooker: kernel_ring_full_requests      1  Requests whose\n\
             onlooker: kernel_ring_full_segments      9  Operations\n",
        );
        assert_eq!((summary.get("events"), summary.lost()), (12, 3));
    }
}
