//! A request as a node of a trace.

use std::num::NonZeroU64;
use std::sync::Arc;

use compact_str::CompactString;
use onlooker_common::owner::{Owner, evidence};
use onlooker_protocols::propagation::TraceContext;
use onlooker_protocols::{Begun, Spec};
use opentelemetry::trace::{SpanId, TraceId};

use super::background::{Caller, LastRead};
use super::id::NodeId;
use crate::model::service::PendingService;
use crate::model::span::{Evidence, Role};
use crate::observer::Place;
use crate::origin::Origin;
use crate::unit::Unit;

/// A request in flight, or one that ended a moment ago. There are thousands at a time, so rare fields are boxed.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) cookie: u64,
    pub(super) tgid: u32,
    /// Position of the request's first byte.
    pub(super) position: u64,
    /// The kernel's ids of the run it came in, and of the latest run in which more of it came (a body after 100 Continue);
    /// 0 if unknown.
    pub(super) runs: [u64; 2],
    /// How far the other way had come. Only of the first request of a run.
    pub(super) opposite: Option<u64>,
    /// Responses on its connection come in the order of the requests.
    pub(super) in_order: bool,
    pub(super) start: u64,
    pub(super) end: Option<u64>,
    /// It ended with the last byte of its response.
    pub(super) complete: bool,
    pub(super) span_id: SpanId,
    /// The trace it would be the root of. Once it `is_frozen`, the trace it is in.
    pub(super) trace: Trace,
    /// Its trace id was exported, with its own span or one below.
    pub(super) is_frozen: bool,
    /// A call that was sent with its ids: it keeps them.
    pub(super) sends_context: bool,
    /// The trace context in its header.
    pub(super) wire: Option<Box<TraceContext>>,
    pub(super) correlation: Option<Box<str>>,
    /// A hash of what a proxy would pass on.
    pub(super) passed_on: Option<NonZeroU64>,
    /// The request whose work it is, as the kernel says.
    pub(super) owner: Option<Owned>,
    /// What is known of its unit of work, if that is more than a thread.
    pub(super) work: Option<Box<UnitWork>>,
    pub(super) link: Link,
    /// A parent that was found too late.
    pub(super) late: Option<NodeId>,
    /// The context of the process would be the parent, but the call was sent in another trace.
    pub(super) has_late_environment: bool,
    /// Who made the call, or, in `unit`, who read the request.
    pub(super) caller: Caller,
    /// The other end of the exchange, on this host. It is not held, and may be gone.
    pub(super) joined: Option<NodeId>,
    /// A request of the process came with the trace context that this call carries: the context was only passed on.
    pub(super) passes_on: bool,
    /// What several requests of its process shared when it began.
    pub(super) contested: Contested,
    /// Its numbers, while it waits for its other end.
    pub(super) unjoined: Option<Numbers>,
    /// The process, if the context that it was started with may be the parent.
    pub(super) process: Option<PendingService>,
    /// Its span was made, or it will have none.
    pub(super) settled: bool,
    /// It will have no span.
    pub(super) is_abandoned: bool,
    /// Neither it nor what is done for it has spans, because the user wants none.
    pub(super) is_ignored: bool,
    /// What decides about its span, until the service of its process is known.
    pub(super) unjudged: Option<Box<Unjudged>>,
}

/// What decides whether a request is left out: see `left_out`.
#[derive(Debug)]
pub struct Unjudged {
    pub service: PendingService,
    pub protocol: Option<&'static Spec>,
    /// The path of an HTTP request.
    pub path: CompactString,
}

/// A message as either end of a TCP connection numbers it: the role of the end that waits for the other, the message's
/// sequence number, and how far the other way had come.
pub(super) type Numbers = (Role, u32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    None,
    /// The span that the header names.
    Remote,
    /// The span that the environment of its process names.
    Environment,
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

/// What does not identify an owner, because several requests in flight shared it when the call began. Some of them may be
/// forgotten when the call is settled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Contested {
    pub(super) process: bool,
    pub(super) context: bool,
    pub(super) correlation: bool,
    /// What a proxy passes on. Also true of processes that are no proxies.
    pub(super) passed_on: bool,
}

/// The unit of work that made a call, or that responded to a request.
#[derive(Debug)]
pub(super) struct UnitWork {
    pub(super) unit: Unit,
    /// Of a request: when its response began.
    pub(super) responded: Option<u64>,
    /// Of a call: the requests that its unit responded to. They were open when the call began.
    pub(super) responder: Responder,
    /// Of a call: a request was open in the process when the call began.
    pub(super) may_have_owner: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Responder {
    None,
    /// The request is held.
    One(NodeId),
    Several,
}

/// A request that the kernel names as the owner of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    pub(super) cookie: u64,
    /// The kernel's id of a run of the request.
    pub(super) run: u64,
    pub(super) rung: Evidence,
}

