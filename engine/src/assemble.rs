//! Gathers spans into traces, and says when a trace is worth printing.
//!
//! Children end before their parents, and the ends of one trace on several connections are heard of in no certain order.
//! So a trace is complete when its root is there and nothing was added for a while; without a root (a stream that goes
//! on, a parent that was lost) it is waited for longer. What is held is bounded; the oldest trace makes room.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::span::Span;

/// How long nothing must be added to a trace that has a root.
const QUIET: Duration = Duration::from_millis(300);
/// And to one that has none: it is printed as it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Traces held at a time: at 10,000 a second, those of the last 400 ms.
const MAX_TRACES: usize = 4096;
/// Spans of one trace held: more than anybody reads in one tree.
const MAX_SPANS: usize = 1024;

/// The traces that are not printed yet.
#[derive(Debug)]
pub struct Assembly<T> {
    traces: FxHashMap<TraceId, Trace<T>>,
    /// The traces in the order of their first span.
    order: BTreeMap<u64, TraceId>,
    next: u64,
}

#[derive(Debug)]
pub struct Trace<T> {
    /// Its place in the order.
    place: u64,
    spans: Vec<Span>,
    tickets: Vec<T>,
    touched: Instant,
    /// Found to have no root since it was touched: nothing to look for again.
    rootless: bool,
}

impl<T> Default for Assembly<T> {
    fn default() -> Self {
        Self { traces: FxHashMap::default(), order: BTreeMap::new(), next: 0 }
    }
}

impl<T> Assembly<T> {
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Adds a span with a `ticket` of the caller's; returns a trace that must be printed now, as it is, because too much is held.
    pub fn add(&mut self, span: Span, ticket: T, now: Instant) -> Option<Trace<T>> {
        let id = span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            let place = self.next;
            self.next += 1;
            self.order.insert(place, id);
            Trace { place, spans: Vec::new(), tickets: Vec::new(), touched: now, rootless: false }
        });
        trace.touched = now;
        trace.rootless = false;
        trace.spans.push(span);
        trace.tickets.push(ticket);
        if trace.spans.len() >= MAX_SPANS {
            return self.take(id);
        }
        if self.traces.len() > MAX_TRACES {
            let (_, oldest) = self.order.first_key_value()?;
            return self.take(*oldest);
        }
        None
    }

    /// Takes out the traces that are complete, or will hardly become so, oldest first.
    pub fn complete(&mut self, now: Instant) -> Vec<Trace<T>> {
        let traces = &mut self.traces;
        let due = |id: &&TraceId| traces.get_mut(*id).is_some_and(|trace| trace.is_due(now));
        let due: Vec<TraceId> = self.order.values().filter(due).copied().collect();
        due.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Takes out all, oldest first.
    pub fn drain(&mut self) -> Vec<Trace<T>> {
        let all: Vec<TraceId> = self.order.values().copied().collect();
        all.into_iter().filter_map(|id| self.take(id)).collect()
    }

    fn take(&mut self, id: TraceId) -> Option<Trace<T>> {
        let trace = self.traces.remove(&id)?;
        self.order.remove(&trace.place);
        Some(trace)
    }
}

impl<T> Trace<T> {
    /// The spans, and what was added with each.
    pub fn into_parts(self) -> (Vec<Span>, Vec<T>) {
        (self.spans, self.tickets)
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let quiet = now.duration_since(self.touched);
        if quiet >= QUIET && !self.rootless {
            self.rootless = !self.has_root();
        }
        quiet >= PATIENCE || quiet >= QUIET && !self.rootless
    }

    /// Is there a span without a parent, or with one that is nobody's we trace?
    fn has_root(&self) -> bool {
        if self.spans.iter().any(|span| span.parent.is_none()) {
            return true;
        }
        let here: FxHashSet<_> = self.spans.iter().map(|span| span.span_id).collect();
        self.spans.iter().filter_map(|span| span.parent).any(|parent| parent.remote && !here.contains(&parent.span_id))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::service::Service;
    use crate::model::span::{Evidence, Parent};
    use crate::testing::{below, from_elsewhere, service, span};

    /// An assembly with a clock of its own.
    struct Table {
        assembly: Assembly<()>,
        service: Arc<Service>,
        now: Instant,
    }

    impl Table {
        fn new() -> Self {
            Self { assembly: Assembly::default(), service: service("shop"), now: Instant::now() }
        }

        fn add(&mut self, trace: u128, id: u64, parent: Option<Parent>) -> Option<usize> {
            let span = Span { trace_id: TraceId::from(trace), parent, ..span(id, &self.service) };
            self.assembly.add(span, (), self.now).map(|trace| trace.spans.len())
        }

        /// The number of spans of each trace that is complete after `wait` more.
        fn complete_after(&mut self, wait: Duration) -> Vec<usize> {
            self.now += wait;
            self.assembly.complete(self.now).iter().map(|trace| trace.spans.len()).collect()
        }
    }

    const BRIEF: Duration = Duration::from_millis(200);

    #[test]
    fn a_trace_is_complete_when_its_root_is_there_and_nothing_came_for_a_while() {
        let mut table = Table::new();
        table.add(1, 2, below(1, Evidence::Thread));
        table.add(1, 1, None);
        assert!(table.complete_after(BRIEF).is_empty());
        table.add(1, 3, below(1, Evidence::Thread));
        assert!(table.complete_after(BRIEF).is_empty(), "something came meanwhile");
        assert_eq!(table.complete_after(BRIEF), [3]);
        assert!(table.assembly.is_empty());
    }

    #[test]
    fn a_parent_elsewhere_makes_a_root_unless_it_is_here() {
        let mut table = Table::new();
        table.add(1, 2, from_elsewhere(1));
        table.add(2, 4, from_elsewhere(3));
        table.add(2, 3, below(9, Evidence::Thread));
        assert_eq!(table.complete_after(QUIET), [1], "span 4's parent is here, and span 3's is still to come");
    }

    #[test]
    fn without_a_root_patience_ends() {
        let mut table = Table::new();
        table.add(1, 2, below(1, Evidence::Thread));
        assert!(table.complete_after(PATIENCE - BRIEF).is_empty());
        assert_eq!(table.complete_after(BRIEF), [1]);
    }

    #[test]
    fn too_many_traces_push_out_the_oldest() {
        let mut table = Table::new();
        for trace in 0..MAX_TRACES as u128 {
            assert_eq!(table.add(trace + 1, 1, None), None);
        }
        table.add(1, 2, below(1, Evidence::Thread));
        assert_eq!(table.add(u128::MAX, 1, None), Some(2));
        assert_eq!(table.assembly.drain().len(), MAX_TRACES);
    }

    #[test]
    fn a_trace_that_grows_without_end_is_printed_in_parts() {
        let mut table = Table::new();
        for id in 1..MAX_SPANS as u64 {
            assert_eq!(table.add(1, id, below(id + 1, Evidence::Thread)), None);
        }
        assert_eq!(table.add(1, MAX_SPANS as u64, None), Some(MAX_SPANS));
        assert!(table.assembly.is_empty());
        assert_eq!(table.add(1, 1, None), None, "its rest begins anew");
    }
}
