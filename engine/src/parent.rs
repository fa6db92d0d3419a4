//! Settles whose child each exchange is, by the ladder of evidence.
//!
//! Every request is a node from its beginning on, because calls made on its behalf end before it does. A node's parent
//! is found when it begins (the kernel named its owner), when the other end of its connection is seen (both ends on
//! this host), or when it is settled, a moment after its end: late enough for what overtook it, soon enough for people.
//! A trace's id is that of its root, as long as nothing of the trace was sent under another.

mod join;
mod ladder;
mod ledger;
mod node;

use std::collections::VecDeque;

use onlooker_protocols::Begun;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use rustc_hash::FxHashMap;

use crate::connections::{Origin, Place};
use crate::model::span::{Evidence, Parent, Role};
use ledger::Ledger;
use node::{Link, Node};

pub use ledger::NodeId;

/// What is settled of a node when its span is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent: Option<Parent>,
    pub trace_state: compact_str::CompactString,
    /// The parent found too late for one trace.
    pub link: Option<SpanContext>,
    /// Both ends are on this host and their clocks are one: the span's bounds, corrected by the other end's.
    pub start: u64,
    pub end: u64,
    /// An SDK in the calling program tells of this call itself.
    pub left_to_sdk: bool,
    pub found_late: bool,
}

/// A request that is nobody's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned {
    /// Spans were told that it is their parent.
    pub was_parent: bool,
}

/// Every request in flight, and those that ended a moment ago.
#[derive(Debug, Default)]
pub struct Parents {
    ledger: Ledger,
    /// Cookie of the other end, for connections with both ends on this host.
    other_end: FxHashMap<u64, u64>,
    /// Requests whose other end has not been seen: by sequence numbers, as either end knows them.
    unjoined: FxHashMap<(Role, u32, u32), NodeId>,
    /// When the first request began that was seen; 0 before.
    began: u64,
    /// Processes in which threads prove nothing, and until when that is so: calls are settled after their process has ended.
    loops: FxHashMap<u32, u64>,
    /// Some of them is over.
    loops_ended: bool,
    /// Calls that ended without an answer while their other end had not been seen, and until when it is waited for.
    unanswered: VecDeque<(u64, NodeId)>,
    /// Reused from call to call: a way upwards, and what is to be swept.
    path: Vec<NodeId>,
    to_sweep: Vec<NodeId>,
}

/// How long a process that serves connections from before the agent came may still be working on requests that were read
/// before it came.
const UNSEEN_REQUESTS: u64 = 10_000_000_000;

/// How long it is remembered that a process that is gone ran a loop: longer than calls wait to be settled.
const LOOP_REMEMBERED: u64 = 1_000_000_000;

/// Longer chains of calls within one host are a loop.
const DEEPEST: usize = 64;

impl Parents {
    /// A process was seen to run an event loop: what its threads proved before is no proof.
    pub fn runs_loop(&mut self, tgid: u32) {
        self.loops.insert(tgid, u64::MAX);
    }

    /// At `nanos` the process ended, or began to run another program.
    pub fn process_ended(&mut self, tgid: u32, nanos: u64) {
        if let Some(until) = self.loops.get_mut(&tgid) {
            *until = nanos;
            self.loops_ended = true;
        }
    }

    /// Lets time pass until `now`.
    pub fn advance(&mut self, now: u64) {
        if self.loops_ended {
            self.loops_ended = false;
            self.loops.retain(|_, until| {
                let over = *until < now.saturating_sub(LOOP_REMEMBERED);
                self.loops_ended |= !over && *until != u64::MAX;
                !over
            });
        }
        self.forget_unanswered(now);
    }

    /// A request begins. Its identity is `(place.cookie, begun.start.position)`.
    pub fn begin(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>) -> NodeId {
        let node = Node::new(place, begun, origin);
        let named = (place.role == Role::Client).then_some(node.owner).flatten();
        let id = self.ledger.insert(node);
        if self.began == 0 {
            self.began = begun.start.nanos;
        }
        match place.role {
            Role::Client => self.note_contest(id),
            Role::Server => {
                let until = self.began + UNSEEN_REQUESTS;
                if begun.start.nanos < until && origin.is_some_and(|origin| !origin.from_start) {
                    self.ledger.may_have_others(place.tgid, until);
                }
            }
        }
        if let Some(owner) = named {
            self.link_to_owner(id, &owner, begun.start.nanos);
        }
        if let Some(origin) = origin {
            self.join(id, place, begun.start.position, origin);
        }
        id
    }

    /// More of the request that began at `position` comes in another run, to which the kernel gave this id.
    pub fn goes_on(&mut self, cookie: u64, position: u64, run: u64) {
        if let Some(node) = self.ledger.find(cookie, position).and_then(|id| self.ledger.get_mut(id)) {
            node.runs[1] = run;
        }
    }

    /// The request that began at `position` ended at `nanos`: `complete` if with the last byte of its answer. It is settled a
    /// moment later.
    pub fn finish(&mut self, cookie: u64, position: u64, nanos: u64, complete: bool) -> Option<NodeId> {
        let id = self.ledger.find(cookie, position)?;
        self.ledger.end(id, nanos, complete).then_some(id)
    }

    /// The request is nobody's span: forget it.
    pub fn abandon(&mut self, cookie: u64, position: u64) -> Abandoned {
        let Some(id) = self.ledger.find(cookie, position) else { return Abandoned { was_parent: false } };
        let was_parent = self.ledger.get(id).is_some_and(|node| node.is_frozen);
        if let Some(node) = self.ledger.get_mut(id) {
            node.untold = true;
        }
        self.remove(id);
        Abandoned { was_parent }
    }

