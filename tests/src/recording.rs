//! Records the spans of an agent, and checks the balance at its end: every request end is exported or counted as lost.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::agent::{Agent, agent_binary};
use crate::servers::Collector;
use crate::spans::{self, Span};
use crate::wait::{self, within};
use crate::world::World;

/// A span is exported within a second of its end; the rest is for a busy machine.
const EXPORTED_WITHIN: Duration = Duration::from_secs(20);

/// An agent that watches a world, and the file that its spans end up in.
#[derive(Debug)]
pub struct Recording {
    agent: Agent,
    file: PathBuf,
}

impl Recording {
    /// Starts an agent that writes every span to a file, and waits until it is ready.
    pub fn start(world: &World) -> Result<Self> {
        Self::start_with(world, &[])
    }

    /// Like [`Recording::start`], with more options for the agent.
    pub fn start_with(world: &World, options: &[&str]) -> Result<Self> {
        Self::start_selecting(world, &[&["--cgroup", world.cgroup().name()?], options].concat())
    }

    /// Like [`Recording::start`], with the agent at this path.
    pub fn start_agent(world: &World, agent: &Path) -> Result<Self> {
        Self::select(world, agent, &["--cgroup", world.cgroup().name()?])
    }

    /// Starts an agent that watches what `options` select instead of the whole world.
    pub fn start_selecting(world: &World, options: &[&str]) -> Result<Self> {
        Self::select(world, &agent_binary()?, options)
    }

    fn select(world: &World, agent: &Path, options: &[&str]) -> Result<Self> {
        let file = world.dir().join("spans.jsonl");
        let path = file.to_str().context("the temporary folder's path is UTF-8")?;
        let agent = Agent::select(world, agent, &[options, &["--file", path]].concat(), &[])?;
        Ok(Self { agent, file })
    }

    /// Starts an agent that exports to `collector` over `protocol`, a value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn start_exporting(collector: &Collector, world: &World, protocol: &str) -> Result<Self> {
        let environment = collector.environment(protocol);
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let agent = Agent::watch(world, &agent_binary()?, &[], &environment)?;
        Ok(Self::of_agent(agent, collector.file()))
    }

    /// Records an agent that already runs. `file` is where its spans end up.
    #[must_use]
    pub fn of_agent(agent: Agent, file: &Path) -> Self {
        Self { agent, file: file.to_owned() }
    }

    /// Returns the spans exported so far, by start time.
    pub fn spans(&self) -> Result<Vec<Span>> {
        spans::from_requests(&spans::read_lines(&self.file)?)
    }

    /// Waits until `count` spans are exported, and returns all spans.
    pub fn wait_for_spans(&self, count: usize) -> Result<Vec<Span>> {
        self.wait_until(&format!("{count} spans"), |spans| spans.len() >= count)
    }

    /// Waits until `enough` accepts the exported spans, and returns them. `what` names them in the error.
    pub fn wait_until(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Result<Vec<Span>> {
        let (mut seen, mut offset) = (Vec::new(), 0);
        wait::until(within(EXPORTED_WITHIN), what, || {
            // Read only what is new: parsing all spans each time would take CPU time from the traced servers.
            seen.extend(spans::from_requests(&spans::read_lines_after(&self.file, &mut offset)?)?);
            Ok(enough(&seen).then_some(()))
        })
        .with_context(|| format!("{} spans arrived:\n{}", seen.len(), spans::overview(&seen)))?;
        spans::sort(&mut seen);
        Ok(seen)
    }

    /// RequestEnds an end-to-end test: `request_ends` is the number of request ends that it caused.
    ///
    /// A request has two ends if the processes on both sides are watched. Waits until that many spans are exported, stops
    /// the agent and checks the balance. Fails unless exactly these are exported and none is counted as lost.
    pub fn finish(self, request_ends: usize) -> Result<Outcome> {
        let waited = self.wait_for_spans(request_ends);
        // If spans are missing, the balance gives the better error: it shows the counters.
        let outcome = self.stop(request_ends)?;
        let exported = outcome.spans.len();
        ensure!(
            exported == request_ends,
            "{exported} of {request_ends} request ends are exported, the others are counted as lost:\n{}",
            outcome.summary
        );
        waited?;
        Ok(outcome)
    }

    /// Stops the agent at once and checks the balance. Fails unless exported and lost request ends add up to
    /// `request_ends`.
    pub fn stop(mut self, request_ends: impl Into<RequestEnds>) -> Result<Outcome> {
        let summary = Summary::read(&self.agent.finish()?);
        // A collector may write the spans to its file later than it accepts them.
        let spans = self.wait_for_spans(usize::try_from(summary.get("spans_exported"))?)?;
        Outcome::check(spans, summary, &request_ends.into())
    }

    /// The agent.
    pub fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// The file that the spans end up in.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The number of request ends that a test caused. A range if the agent was started while requests were in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEnds(RangeInclusive<usize>);

impl From<usize> for RequestEnds {
    fn from(exactly: usize) -> Self {
        Self(exactly..=exactly)
    }
}

impl From<RangeInclusive<usize>> for RequestEnds {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self(range)
    }
}

