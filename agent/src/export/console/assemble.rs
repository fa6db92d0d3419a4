//! Gathers spans into traces, and says when a trace is worth printing.
//!
//! Children end before their parents, and the ends of one trace on several connections are heard of in no certain order.
//! So a trace is complete when its root is there and nothing was added for a while; without a root (a stream that goes
//! on, a parent that was lost) it is waited for longer. What is held is bounded; the oldest trace makes room.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry::trace::TraceId;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::time::Instant;

use crate::export::account::Share;
use crate::span::Span;

/// How long nothing must be added to a trace that has a root.
const QUIET: Duration = Duration::from_millis(300);
/// And to one that has none: it is printed as it is.
const PATIENCE: Duration = Duration::from_secs(30);
/// Traces held at a time: at 10,000 a second, those of the last 400 ms.
const MAX_TRACES: usize = 4096;
/// Spans of one trace held: more than anybody reads in one tree.
const MAX_SPANS: usize = 1024;

/// The traces that are not printed yet.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    traces: FxHashMap<TraceId, Trace>,
    /// The traces in the order of their first span.
    order: BTreeMap<u64, TraceId>,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Trace {
    /// Its place in the order.
    place: u64,
    spans: Vec<Span>,
    shares: Vec<Share>,
    touched: Instant,
}

impl Assembly {
    pub(super) fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Adds a span; returns a trace that must be printed now, as it is, because too much is held.
    pub(super) fn add(&mut self, span: Span, share: Share, now: Instant) -> Option<Trace> {
        let id = span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            let place = self.next;
            self.next += 1;
            self.order.insert(place, id);
            Trace { place, spans: Vec::new(), shares: Vec::new(), touched: now }
        });
        trace.touched = now;
        trace.spans.push(span);
        trace.shares.push(share);
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
    pub(super) fn complete(&mut self, now: Instant) -> Vec<Trace> {
        let due = |id: &&TraceId| {
            self.traces.get(id).is_some_and(|trace| {
                let quiet = now.duration_since(trace.touched);
                quiet >= PATIENCE || quiet >= QUIET && trace.has_root()
            })
        };
        let due: Vec<TraceId> = self.order.values().filter(due).copied().collect();
        due.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Takes out all, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Trace> {
        let all: Vec<TraceId> = self.order.values().copied().collect();
        all.into_iter().filter_map(|id| self.take(id)).collect()
    }

    fn take(&mut self, id: TraceId) -> Option<Trace> {
        let trace = self.traces.remove(&id)?;
        self.order.remove(&trace.place);
        Some(trace)
    }
}

impl Trace {
    /// The spans, and the responsibility for each.
    pub(super) fn into_parts(self) -> (Vec<Span>, Vec<Share>) {
        (self.spans, self.shares)
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
