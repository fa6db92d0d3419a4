//! An agent whose spans go to a file, and the sum at its end: what was sent is what was exported and what was counted as
//! lost.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
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
        Self::selecting(world, &[&["--cgroup", world.cgroup().name()?], options].concat())
    }

    /// Starts one that watches what these options select, in place of the whole world.
    pub fn selecting(world: &World, options: &[&str]) -> Result<Self> {
        let file = world.dir().join("spans.jsonl");
        let path = file.to_str().context("the temporary folder's path is UTF-8")?;
        let agent = Agent::select(world, &agent_beside()?, &[options, &["--file", path]].concat(), &[])?;
        Ok(Self { agent, file })
    }

    /// Starts one that sends every span to `collector`, over the protocol that `OTEL_EXPORTER_OTLP_PROTOCOL` calls so.
    pub fn through(collector: &Collector, world: &World, protocol: &str) -> Result<Self> {
        let environment = collector.environment(protocol);
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let agent = Agent::watch(world, &agent_beside()?, &[], &environment)?;
        Ok(Self::by(agent, collector.file()))
    }

    /// The recording of an agent that is started already, whose spans end up in this file.
    #[must_use]
    pub fn by(agent: Agent, file: &Path) -> Self {
        Self { agent, file: file.to_owned() }
    }

    /// What was exported so far, by start.
    pub fn spans(&self) -> Result<Vec<Span>> {
        spans::spans(&spans::lines(&self.file)?)
    }

    /// Waits until `count` spans are exported, and returns all there are then.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Span>> {
        self.wait_until(&format!("{count} spans"), |spans| spans.len() >= count)
    }

    /// Waits until what is exported is `enough`, and returns all there is then.
    pub fn wait_until(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Result<Vec<Span>> {
        let (mut seen, mut offset) = (Vec::new(), 0);
        wait::until(within(EXPORTED_WITHIN), what, || {
            // Reading all of them at every look would take a processor that others need.
            seen.extend(spans::spans(&spans::lines_after(&self.file, &mut offset)?)?);
            Ok(enough(&seen).then_some(()))
        })
        .with_context(|| format!("{} came:\n{}", seen.len(), spans::overview(&seen)))?;
        spans::sort(&mut seen);
        Ok(seen)
    }

    /// Waits until `ends` request ends (a request has two if both sides' processes are watched) are told, stops the agent
    /// and takes the sum. Fails unless these and no others are told, and none is counted as lost.
    pub fn finish(self, ends: usize) -> Result<Account> {
        let waited = self.wait_for(ends);
        // What did not come is told better by the sum: with the counters.
        let account = self.stop(ends)?;
        let told = account.spans.len();
        ensure!(told == ends, "{told} of {ends} request ends are told, the others lost\n{}", account.summary);
        waited?;
        Ok(account)
    }

    /// Stops the agent at once and takes the sum. Fails unless it is `ends`.
    pub fn stop(mut self, ends: impl Into<Ends>) -> Result<Account> {
        let summary = Summary::read(&self.agent.finish()?);
        // A collector that has taken them writes them in its own time.
        let spans = self.wait_for(usize::try_from(summary.get("spans_exported"))?)?;
        Account::take(spans, summary, &ends.into())
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

/// How many request ends there were: exactly, or, where the agent came in the middle of them, at least and at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends(RangeInclusive<usize>);

impl From<usize> for Ends {
    fn from(exactly: usize) -> Self {
        Self(exactly..=exactly)
    }
}

impl From<RangeInclusive<usize>> for Ends {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self(range)
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (self.0.start(), self.0.end());
        if least == most { write!(f, "{least}") } else { write!(f, "from {least} to {most}") }
    }
}

/// All that an agent exported, and what it counted: together what was sent.
#[derive(Debug)]
pub struct Account {
    /// By start.
    pub spans: Vec<Span>,
    /// The counters it printed at its end.
    pub summary: Summary,
}

impl Account {
    /// Takes the sum. Fails unless `ends` request ends are accounted for, to the unit: exported or counted as lost; or if a
    /// span can't be where it is in its trace.
    pub fn take(spans: Vec<Span>, summary: Summary, ends: &Ends) -> Result<Self> {
        let (exported, lost) = (spans.len(), usize::try_from(summary.lost())?);
        ensure!(
            ends.0.contains(&(exported + lost)),
            "{ends} request ends were made, but {exported} exported and {lost} counted as lost:\n{}\nthe counters are\n{summary}",
            spans::overview(&spans)
        );
        spans::expect_causes(&spans)?;
        Ok(Self { spans, summary })
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

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
