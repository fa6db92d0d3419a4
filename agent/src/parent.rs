//! Settles whose child each exchange is, by the ladder of evidence.
//!
//! Every request is a node from its beginning on, because calls made on its behalf end before it does. A node's parent
//! is found when it begins (the kernel named its owner), when the other end of its connection is seen (both ends on
//! this host), or when it is settled, a moment after its end: late enough for what overtook it, soon enough for people.
//! A trace's id is that of its root, as long as nothing of the trace was sent under another.

mod ledger;
mod node;

use std::collections::VecDeque;

use onlooker_protocols::Begun;
use onlooker_protocols::propagation::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::span::{Evidence, Parent, Role};
use crate::stream::{Origin, Place};
use ledger::Ledger;
use node::{Link, Named, Node};

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
    /// Processes in which threads prove nothing.
    loops: FxHashSet<u32>,
    /// Calls that ended without an answer while their other end had not been seen, and until when it is waited for.
    unanswered: VecDeque<(u64, NodeId)>,
    /// Reused from call to call: a way upwards, and what is to be swept.
    path: Vec<NodeId>,
    to_sweep: Vec<NodeId>,
}

/// How much later than the server's read the return of the client's write may be told: its thread may be off the
/// processor in between. That the numbers of two messages are the same by chance is out of the question.
const RETURN_LAG: u64 = 1_000_000_000;

/// How long a call that nobody answered waits for the server to read it, and how many do: a busy server comes to what is
/// in its queue when the caller has long gone.
const UNANSWERED_WAIT: u64 = 10_000_000_000;
const UNANSWERED_KEPT: usize = 4096;

/// Longer chains of calls within one host are a loop.
const DEEPEST: usize = 64;

impl Parents {
    /// A process was seen to run an event loop: what its threads proved before is no proof.
    pub fn runs_loop(&mut self, tgid: u32) {
        self.loops.insert(tgid);
    }

    pub fn process_ended(&mut self, tgid: u32) {
        self.loops.remove(&tgid);
    }

    /// A request begins. Its identity is `(place.cookie, begun.start.position)`.
    pub fn begin(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>) -> NodeId {
        let node = Node::new(place, begun, origin);
        let named = (place.role == Role::Client).then_some(node.owner).flatten();
        let id = self.ledger.insert(node);
        if let Some(owner) = named {
            self.link_to_owner(id, &owner, begun.start.nanos);
        }
        if let Some(origin) = origin {
            self.join(id, place, begun.start.position, origin);
        }
        id
    }