impl fmt::Display for RequestEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.0.start(), self.0.end());
        if least == most { write!(f, "{least}") } else { write!(f, "from {least} to {most}") }
    }
}

/// What an agent exported, and what it counted. Together these are all request ends.
#[derive(Debug)]
pub struct Outcome {
    /// Exported spans, by start time.
    pub spans: Vec<Span>,
    /// The counters that the agent printed when it ended.
    pub summary: Summary,
}

impl Outcome {
    /// Checks the balance. Fails unless exported spans and losses add up to exactly `request_ends`, every span lies within
    /// its parent, as far as that is certain, and every trace has one root.
    pub fn check(spans: Vec<Span>, summary: Summary, request_ends: &RequestEnds) -> Result<Self> {
        let (exported, lost) = (spans.len(), usize::try_from(summary.lost())?);
        ensure!(
            request_ends.0.contains(&(exported + lost)),
            "{request_ends} request ends were caused, but {exported} are exported and {lost} counted as lost:\n{}\nthe counters are\n{summary}",
            spans::overview(&spans)
        );
        spans::expect_within_certain_parents(&spans)?;
        spans::expect_one_root_per_trace(&spans)?;
        Ok(Self { spans, summary })
    }

    /// Fails unless the spans form the tree `expected`: see [`spans::expect_tree`].
    pub fn expect_tree(&self, show: &[&str], expected: &str) -> Result<&Self> {
        spans::expect_tree(&self.spans, show, expected)?;
        Ok(self)
    }
}

/// The counters that an agent printed when it ended. Counters that are 0 are not printed.
#[derive(Debug, Clone, Default)]
pub struct Summary(BTreeMap<String, u64>);

impl Summary {
    /// Reads the lines `onlooker: NAME VALUE  MEANING` from the agent's stderr.
    #[must_use]
    pub fn read(stderr: &str) -> Self {
        let counter = |line: &str| {
            let mut words = line.strip_prefix("onlooker: ")?.split_whitespace();
            let (name, value) = (words.next()?, words.next()?.parse().ok()?);
            Some((name.to_owned(), value))
        };
        Self(stderr.lines().filter_map(counter).collect())
    }

    /// The value of a counter; 0 if it was not printed.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The number of request ends that are counted under some name and were not exported.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let counted = |name: &str| {
            name.starts_with("requests_lost_")
                || name.starts_with("spans_dropped_")
                || [
                    "requests_folded",
                    "requests_ignored",
                    "requests_below_ignored",
                    "kernel_ring_full_requests",
                    "spans_left_to_sdk",
                    "spans_rejected_by_collector",
                ]
                .contains(&name)
        };
        self.0.iter().filter(|(name, _)| counted(name)).map(|(_, value)| value).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn counters_are_read_from_the_agents_stderr() {
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