impl Owned {
    /// The owner, as the kernel programs name it.
    pub(super) fn of(owner: &Owner) -> Option<Self> {
        let &Owner { cookie, ids, evidence, .. } = owner;
        let rung = match evidence {
            evidence::THREAD => Evidence::Thread,
            evidence::CONNECT => Evidence::Connect,
            evidence::TICK => Evidence::Tick,
            evidence::FORK => Evidence::Fork,
            evidence::GOROUTINE => Evidence::Goroutine,
            evidence::VIRTUAL_THREAD => Evidence::VirtualThread,
            evidence::TASK | evidence::WOKEN => Evidence::Task,
            evidence::WAKE => Evidence::Wake,
            evidence::ASYNC_ID => Evidence::AsyncId,
            _ => return None,
        };
        (cookie != 0).then_some(Self { cookie, run: ids.span_id, rung })
    }

    /// The owner of a call that begins at `position`.
    fn of_call(origin: &Origin, position: u64) -> Option<Self> {
        let owned = Self::of(&origin.owner)?;
        // In an event loop, later operations of a run may be other requests' work. The kernel speaks of the operation that
        // began the run. Where it knows the unit of work, it reports the operations of another unit anew.
        // A task that was woken for one request may send those of others with it, which found it awake.
        let is_meant = match origin.owner.evidence {
            evidence::WOKEN | evidence::WAKE => position == origin.position,
            _ => owned.rung.is_certain() || position < origin.end,
        };
        is_meant.then_some(owned)
    }
}

impl Node {
    pub(super) fn new(place: Place, begun: &Begun, origin: Option<&Origin>) -> Self {
        // The ids of a run belong to its first request.
        let first = origin.filter(|origin| origin.position == begun.start.position).map(|origin| origin.ids);
        let span_id = match first {
            Some(message) if message.span_id != 0 => message.span_id,
            _ => random(),
        };
        // The kernel gives a call the trace of its owner. If the owner proves wrong, or is over, the call begins a trace of
        // its own. But a call that was sent with this trace has to keep it.
        let has_owner = origin.is_some_and(|origin| origin.owner.cookie != 0);
        let sends_context = first.is_some() && origin.is_some_and(|origin| origin.sends_context);
        let own_trace = match first {
            Some(message) if message.trace_id != [0; 2] && (!has_owner || sends_context) => message.trace_id,
            _ => [random(), random()],
        };
        let [high, low] = own_trace.map(u128::from);
        Self {
            role: place.role,
            cookie: place.cookie,
            tgid: place.tgid,
            position: begun.start.position,
            runs: [origin.map_or(0, |origin| origin.ids.span_id), 0],
            opposite: origin.filter(|origin| origin.position == begun.start.position).map(|origin| origin.opposite),
            in_order: place.in_order,
            start: begun.start.nanos,
            end: None,
            complete: false,
            span_id: SpanId::from_bytes(span_id.to_be_bytes()),
            trace: Trace { trace_id: TraceId::from_bytes((high << 64 | low).to_be_bytes()), trace_state: None },
            is_frozen: false,
            sends_context,
            wire: begun.context.clone(),
            correlation: begun.correlation.as_deref().map(Box::from),
            passed_on: begun.passed_on,
            owner: origin.and_then(|origin| Owned::of_call(origin, begun.start.position)),
            work: None,
            link: Link::None,
            late: None,
            has_late_environment: false,
            caller: Caller { unit: origin.and_then(|origin| origin.worker), ..Caller::default() },
            joined: None,
            passes_on: false,
            contested: Contested::default(),
            unjoined: None,
            process: None,
            settled: false,
            is_abandoned: false,
            is_ignored: false,
            unjudged: None,
        }
    }

    /// Frees what it has on the heap.
    pub(super) fn free(&mut self) {
        self.wire = None;
        self.correlation = None;
        self.work = None;
        self.process = None;
        self.unjudged = None;
        self.trace.trace_state = None;
    }

    /// Whether it was open at `nanos`, as far as is known.
    pub(super) fn in_flight_at(&self, nanos: u64) -> bool {
        self.start <= nanos && self.end.is_none_or(|end| nanos <= end)
    }

    /// The request that its unit of work read before, if the node holds that.
    pub(super) fn after(&self) -> Option<NodeId> {
        match self.caller.read {
            Some(LastRead::Unsettled(request)) if self.role == Role::Client => Some(request),
            _ => None,
        }
    }

    /// The parent that the header or the environment names, if that is its parent.
    pub(super) fn remote_parent(&self) -> Option<&TraceContext> {
        match self.link {
            Link::Remote => self.wire.as_deref(),
            Link::Environment => self.started_by(),
            Link::None | Link::Node(..) => None,
        }
    }

    /// The context that its process was started with.
    pub(super) fn started_by(&self) -> Option<&TraceContext> {
        Some(self.process.as_ref()?.started_by()?)
    }

    /// The trace that it begins, or that its header names.
    pub(super) fn trace(&self) -> Trace {
        match self.remote_parent() {
            Some(context) if !self.is_frozen => Trace {
                trace_id: TraceId::from_bytes(context.trace_id),
                trace_state: (!context.tracestate.is_empty()).then(|| context.tracestate.as_str().into()),
            },
            _ => self.trace.clone(),
        }
    }
}

/// A random word that is not 0, from the hashing keys of this process. Ids must be unique, not secret.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static KEYS: RandomState = RandomState::new();
    }
    KEYS.with(|keys| keys.hash_one(COUNTER.fetch_add(1, Relaxed))).max(1)
}
