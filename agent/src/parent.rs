//! Settles whose child each exchange is, by the ladder of evidence.
//!
//! Every request is a node from its beginning on, because calls made on its behalf end before it does. A node's parent
//! is found when it begins (the kernel named its owner), when the other end of its connection is seen (both ends on
//! this host), or when it is settled, a moment after its end: late enough for what overtook it, soon enough for people.
//! A trace's id is that of its root, as long as nothing of the trace was sent under another.

mod ledger;
mod node;

use onlooker_common::context::{Owner, evidence};
use onlooker_protocols::Begun;
use onlooker_protocols::propagation::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::span::{Evidence, Parent, Role};
use crate::stream::Origin;
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

/// Where a request begins: what `begin` is told.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub cookie: u64,
    pub tgid: u32,
    pub role: Role,
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
}

/// How much later than the server's read the return of the client's write may be told: its thread may be off the
/// processor in between.
const RETURN_LAG: u64 = 20_000_000;

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

    /// The node of a request that began.
    #[must_use]
    pub fn find(&self, cookie: u64, position: u64) -> Option<NodeId> {
        self.ledger.find(cookie, position)
    }

    /// The request ended at `nanos`. It is settled a moment later.
    pub fn finish(&mut self, id: NodeId, nanos: u64) {
        if let Some(node) = self.ledger.get_mut(id) {
            node.end = Some(nanos);
        }
    }

    /// The request is nobody's span: forget it.
    pub fn abandon(&mut self, cookie: u64, position: u64) {
        if let Some(id) = self.ledger.find(cookie, position) {
            self.remove(id);
        }
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

    /// Says where the request stands in its trace, and forgets it unless others still ask.
    pub fn settle(&mut self, id: NodeId, start: u64, end: u64) -> Option<Settled> {
        self.ledger.get(id)?;
        self.choose_parent(id);
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
            let trace_id = late.frozen.as_ref().map_or(context.trace_id, |trace| trace.trace_id);
            SpanContext::new(trace_id, late.span_id, TraceFlags::SAMPLED, false, TraceState::default())
        });
        let settled = Settled {
            trace_id: context.trace_id,
            span_id,
            parent,
            trace_state: context.trace_state,
            found_late: link.is_some(),
            link,
            start,
            end,
            left_to_sdk: self.told_by_sdk(id),
        };
        self.remove(id);
        Some(settled)
    }

    /// Joins both ends of a connection on this host.
    fn join(&mut self, id: NodeId, place: Place, position: u64, origin: &Origin) {
        if origin.peer != 0 {
            self.other_end.insert(place.cookie, origin.peer);
            self.other_end.insert(origin.peer, place.cookie);
        }
        if let Some(&other) = self.other_end.get(&place.cookie) {
            let found = self.ledger.at_sequence(other, position as u32);
            if let Some(found) = found.filter(|&found| origin.peer == 0 || self.agree(id, found)) {
                self.connect(id, found);
            }
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
                    let other = node.cookie;
                    self.other_end.insert(place.cookie, other);
                    self.other_end.insert(other, place.cookie);
                }
                self.connect(id, found);
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

    /// `one` and `other` are the two ends of one exchange.
    fn connect(&mut self, one: NodeId, other: NodeId) {
        let (Some(a), Some(b)) = (self.ledger.get(one), self.ledger.get(other)) else { return };
        let (client, server) = match (a.role, b.role) {
            (Role::Client, Role::Server) => (one, other),
            (Role::Server, Role::Client) => (other, one),
            // Both ends take themselves for the same: content misled one of them.
            _ => return,
        };
        let (c, s) = if client == one { (a, b) } else { (b, a) };
        // What the server read was sent before, and by a request that was still open.
        if c.start > s.start.saturating_add(RETURN_LAG) || c.joined.is_some() || s.joined.is_some() {
            return;
        }
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
        self.set_parent(server, client, Evidence::Host);
    }

    /// Links a call to the request that the kernel says it is made for.
    fn link_to_owner(&mut self, id: NodeId, owner: &Owner, at: u64) {
        let rung = match owner.evidence {
            evidence::THREAD => Evidence::Thread,
            evidence::CONNECT => Evidence::Connect,
            evidence::TICK => Evidence::Tick,
            _ => return,
        };
        if let Some(parent) = self.ledger.in_flight(owner.cookie, owner.position, at) {
            self.set_parent(id, parent, rung);
        }
    }

    fn set_parent(&mut self, id: NodeId, parent: NodeId, rung: Evidence) {
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
        // Named by the kernel before the agent knew the request.
        if link == Link::None
            && let Some(owner) = owner
        {
            self.link_to_owner(id, &owner, start);
        }
        let rung = match self.ledger.get(id).map(|node| node.link) {
            Some(Link::Node(_, rung)) => Some(rung),
            _ => None,
        };
        // The thread proved something only if the process turned out to run no loop.
        if rung == Some(Evidence::Thread) {
            if !self.loops.contains(&tgid) {
                return;
            }
            self.clear_parent(id);
        }
        if let Some(parent) = self.same_correlation(id) {
            return self.set_parent(id, parent, Evidence::CorrelationId);
        }
        if matches!(rung, Some(Evidence::Connect | Evidence::Tick)) {
            return;
        }
        if let Some(parent) = self.ledger.only_request(tgid, start) {
            self.set_parent(id, parent, Evidence::OnlyCandidate);
        }
    }

    /// The one open request of the process that carries the same request id.
    fn same_correlation(&self, id: NodeId) -> Option<NodeId> {
        let node = self.ledger.get(id)?;
        let wanted = node.correlation.as_ref()?;
        let mut same = self
            .ledger
            .requests_of(node.tgid)
            .filter(|(_, request)| request.in_flight_at(node.start) && request.correlation.as_ref() == Some(wanted));
        let (found, _) = same.next()?;
        same.next().is_none().then_some(found)
    }

    /// Whether a call carries a trace context that its own process made: an SDK tells of it. One that was only passed
    /// on from the request it is made for is no sign of that.
    fn told_by_sdk(&self, id: NodeId) -> bool {
        let Some(node) = self.ledger.get(id) else { return false };
        let (Role::Client, Some(sent)) = (node.role, &node.wire) else { return false };
        let received = match node.link {
            Link::Node(request, _) => self.ledger.get(request).and_then(|request| request.wire.as_ref()),
            _ => None,
        };
        let passed_on = |context: &TraceContext| context.trace_id == sent.trace_id && context.span_id == sent.span_id;
        !received.is_some_and(passed_on)
    }

    /// The trace the node belongs to. From now on that is so for it and for all above it: something of it is sent.
    fn trace_of(&mut self, id: NodeId) -> node::Trace {
        /// Longer chains of calls within one host are a loop.
        const DEEPEST: usize = 64;
        let mut path = vec![id];
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
        for id in path.into_iter().rev() {
            let Some(node) = self.ledger.get_mut(id) else { continue };
            match &node.frozen {
                None => node.frozen = Some(trace.clone()),
                Some(frozen) if frozen.trace_id != trace.trace_id => {
                    // Sent under another id before this parent was found.
                    trace = frozen.clone();
                    if let Link::Node(parent, _) = std::mem::replace(&mut node.link, Link::None) {
                        node.late = Some(parent);
                    }
                }
                Some(_) => {}
            }
        }
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
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            for released in self.ledger.take_if_done(id) {
                self.ledger.release(released);
                next.push(released);
            }
        }
    }
}

#[cfg(test)]
mod tests;
