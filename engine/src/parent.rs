//! Settles the parent of each exchange, by the ladder of evidence.
//!
//! Every request is a node from its beginning, because calls made for it end before it does. Its parent is found at one of
//! three times:
//!
//! - when it begins, if the kernel names its owner;
//! - when the other end of its connection is seen, if both ends are on this host;
//! - when it is settled, a moment after its end. By then the records that were overtaken have come.
//!
//! A trace has the id of its root, unless something of it was exported under another id. It has one root: a call without a
//! parent begins a trace of its own. If its unit of work made it after the response to a request, its span links to that.
//!
//! ```
//! use onlooker_common::owner::{MessageIds, Owner, evidence};
//! use onlooker_engine::model::span::{Evidence, Role};
//! use onlooker_engine::observer::Place;
//! use onlooker_engine::origin::Origin;
//! use onlooker_engine::parent::Parents;
//! use onlooker_protocols::{Begun, Direction, Moment};
//!
//! let at = |position, nanos| Begun::plain(Direction::ToServer, Moment { nanos, position, run: 0 });
//! let origin = |position, ids, owner| Origin {
//!     position,
//!     end: position + 40,
//!     opposite: 0,
//!     owner,
//!     ids,
//!     tgid: 42,
//!     unit: None,
//!     worker: None,
//!     peer: 0,
//!     offsets: [0, 0],
//!     has_private_positions: false,
//!     from_start: true,
//!     sends_context: false,
//!     has_frames: false,
//!     counts_alone: false,
//! };
//! let ids = MessageIds { trace_id: [1, 2], span_id: 3 };
//! let request = Place { cookie: 7, tgid: 42, role: Role::Server, in_order: true };
//! let call = Place { cookie: 8, role: Role::Client, ..request };
//!
//! let mut parents = Parents::default();
//! parents.begin(request, &at(1_000, 100), Some(&origin(1_000, ids, Owner::default())));
//! let owner = Owner { cookie: 7, position: 1_000, ids, evidence: evidence::THREAD, ..Owner::default() };
//! parents.begin(call, &at(9_000, 110), Some(&origin(9_000, MessageIds::default(), owner)));
//!
//! let id = parents.finish(call, 9_000, 120, true).expect("it has begun");
//! let settled = parents.settle(id, 110, 120, true).expect("it is there");
//! let parent = settled.parent.expect("the request");
//! assert_eq!((parent.evidence, parent.span_id.to_bytes()), (Evidence::Thread, 3_u64.to_be_bytes()));
//! ```

mod background;
mod id;
mod join;
mod ladder;
mod ledger;
mod left_out;
mod node;
mod responder;
mod tree;

use compact_str::CompactString;
use onlooker_common::owner::Owner;
use onlooker_protocols::Begun;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::model::service::PendingService;
use crate::model::span::{Evidence, Parent, Role};
use crate::observer::Place;
use crate::origin::Origin;
use crate::unit::Unit;
use background::{Background, LastRead};
use join::Joins;
use ladder::Ladder;
use node::{Link, Node, Owned};
use tree::{DEEPEST, Tree};

pub use id::NodeId;
pub use left_out::LeftOut;
pub use node::Unjudged;

/// Where a request stands in its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<Parent>,
    pub trace_state: CompactString,
    /// The parent, if it was found too late for one trace. Or the request after whose response the call was made.
    pub link: Option<Box<SpanContext>>,
    /// The span's bounds. If both ends are on this host, their clock is the same, and the end that saw more corrects the
    /// other.
    pub start: u64,
    pub end: u64,
    /// An SDK in the calling program reports this call itself.
    pub left_to_sdk: bool,
    pub found_late: bool,
}

/// What is known of a request that has no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned {
    /// Its id was exported as a parent.
    pub was_parent: bool,
}

/// Every request in flight, and those that ended a moment ago.
#[derive(Debug, Default)]
pub struct Parents {
    tree: Tree,
    joins: Joins,
    ladder: Ladder,
    background: Background,
    /// When the first request that was seen began; 0 before.
    began: u64,
    /// The time, as of the latest call of [`Self::advance`].
    now: u64,
    /// Reused from call to call.
    path: Vec<NodeId>,
}

/// How long a process that has connections from before the agent's start may work on requests that it read before.
const UNSEEN_REQUESTS: u64 = 10_000_000_000;