    /// The connection is over.
    pub fn connection_ended(&mut self, cookie: u64) {
        if let Some(other) = self.other_end.remove(&cookie) {
            self.other_end.remove(&other);
        }
    }

    /// How many nodes are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ledger.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ledger.len() == 0
    }

    /// Says where the request stands in its trace, and forgets it unless others still ask. `answered`: whether a response
    /// to it was seen.
    pub fn settle(&mut self, id: NodeId, start: u64, end: u64, answered: bool) -> Option<Settled> {
        self.ledger.get(id)?;
        self.choose_parent(id);
        self.skip_untold(id);
        let (start, end) = self.bounds(id, start, end);
        let context = self.trace_of(id);
        let node = self.ledger.get(id)?;
        let span_id = node.span_id;
        let parent = match node.link {
            Link::None => None,
            Link::Remote => node.wire.as_ref().map(|wire| Parent {
                span_id: SpanId::from_bytes(wire.span_id),
                evidence: Evidence::Wire,
                remote: true,
            }),
            Link::Node(parent, evidence) => {
                self.ledger.get(parent).map(|parent| Parent { span_id: parent.span_id, evidence, remote: false })
            }
        };
        let link = node.late.and_then(|late| self.ledger.get(late)).map(|late| {
            let trace_id = if late.is_frozen { late.trace.trace_id } else { context.trace_id };
            SpanContext::new(trace_id, late.span_id, TraceFlags::SAMPLED, false, TraceState::default())
        });
        let settled = Settled {
            trace_id: context.trace_id,
            span_id,
            parent,
            trace_state: context.trace_state.as_deref().unwrap_or_default().into(),
            found_late: link.is_some(),
            link,
            start,
            end,
            left_to_sdk: self.told_by_sdk(id),
        };
        if answered || !self.await_other_end(id, end) {
            self.remove(id);
        }
        Some(settled)
    }

    /// A request that will be no span is nobody's parent: its own is.
    fn skip_untold(&mut self, id: NodeId) {
        while let Some(Link::Node(parent, rung)) = self.ledger.get(id).map(|node| node.link)
            && let Some(untold) = self.ledger.get(parent).filter(|parent| parent.untold)
        {
            let above = untold.link;
            match above {
                Link::Node(above, its) if self.set_parent(id, above, rung.max(its)) => {}
                _ => self.clear_parent(id),
            }
        }
    }

    /// Whether `id` has `above` among those it was made for.
    fn is_below(&self, id: NodeId, above: NodeId) -> bool {
        let mut at = id;
        for _ in 0..DEEPEST {
            match self.ledger.get(at).map(|node| node.link) {
                Some(Link::Node(parent, _)) if parent == above => return true,
                Some(Link::Node(parent, _)) => at = parent,
                _ => return false,
            }
        }
        true
    }

    /// False, and nothing is changed, if `parent` was itself made for `id`.
    fn set_parent(&mut self, id: NodeId, parent: NodeId, rung: Evidence) -> bool {
        if parent == id || self.is_below(parent, id) {
            return false;
        }
        self.ledger.hold(parent);
        let Some(node) = self.ledger.get_mut(id) else {
            self.release(parent);
            return false;
        };
        if let Link::Node(before, _) = std::mem::replace(&mut node.link, Link::Node(parent, rung)) {
            self.release(before);
        }
        true
    }

    fn clear_parent(&mut self, id: NodeId) {
        if let Some(node) = self.ledger.get_mut(id)
            && let Link::Node(before, _) = std::mem::replace(&mut node.link, Link::None)
        {
            self.release(before);
        }
    }

    /// The trace the node belongs to. From now on that is so for it and for all above it: something of it is sent.
    fn trace_of(&mut self, id: NodeId) -> node::Trace {
        let mut path = std::mem::take(&mut self.path);
        path.push(id);
        let mut at = id;
        while let Some(Link::Node(parent, _)) = self.ledger.get(at).map(|node| node.link) {
            if path.len() == DEEPEST || path.contains(&parent) {
                break;
            }
            self.choose_parent(parent);
            path.push(parent);
            at = parent;
        }
        let mut trace = self.ledger.get(at).map(Node::trace).unwrap_or_default();
        for id in path.drain(..).rev() {
            let Some(node) = self.ledger.get_mut(id) else { continue };
            match node.is_frozen {
                false => {
                    node.is_frozen = true;
                    node.trace = trace.clone();
                }
                true if node.trace.trace_id != trace.trace_id => {
                    // Sent under another id before this parent was found.
                    trace = node.trace.clone();
                    if let Link::Node(parent, _) = std::mem::replace(&mut node.link, Link::None)
                        && let Some(before) = node.late.replace(parent)
                    {
                        self.release(before);
                    }
                }
                true => {}
            }
        }
        self.path = path;
        trace
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.ledger.get_mut(id) {
            node.settled = true;
            if let Some(key) = node.unjoined.take() {
                self.unjoined.remove(&key);
            }
        }
        self.sweep(id);
    }

    fn release(&mut self, id: NodeId) {
        self.ledger.release(id);
        self.sweep(id);
    }

    /// Drops the node if it is settled and nobody asks for it any more, and so on upwards.
    fn sweep(&mut self, id: NodeId) {
        let mut next = std::mem::take(&mut self.to_sweep);
        next.push(id);
        while let Some(id) = next.pop() {
            for released in self.ledger.take_if_done(id).into_iter().flatten() {
                self.ledger.release(released);
                next.push(released);
            }
        }
        self.to_sweep = next;
    }
}

#[cfg(test)]
mod tests;