    /// The request that began at `position` ended at `nanos`. It is settled a moment later.
    pub fn finish(&mut self, cookie: u64, position: u64, nanos: u64) -> Option<NodeId> {
        let id = self.ledger.find(cookie, position)?;
        self.ledger.get_mut(id)?.end = Some(nanos);
        Some(id)
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

    /// Lets time pass until `now`.
    pub fn advance(&mut self, now: u64) {
        while let Some(&(until, waiting)) = self.unanswered.front()
            && (until <= now || self.unanswered.len() >= UNANSWERED_KEPT)
        {
            self.unanswered.pop_front();
            self.remove(waiting);
        }
    }

    /// Keeps a call that nobody answered a while, for its other end to find it. Whether that can be.
    fn await_other_end(&mut self, id: NodeId, end: u64) -> bool {
        match self.ledger.get_mut(id) {
            Some(node) if node.unjoined.is_some() && node.role == Role::Client => node.settled = true,
            _ => return false,
        }
        self.unanswered.push_back((end.saturating_add(UNANSWERED_WAIT), id));
        true
    }

    /// A request that will be no span is nobody's parent: its own is.
    fn skip_untold(&mut self, id: NodeId) {
        while let Some(Link::Node(parent, rung)) = self.ledger.get(id).map(|node| node.link)
            && let Some(untold) = self.ledger.get(parent).filter(|parent| parent.untold)
        {
            match untold.link {
                Link::Node(above, its) => self.set_parent(id, above, rung.max(its)),
                Link::None | Link::Remote => self.clear_parent(id),
            }
        }
    }

    /// Joins both ends of a connection on this host.
    fn join(&mut self, id: NodeId, place: Place, position: u64, origin: &Origin) {
        if origin.peer != 0 {
            self.other_end.insert(place.cookie, origin.peer);
            self.other_end.insert(origin.peer, place.cookie);
        }
        if let Some(&other) = self.other_end.get(&place.cookie) {
            let found = self.ledger.at_sequence(other, position as u32);
            if let Some(found) = found.filter(|&found| !origin.unix || self.agree(id, found)) {
                self.connect(id, found);
            }
            return;
        }
        if origin.unix {
            // Its positions are like those of any other: only the kernel knows who is at the other end, and one of the two
            // ends will say so.
            return;
        }
        if origin.position != position {
            // Not the first request of its run: both ends need not agree on how far the other direction had come.
            return;
        }
        let (sequence, opposite) = (position as u32, origin.opposite as u32);
        let other_role = if place.role == Role::Client { Role::Server } else { Role::Client };
        match self.unjoined.remove(&(other_role, sequence, opposite)) {
            Some(found) => {
                if let Some(node) = self.ledger.get_mut(found) {
                    node.unjoined = None;
                }
                if let Some(other) = self.connect(id, found) {
                    self.other_end.insert(place.cookie, other);
                    self.other_end.insert(other, place.cookie);
                }
            }
            None => {
                let key = (place.role, sequence, opposite);
                self.unjoined.insert(key, id);
                if let Some(node) = self.ledger.get_mut(id) {
                    node.unjoined = Some(key);
                }
            }
        }
    }

    /// Whether both ends count alike in both directions. The ends of a unix socket count from what each was first seen
    /// to move: if something was under way just then, they never agree, and never join.
    fn agree(&self, one: NodeId, other: NodeId) -> bool {
        let opposite = |id| self.ledger.get(id).and_then(|node| node.opposite);
        opposite(one).is_some() && opposite(one) == opposite(other)
    }

    /// `one` and `other` are the two ends of one exchange. Gives the other's connection, if that can be.
    fn connect(&mut self, one: NodeId, other: NodeId) -> Option<u64> {
        let (a, b) = (self.ledger.get(one)?, self.ledger.get(other)?);
        let (client, server) = match (a.role, b.role) {
            (Role::Client, Role::Server) => (one, other),
            (Role::Server, Role::Client) => (other, one),
            // Both ends take themselves for the same: content misled one of them.
            _ => return None,
        };
        let (c, s) = if client == one { (a, b) } else { (b, a) };
        // What the server read was sent before.
        if c.start > s.start.saturating_add(RETURN_LAG) || c.joined.is_some() || s.joined.is_some() {
            return None;
        }
        let connection = b.cookie;
        let earlier = c.start.min(s.start);
        for (node, joined) in [(client, server), (server, client)] {
            if let Some(node) = self.ledger.get_mut(node) {
                node.joined = Some(joined);
            }
        }
        if let Some(client) = self.ledger.get_mut(client) {
            // Its write returned after the peer had read.
            client.start = earlier;
        }
        if self.is_below(client, server) {
            // A process that asks itself: what it serves was taken for what it asks on behalf of.
            self.clear_parent(client);
        }
        self.set_parent(server, client, Evidence::Host);
        Some(connection)
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

    /// Links a call to the request that the kernel says it is made for.
    fn link_to_owner(&mut self, id: NodeId, owner: &Named, at: u64) {
        if let Some(parent) = self.ledger.in_flight(owner.cookie, owner.run, at) {
            self.set_parent(id, parent, owner.rung);
        }
    }

    fn set_parent(&mut self, id: NodeId, parent: NodeId, rung: Evidence) {
        if parent == id || self.is_below(parent, id) {
            return;
        }
        self.ledger.hold(parent);
        let before = match self.ledger.get_mut(id) {
            Some(node) => std::mem::replace(&mut node.link, Link::Node(parent, rung)),
            None => return self.release(parent),
        };
        if let Link::Node(before, _) = before {
            self.release(before);
        }
    }

    fn clear_parent(&mut self, id: NodeId) {
        if let Some(node) = self.ledger.get_mut(id)
            && let Link::Node(before, _) = std::mem::replace(&mut node.link, Link::None)
        {
            self.release(before);
        }
    }

    /// Decides on the highest rung there is.
    fn choose_parent(&mut self, id: NodeId) {
        match self.ledger.get(id).map(|node| node.role) {
            Some(Role::Server) => self.choose_callers_span(id),
            Some(Role::Client) => self.choose_owner(id),
            None => {}
        }
    }

    /// A server's parent is the call that reached it: as the wire says, or as both ends of the connection show.
    fn choose_callers_span(&mut self, id: NodeId) {
        let Some(node) = self.ledger.get(id) else { return };
        if node.wire.is_none() {
            return;
        }
        // A header that the caller only passed on names the caller's own parent: the call itself is nearer.
        if let Link::Node(call, _) = node.link {
            self.choose_parent(call);
            if !self.told_by_sdk(call) {
                return;
            }
            self.clear_parent(id);
        }
        if let Some(node) = self.ledger.get_mut(id) {
            node.link = Link::Remote;
        }
    }

    /// A call's parent is the request that it was made for.
    fn choose_owner(&mut self, id: NodeId) {
        let Some(node) = self.ledger.get(id) else { return };
        let (tgid, start, owner, link) = (node.tgid, node.start, node.owner, node.link);
        match link {
            // Named by the kernel before the agent knew the request.
            Link::None => {
                if let Some(owner) = owner {
                    self.link_to_owner(id, &owner, start);
                }
            }
            // What was open when the call began, as far as was known then, may have been over.
            Link::Node(parent, _) if !self.ledger.get(parent).is_some_and(|parent| parent.in_flight_at(start)) => {
                self.clear_parent(id);
            }
            Link::Node(..) | Link::Remote => {}
        }
        let Some(node) = self.ledger.get(id) else { return };
        let (has_context, has_correlation) = (node.wire.is_some(), node.correlation.is_some());
        let rung = match node.link {
            Link::Node(_, rung) => Some(rung),
            Link::None | Link::Remote => None,
        };
        // The thread proved something only if the process turned out to run no loop.
        if rung == Some(Evidence::Thread) {
            if !self.loops.contains(&tgid) {
                return;
            }
            self.clear_parent(id);
        }
        if rung == Some(Evidence::Wire) {
            return;
        }
        if has_context && let Some(parent) = self.only_request(id, passes_on) {
            return self.set_parent(id, parent, Evidence::Wire);
        }
        if has_correlation && let Some(parent) = self.only_request(id, same_correlation) {
            return self.set_parent(id, parent, Evidence::CorrelationId);
        }
        if matches!(rung, Some(Evidence::Connect | Evidence::Tick)) {
            return;
        }
        if let Some(parent) = self.only_request(id, |_, _| true) {
            self.set_parent(id, parent, Evidence::OnlyCandidate);
        }
    }

    /// The one request that the call's process was working on and that `fits` the call. What the call itself led to, where a
    /// process asks itself, does not count.
    fn only_request(&self, id: NodeId, fits: impl Fn(&Node, &Node) -> bool) -> Option<NodeId> {
        let call = self.ledger.get(id)?;
        self.ledger.only_request(call.tgid, |other, request| {
            request.in_flight_at(call.start) && fits(call, request) && !self.is_below(other, id)
        })
    }

    /// Whether a call carries a trace context that its own process made: an SDK tells of it. One that was only passed
    /// on from a request that the process was working on is no sign of that.
    fn told_by_sdk(&mut self, id: NodeId) -> bool {
        let Some(call) = self.ledger.get(id).filter(|node| node.role == Role::Client && node.wire.is_some()) else {
            return false;
        };
        if call.passes_on {
            return false;
        }
        let working_on = |request: &Node| request.in_flight_at(call.start);
        let found =
            self.ledger.requests_of(call.tgid).any(|(_, request)| working_on(request) && passes_on(call, request));
        if let Some(call) = self.ledger.get_mut(id) {
            // The request may be forgotten when it is asked again.
            call.passes_on = found;
        }
        !found
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
                    if let Link::Node(parent, _) = std::mem::replace(&mut node.link, Link::None) {
                        node.late = Some(parent);
                    }
                }
                true => {}
            }
        }
        self.path = path;
        trace
    }

    /// A span's bounds: what both ends say, the earlier.
    fn bounds(&self, id: NodeId, start: u64, end: u64) -> (u64, u64) {
        let Some(node) = self.ledger.get(id) else { return (start, end) };
        let Some(other) = node.joined.and_then(|joined| self.ledger.get(joined)) else {
            return (start.min(node.start), end);
        };
        match node.role {
            Role::Client => (start.min(node.start), end),
            // The write of the answer returned after the peer had read it.
            Role::Server => (start, other.end.map_or(end, |theirs| end.min(theirs)).max(start)),
        }
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

/// Whether the call carries the trace context that came with the request.
fn passes_on(call: &Node, request: &Node) -> bool {
    let same = |sent: &TraceContext, received: &TraceContext| {
        sent.trace_id == received.trace_id && sent.span_id == received.span_id
    };
    call.wire.as_ref().zip(request.wire.as_ref()).is_some_and(|(sent, received)| same(sent, received))
}

/// Whether both carry the same request id.
fn same_correlation(call: &Node, request: &Node) -> bool {
    call.correlation == request.correlation
}

#[cfg(test)]
mod tests;