impl Parents {
    /// The process runs an event loop. Its threads prove nothing, and have not before.
    pub fn runs_loop(&mut self, tgid: u32) {
        self.ladder.runs_loop(tgid);
    }

    /// The process is a proxy, which passes on the method, target and host of a request.
    pub fn is_proxy(&mut self, tgid: u32) {
        self.ladder.is_proxy(tgid);
    }

    /// At `nanos` the process runs virtual threads, which are known, and no event loop. The kernel programs may have taken
    /// them for the threads that carry them before.
    pub fn runs_virtual_threads(&mut self, tgid: u32, nanos: u64) {
        self.ladder.runs_virtual_threads(tgid, nanos);
    }

    /// At `nanos` the process ended, or executed another program.
    pub fn process_ended(&mut self, tgid: u32, nanos: u64) {
        self.ladder.process_ended(tgid, nanos);
        self.background.process_ended(tgid, nanos);
        self.tree.ledger.process_ended(tgid);
    }

    /// Lets time pass until `now`.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        self.ladder.advance(now);
        self.background.advance(now);
        while let Some(id) = self.joins.overdue(now) {
            self.remove(id);
        }
    }

    /// A request begins. Its identity is `(place.cookie, place.role, begun.start.position)`.
    pub fn begin(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>) -> NodeId {
        let node = Node::new(place, begun, origin);
        let owner = (place.role == Role::Client).then_some(node.owner).flatten();
        let id = self.tree.ledger.insert(node);
        if self.began == 0 {
            self.began = begun.start.nanos;
        }
        match place.role {
            Role::Client => {
                self.ladder.note_contest(&mut self.tree, id);
                self.note_caller(id);
            }
            Role::Server => {
                if let Some(node) = self.tree.get(id) {
                    self.background.reads(node.tgid, node.caller.unit, id);
                }
                let until = self.began + UNSEEN_REQUESTS;
                if begun.start.nanos < until && origin.is_some_and(|origin| !origin.from_start) {
                    self.tree.ledger.may_have_others(place.tgid, until);
                }
            }
        }
        if let Some(owner) = owner {
            ladder::link_to_owner(&mut self.tree, id, &owner, begun.start.nanos);
        }
        let unit = origin.and_then(|origin| origin.unit);
        match (place.role, unit) {
            (Role::Server, _) => self.ladder.responders.request_begins(&self.tree, id, unit),
            (Role::Client, Some(unit)) => self.ladder.responders.call_begins(&mut self.tree, id, unit),
            (Role::Client, None) => {}
        }
        if let Some(origin) = origin {
            self.joins.join(&mut self.tree, id, place, begun.start.position, origin);
        }
        id
    }

    /// Whether the context that a process was started with may be the parent of one more of its calls. It is not if the process
    /// serves requests, and not without end.
    pub fn may_continue(&mut self, tgid: u32) -> bool {
        self.background.may_continue(tgid)
    }

    /// Notes the process that a call was made by. The context that it was started with may be the call's parent.
    pub fn made_by(&mut self, id: NodeId, process: PendingService) {
        if let Some(node) = self.tree.get_mut(id) {
            node.process = Some(process);
        }
    }

    /// Notes what is known about the maker of a call that begins.
    fn note_caller(&mut self, id: NodeId) {
        let Some(node) = self.tree.get(id) else { return };
        let is_idle = self.tree.ledger.is_idle(node.tgid, node.start);
        let mut caller = self.background.calls(node.tgid, node.cookie, node.caller.unit, is_idle);
        if let Some(LastRead::Unsettled(request)) = caller.read {
            match self.tree.get(request) {
                // Its span is linked to if it turns out to have ended before the call.
                Some(_) => self.tree.ledger.hold(request),
                None => caller.read = Some(LastRead::Unknown),
            }
        }
        if let Some(node) = self.tree.get_mut(id) {
            node.caller = caller;
        }
    }

    /// More of the request that began at `position` comes in another run, to which the kernel gave this id.
    pub fn goes_on(&mut self, place: Place, position: u64, run: u64) {
        if let Some(node) = self.find(place, position).and_then(|id| self.tree.get_mut(id)) {
            node.runs[1] = run;
        }
    }

    /// At `nanos` the unit wrote the first byte of the response to the request that began at `position`.
    pub fn responds(&mut self, place: Place, position: u64, unit: Unit, nanos: u64) {
        if let Some(id) = self.find(place, position) {
            self.ladder.responders.responds(&mut self.tree, id, unit, nanos);
        }
    }

    /// The call that began at `position` has this owner, if nothing better is known than which task was woken.
    pub fn correct_owner(&mut self, place: Place, position: u64, owner: &Owner) {
        let Some(id) = self.find(place, position) else { return };
        if !matches!(self.tree.parent(id), None | Some((_, Evidence::Wake))) {
            return;
        }
        let Some(call) = self.tree.get_mut(id).filter(|call| !call.is_frozen) else { return };
        call.owner = Owned::of(owner);
        let (owner, start) = (call.owner, call.start);
        self.tree.clear_parent(id);
        if let Some(owner) = owner {
            ladder::link_to_owner(&mut self.tree, id, &owner, start);
        }
    }

    /// The request that began at `position` ended at `nanos`. `complete`: it ended with the last byte of its response. It
    /// is to be settled a moment later.
    pub fn finish(&mut self, place: Place, position: u64, nanos: u64, complete: bool) -> Option<NodeId> {
        let id = self.find(place, position)?;
        self.ladder.responders.request_ends(&self.tree, id, nanos);
        self.tree.ledger.end(id, nanos, complete).then_some(id)
    }

    /// Forgets a request that will have no span.
    pub fn abandon(&mut self, place: Place, position: u64) -> Abandoned {
        let Some(id) = self.find(place, position) else { return Abandoned { was_parent: false } };
        let was_parent = self.tree.get(id).is_some_and(|node| node.is_frozen);
        if let Some(node) = self.tree.get_mut(id) {
            node.is_abandoned = true;
        }
        self.ladder.responders.request_ends(&self.tree, id, self.now);
        self.remove(id);
        Abandoned { was_parent }
    }

    /// Prepares for [`Self::settle`].
    #[inline]
    pub fn prefetch(&self, id: NodeId) {
        self.tree.ledger.prefetch(id);
    }

    /// The connection is over.
    pub fn connection_ended(&mut self, cookie: u64) {
        self.joins.connection_ended(cookie);
        self.background.connection_ended(cookie);
    }

    /// How many units of work were forgotten since the last time, because there were too many.
    pub fn take_evicted_units(&mut self) -> u64 {
        self.background.take_evicted()
    }

    /// The number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.ledger.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, place: Place, position: u64) -> Option<NodeId> {
        self.tree.ledger.find(place.cookie, place.role, position)
    }

    /// Whether more will be known later than `by`: the request is a call, or belongs to one, whose owner is found by the
    /// response to a request that is still open.
    #[must_use]
    pub fn is_undecided(&self, id: NodeId, by: u64) -> bool {
        self.ladder.is_undecided(&self.tree, id, by)
    }

    /// Decides where the request stands in its trace, and forgets it unless others need it. `answered`: a response to it was
    /// seen.
    pub fn settle(&mut self, id: NodeId, start: u64, end: u64, answered: bool) -> Option<Settled> {
        self.tree.get(id)?;
        self.ladder.responders.judge(&self.tree, id);
        self.ladder.choose_parent(&mut self.tree, &self.background, id);
        self.skip_abandoned(id);
        let after = self.request_before(id);
        let (start, end) = join::bounds(&self.tree, id, start, end);
        let trace = self.trace_of(id);
        let node = self.tree.get(id)?;
        let span_id = node.span_id;
        let parent = match node.link {
            Link::None => None,
            Link::Remote | Link::Environment => node.remote_parent().map(|context| Parent {
                span_id: SpanId::from_bytes(context.span_id),
                evidence: if node.link == Link::Remote { Evidence::Wire } else { Evidence::Environment },
                remote: true,
            }),
            Link::Node(parent, evidence) => {
                self.tree.get(parent).map(|parent| Parent { span_id: parent.span_id, evidence, remote: false })
            }
        };
        let late = node.late.and_then(|late| self.tree.get(late)).map(|late| {
            let trace_id = if late.is_frozen { late.trace.trace_id } else { trace.trace_id };
            (trace_id, late.span_id)
        });
        let started_by = node.started_by().filter(|_| node.has_late_environment);
        let late =
            late.or_else(|| started_by.map(|at| (TraceId::from_bytes(at.trace_id), SpanId::from_bytes(at.span_id))));
        let link = late.or(after).map(|(trace_id, span_id)| {
            Box::new(SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::default()))
        });
        match node.role {
            Role::Client if node.link == Link::None => {
                let (caller, start) = (node.caller, node.start);
                if caller.is_idle && self.tree.ledger.was_idle(node.tgid, start) {
                    self.background.idle_call(node.tgid, node.cookie, &caller, start);
                }
            }
            Role::Client => {}
            Role::Server => {
                let exported = LastRead::Exported(trace.trace_id, span_id);
                self.background.settled(node.tgid, node.caller.unit, id, exported);
            }
        }
        let settled = Settled {
            trace_id: trace.trace_id,
            span_id,
            parent,
            trace_state: trace.trace_state.as_deref().unwrap_or_default().into(),
            found_late: late.is_some(),
            link,
            start,
            end,
            left_to_sdk: ladder::is_reported_by_sdk(&mut self.tree, id),
        };
        if answered || !self.joins.await_other_end(&mut self.tree, id, end) {
            self.remove(id);
        }
        Some(settled)
    }

    /// The request after whose response its own unit of work made this call, which has no parent.
    fn request_before(&mut self, id: NodeId) -> Option<(TraceId, SpanId)> {
        let call = self.tree.get(id).filter(|node| node.role == Role::Client && node.link == Link::None)?;
        match call.caller.read? {
            LastRead::Exported(trace_id, span_id) => Some((trace_id, span_id)),
            LastRead::Unsettled(request) => {
                let node = self.tree.get(request)?;
                if node.is_abandoned || node.is_ignored || node.in_flight_at(call.start) {
                    return None;
                }
                let trace = self.trace_of(request);
                Some((trace.trace_id, self.tree.get(request)?.span_id))
            }
            LastRead::Unknown => None,
        }
    }

    /// Replaces a parent that will have no span by the parent's own parent. The weaker evidence counts.
    fn skip_abandoned(&mut self, id: NodeId) {
        while let Some((parent, rung)) = self.tree.parent(id)
            && self.tree.get(parent).is_some_and(|parent| parent.is_abandoned)
        {
            match self.tree.parent(parent) {
                Some((above, its)) if self.tree.set_parent(id, above, rung.max(its)) => {}
                // It was exported in that trace already, which must not get a second root.
                _ if self.tree.get(id).is_some_and(|node| node.is_frozen) => return,
                _ => self.tree.clear_parent(id),
            }
        }
    }

    /// The trace of the node. From now on it is that of the node and of all nodes above: its id is exported.
    fn trace_of(&mut self, id: NodeId) -> node::Trace {
        let mut path = std::mem::take(&mut self.path);
        path.push(id);
        let mut at = id;
        while let Some((parent, _)) = self.tree.parent(at) {
            if path.len() == DEEPEST || path.contains(&parent) {
                break;
            }
            self.ladder.choose_parent(&mut self.tree, &self.background, parent);
            path.push(parent);
            at = parent;
        }
        let mut trace = self.tree.get(at).map(Node::trace).unwrap_or_default();
        for id in path.drain(..).rev() {
            let Some(node) = self.tree.get_mut(id) else { continue };
            match node.is_frozen || node.sends_context {
                false => {
                    node.is_frozen = true;
                    node.trace = trace.clone();
                }
                true if node.trace.trace_id != trace.trace_id => {
                    // It was exported or sent under another id before this parent was found.
                    node.is_frozen = true;
                    trace = node.trace.clone();
                    match std::mem::replace(&mut node.link, Link::None) {
                        Link::Node(parent, _) => {
                            if let Some(before) = node.late.replace(parent) {
                                self.tree.release(before);
                            }
                        }
                        Link::Environment => node.has_late_environment = true,
                        Link::None | Link::Remote => {}
                    }
                }
                true => {
                    node.is_frozen = true;
                    node.trace = trace.clone();
                }
            }
        }
        self.path = path;
        trace
    }

    fn remove(&mut self, id: NodeId) {
        self.ladder.responders.forget(&self.tree, id);
        self.joins.forget(&mut self.tree, id);
        self.tree.remove(id);
    }
}

#[cfg(test)]
mod tests;
