//! Gathers spans into traces, and decides when a trace is complete.
//!
//! Children end before their parents, and spans of several connections come in any order. A trace is complete when it has
//! its root and no span was added for a while. Without a root (a response that goes on, a lost parent) it waits longer. The
//! number of spans that are held is bounded: the oldest trace makes room.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use onlooker_engine::assemble::Assembly;
//! # use onlooker_engine::model::span::Span;
//! # fn root() -> Span {
//! #     use onlooker_engine::model::service::Service;
//! #     use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
//! #     let resource = opentelemetry_sdk::Resource::builder_empty().build();
//! #     Span {
//! #         trace_id: TraceId::from(1),
//! #         span_id: SpanId::from(1),
//! #         parent: None,
//! #         trace_state: Default::default(),
//! #         kind: SpanKind::Server,
//! #         name: "GET /cart".to_owned(),
//! #         start: 0,
//! #         end: 1,
//! #         status: Status::Unset,
//! #         attributes: Default::default(),
//! #         links: Vec::new(),
//! #         service: std::sync::Arc::new(Service::new("shop", resource)),
//! #     }
//! # }
//!
//! let mut assembly = Assembly::default();
//! let start = Instant::now();
//! assert!(assembly.add(root(), "a ticket", start).is_none(), "there is room");
//! assert!(assembly.complete(start).is_empty(), "more spans may come");
//!
//! let complete = assembly.complete(start + Duration::from_secs(1));
//! let (spans, tickets) = complete.into_iter().next().expect("the trace has its root").into_parts();
//! assert_eq!((spans[0].name.as_str(), tickets), ("GET /cart", vec!["a ticket"]));
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::span::Span;

/// A trace with a root is complete when nothing was added for this long.
const QUIET: Duration = Duration::from_millis(300);
/// A trace without a root counts as complete when nothing was added for this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Traces held at a time: those of 400 ms at 10,000 a second.
const MAX_TRACES: usize = 4096;
/// Spans held of one trace: more than anybody reads in one tree.
const MAX_SPANS: usize = 1024;

/// Traces that are not complete. A `T` comes with each span, and leaves with it.
#[derive(Debug)]
pub struct Assembly<T> {
    traces: FxHashMap<TraceId, Trace<T>>,
    /// The traces in the order of their first span.
    order: BTreeMap<u64, TraceId>,
    next: u64,
}

/// The spans of one trace.
#[derive(Debug)]
pub struct Trace<T> {
    /// Its place in the order.
    place: u64,
    spans: Vec<Span>,
    tickets: Vec<T>,
    touched: Instant,
    /// It had no root when it was last looked for, and nothing was added since.
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

    /// Adds a span with its ticket. Returns a trace that must leave although it is not complete, because too much is held.
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

    /// Takes out the traces that are complete, oldest first.
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
    /// The spans, and the ticket of each.
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

    /// Whether a span has no parent, or a parent on another host.
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
    fn a_trace_is_complete_when_it_has_its_root_and_is_quiet() {
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
    fn a_trace_without_a_root_waits_longer() {
        let mut table = Table::new();
        table.add(1, 2, below(1, Evidence::Thread));
        assert!(table.complete_after(PATIENCE - BRIEF).is_empty());
        assert_eq!(table.complete_after(BRIEF), [1]);
    }

    #[test]
    fn the_oldest_trace_makes_room() {
        let mut table = Table::new();
        for trace in 0..MAX_TRACES as u128 {
            assert_eq!(table.add(trace + 1, 1, None), None);
        }
        table.add(1, 2, below(1, Evidence::Thread));
        assert_eq!(table.add(u128::MAX, 1, None), Some(2));
        assert_eq!(table.assembly.drain().len(), MAX_TRACES);
    }

    #[test]
    fn a_trace_that_is_too_large_leaves_in_parts() {
        let mut table = Table::new();
        for id in 1..MAX_SPANS as u64 {
            assert_eq!(table.add(1, id, below(id + 1, Evidence::Thread)), None);
        }
        assert_eq!(table.add(1, MAX_SPANS as u64, None), Some(MAX_SPANS));
        assert!(table.assembly.is_empty());
        assert_eq!(table.add(1, 1, None), None, "its rest begins anew");
    }
}
