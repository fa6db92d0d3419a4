//! Spans by their traces.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::spans::Span;

/// All spans of each trace.
pub(super) struct Traces(BTreeMap<String, Vec<Span>>);

impl Traces {
    pub(super) fn of(spans: Vec<Span>) -> Self {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        Self(traces)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn spans(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Span>)> {
        self.0.iter()
    }

    /// Fails unless each of these traces has exactly the spans that were `sent`.
    pub(super) fn are_whole(&self, sent: &Self) -> Result<()> {
        for (id, trace) in &self.0 {
            let whole = sent.0.get(id).with_context(|| format!("the trace {id} was never sent"))?;
            let ids = |trace: &[Span]| trace.iter().map(|span| span.span_id.clone()).collect::<BTreeSet<_>>();
            ensure!(trace.len() == whole.len(), "{} of {} spans of the trace {id} arrived", trace.len(), whole.len());
            ensure!(ids(trace) == ids(whole), "the spans of the trace {id} are others than those sent");
        }
        Ok(())
    }
}
