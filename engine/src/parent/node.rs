//! One side of one exchange, as a place in a trace.

use std::sync::Arc;

use onlooker_common::owner::{Owner, evidence};
use onlooker_protocols::Begun;
use onlooker_protocols::propagation::TraceContext;
use opentelemetry::trace::{SpanId, TraceId};

use super::NodeId;
use crate::connections::{Origin, Place};
use crate::model::span::{Evidence, Role};

/// A request in flight, or one that ended a moment ago. There are thousands of them in a busy moment, so what few have is
/// elsewhere.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) cookie: u64,
    pub(super) tgid: u32,
    /// Position of the request's first byte.
    pub(super) position: u64,
    /// The run it came in, and the latest in which more of it came (a body after 100 Continue), by the ids that the kernel gave
    /// them; 0 if that is not known.
    pub(super) runs: [u64; 2],
    /// How far the other direction had come, for the first request of a run.
    pub(super) opposite: Option<u64>,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
    /// It ended with the last byte of its answer, and not because nobody waited for it any more.
    pub(super) complete: bool,
    pub(super) span_id: SpanId,
    /// The trace it would be the root of; once it `is_frozen`, the trace it is in.
    pub(super) trace: Trace,
    /// It was sent, or something below it was.
    pub(super) is_frozen: bool,
    /// The trace context in its header.
    pub(super) wire: Option<Box<TraceContext>>,
    pub(super) correlation: Option<Box<str>>,
    /// PendingService work the kernel says it is.
    pub(super) owner: Option<Named>,
    pub(super) link: Link,
    /// The parent that was found too late.
    pub(super) late: Option<NodeId>,
    /// The other end of the exchange, on this host. Not held: it may be gone.
    pub(super) joined: Option<NodeId>,
    /// Whether the trace context in a call's header is that of a request its process was working on, and so merely passed
    /// on; not known before it was looked for.
    pub(super) passes_on: bool,
    /// What more than one request of its process had when it began.
    pub(super) contested: Contested,
    /// Its key while the other end is looked for.
    pub(super) unjoined: Option<(Role, u32, u32)>,
    /// Its span was made, or it will have none.
    pub(super) settled: bool,
    /// It will have none.
    pub(super) untold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    None,
    /// The span that the header names.
    Remote,
    Node(NodeId, Evidence),
}

#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) trace_id: TraceId,
    pub(super) trace_state: Option<Arc<str>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { trace_id: TraceId::INVALID, trace_state: None }
    }
}

/// What tells no request from another, because several in flight had it when the call began. Some may be forgotten when the
/// call is settled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Contested {
    pub(super) process: bool,
    pub(super) context: bool,
    pub(super) correlation: bool,
}

/// A request that the kernel names as the owner of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) cookie: u64,
    /// A run of it, by the id that the kernel gave it.
    pub(super) run: u64,
    pub(super) rung: Evidence,
}

impl Named {
    /// PendingService work a call is that begins at `position`.
    fn of(origin: &Origin, position: u64) -> Option<Self> {
        let Owner { cookie, ids, evidence, .. } = origin.owner;
        let rung = match evidence {
            evidence::THREAD => Evidence::Thread,
            evidence::CONNECT => Evidence::Connect,
            evidence::TICK => Evidence::Tick,
            _ => return None,
        };
        // On an event loop what follows on a connection before an answer may be anybody's: the operation that began the run
        // is all that the kernel speaks of.
        let is_meant = rung == Evidence::Thread || position < origin.end;
        (cookie != 0 && is_meant).then_some(Self { cookie, run: ids.span_id, rung })
    }
}

impl Node {
    pub(super) fn new(place: Place, begun: &Begun, origin: Option<&Origin>) -> Self {
        // The kernel's ids are the run's: they are the first request's of it.
        let given = origin.filter(|origin| origin.position == begun.start.position).map(|origin| origin.message);
        let span_id = match given {
            Some(message) if message.span_id != 0 => message.span_id,
            _ => random(),
        };
        let own_trace = match given {
            Some(message) if message.trace_id != [0; 2] => message.trace_id,
            _ => [random(), random()],
        };
        let [high, low] = own_trace.map(u128::from);
        Self {
            role: place.role,
            cookie: place.cookie,
            tgid: place.tgid,
            position: begun.start.position,
            runs: [origin.map_or(0, |origin| origin.message.span_id), 0],
            opposite: origin.filter(|origin| origin.position == begun.start.position).map(|origin| origin.opposite),
            start: begun.start.nanos,
            end: None,
            complete: false,
            span_id: SpanId::from_bytes(span_id.to_be_bytes()),
            trace: Trace { trace_id: TraceId::from_bytes((high << 64 | low).to_be_bytes()), trace_state: None },
            is_frozen: false,
            wire: begun.context.clone().map(Box::new),
            correlation: begun.correlation.as_deref().map(Box::from),
            owner: origin.and_then(|origin| Named::of(origin, begun.start.position)),
            link: Link::None,
            late: None,
            joined: None,
            passes_on: false,
            contested: Contested::default(),
            unjoined: None,
            settled: false,
            untold: false,
        }
    }

    /// Whether it was worked on at `nanos`, as far as that is known.
    pub(super) fn in_flight_at(&self, nanos: u64) -> bool {
        self.start <= nanos && self.end.is_none_or(|end| nanos <= end)
    }

    /// The trace it begins, or continues from the wire.
    pub(super) fn trace(&self) -> Trace {
        match (&self.link, &self.wire) {
            (Link::Remote, Some(wire)) if !self.is_frozen => Trace {
                trace_id: TraceId::from_bytes(wire.trace_id),
                trace_state: (!wire.tracestate.is_empty()).then(|| wire.tracestate.as_str().into()),
            },
            _ => self.trace.clone(),
        }
    }
}

/// A random word that is not 0, from the process's own hashing keys: ids must be unique, not secret.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static KEYS: RandomState = RandomState::new();
    }
    KEYS.with(|keys| keys.hash_one(COUNTER.fetch_add(1, Relaxed))).max(1)
}
