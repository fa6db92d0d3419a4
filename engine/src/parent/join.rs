//! Joins the two ends of a connection on this host: which two nodes are one exchange, and what each end knows better.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::id::NodeId;
use super::node::Numbers;
use super::tree::Tree;
use crate::model::span::{Evidence, Role};
use crate::observer::Place;
use crate::origin::Origin;

/// How much later than the server's read the client's write may be recorded: the client's thread may lose its processor
/// in between. Two messages have equal numbers by chance only over far longer times.
const RETURN_LAG: u64 = 1_000_000_000;

/// How long a call without a response waits for the server to read it, and how many calls wait. A busy server reads a
/// request long after its client has gone.
const UNANSWERED_WAIT: u64 = 10_000_000_000;
const MAX_UNANSWERED: usize = 4096;

/// What is known of connections with both ends on this host.
#[derive(Debug, Default)]
pub(super) struct Joins {
    /// By cookie.
    other_end: FxHashMap<u64, OtherEnd>,
    /// Requests whose other end has not been seen. Empty until `has_calls`.
    unjoined: FxHashMap<Numbers, NodeId>,
    /// A call was seen that can be joined by its numbers. Where processes only serve, nothing has to be found.
    has_calls: bool,
    /// Calls that ended without a response before their other end was seen, and until when each waits for it.
    unanswered: VecDeque<(u64, NodeId)>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
struct OtherEnd {
    cookie: u64,
    counts: Counting,
}

/// How the other end counts, compared with this one.
#[derive(Debug, Clone, Copy)]
enum Counting {
    Alike,
    /// Requests in which this end has the role are `by` further there. Only two ends that count by themselves differ.
    Apart {
        role: Role,
        by: u32,
    },
}

impl OtherEnd {
    /// The sequence number that a request has there.
    fn sequence(self, role: Role, position: u64) -> Option<u32> {
        match self.counts {
            Counting::Alike => Some(position as u32),
            Counting::Apart { role: counted, by } => (role == counted).then(|| (position as u32).wrapping_add(by)),
        }
    }
}

impl Joins {
    /// The connection is over.
    pub(super) fn connection_ended(&mut self, cookie: u64) {
        if let Some(other) = self.other_end.remove(&cookie) {
            self.other_end.remove(&other.cookie);
        }
    }

    /// The node waits for its other end no longer.
    pub(super) fn forget(&mut self, tree: &mut Tree, id: NodeId) {
        if let Some(numbers) = tree.get_mut(id).and_then(|node| node.unjoined.take()) {
            self.unjoined.remove(&numbers);
        }
    }

    /// A call without a response that has waited for its other end until `now`.
    pub(super) fn overdue(&mut self, now: u64) -> Option<NodeId> {
        let &(until, id) = self.unanswered.front()?;
        let is_overdue = until <= now || self.unanswered.len() >= MAX_UNANSWERED;
        is_overdue.then(|| {
            self.unanswered.pop_front();
            id
        })
    }

    /// Keeps a call without a response for a while, if its other end may still be seen.
    pub(super) fn await_other_end(&mut self, tree: &mut Tree, id: NodeId, end: u64) -> bool {
        match tree.get_mut(id) {
            Some(node) if node.unjoined.is_some() && node.role == Role::Client => node.settled = true,
            _ => return false,
        }
        self.unanswered.push_back((end.saturating_add(UNANSWERED_WAIT), id));
        true
    }

    /// Joins a request that begins with its other end, or lets it wait for that.
    pub(super) fn join(&mut self, tree: &mut Tree, id: NodeId, place: Place, position: u64, origin: &Origin) {
        if origin.peer != 0 {
            self.connect([place.cookie, origin.peer], [Counting::Alike; 2]);
        }
        if origin.counts_alone {
            return self.join_by_record(tree, id, place, position, origin);
        }
        if let Some(&other) = self.other_end.get(&place.cookie) {
            let found = other.sequence(place.role, position);
            let found = found.and_then(|found| tree.ledger.at_sequence(other.cookie, place.role.other(), found));
            if let Some(found) = found.filter(|&found| !origin.has_private_positions || agree(tree, id, found)) {
                unite(tree, id, found);
            }
            return;
        }
        // Private positions do not identify the other end. The kernel does, at one of the two ends.
        // Both ends agree on how far the other way had come only for the first request of a run.
        if let Some(numbers) = numbers(place.role, position, origin)
            && let Some(found) = self.find_or_wait(tree, id, place, numbers)
            && let Some(other) = unite(tree, id, found)
        {
            self.connect([place.cookie, other], [Counting::Alike; 2]);
        }
    }

    /// Joins a request whose end counts alone. The TLS record in which it begins identifies it. That shows how far the two ends count
    /// apart, which identifies the requests that do not begin a record, or of which one end did not see the record.
    fn join_by_record(&mut self, tree: &mut Tree, id: NodeId, place: Place, position: u64, origin: &Origin) {
        let numbers = numbers(place.role, position, origin);
        if let Some(found) = self.apart(tree, place, position)
            && let Some(node) = tree.get(found)
            && numbers.zip(node.unjoined).is_none_or(|(ours, theirs)| mirrored(ours) == theirs)
        {
            self.forget(tree, found);
            unite(tree, id, found);
            return;
        }
        let Some(found) = numbers.and_then(|numbers| self.find_or_wait(tree, id, place, numbers)) else { return };
        let Some(by) = tree.get(found).map(|node| node.position.wrapping_sub(position) as u32) else { return };
        if let Some(other) = unite(tree, id, found) {
            let role = place.role;
            let back = Counting::Apart { role: role.other(), by: by.wrapping_neg() };
            self.connect([place.cookie, other], [Counting::Apart { role, by }, back]);
        }
    }

    /// The other end of a request, if it is known how far the ends count apart.
    fn apart(&self, tree: &Tree, place: Place, position: u64) -> Option<NodeId> {
        let other = self.other_end.get(&place.cookie)?;
        let sequence = other.sequence(place.role, position)?;
        tree.ledger.at_sequence(other.cookie, place.role.other(), sequence)
    }

    /// The request at the other end with these numbers. If there is none, the node waits for it.
    fn find_or_wait(&mut self, tree: &mut Tree, id: NodeId, place: Place, numbers: Numbers) -> Option<NodeId> {
        if !self.has_calls {
            if place.role == Role::Server {
                wait(tree, id, numbers);
                return None;
            }
            self.has_calls = true;
            self.unjoined.extend(tree.ledger.nodes().filter_map(|(id, node)| Some((node.unjoined?, id))));
        }
        // Both ends of a connection may ask, and with equal numbers.
        let is_other_end = |found: &NodeId| tree.get(*found).is_some_and(|node| node.cookie != place.cookie);
        let found = self.unjoined.get(&mirrored(numbers)).copied().filter(is_other_end);
        match found {
            Some(found) => self.forget(tree, found),
            None => {
                self.unjoined.insert(numbers, id);
                wait(tree, id, numbers);
            }
        }
        found
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.other_end.is_empty() && self.unjoined.is_empty() && self.unanswered.is_empty()
    }

    fn connect(&mut self, [one, other]: [u64; 2], [there, here]: [Counting; 2]) {
        self.other_end.insert(one, OtherEnd { cookie: other, counts: there });
        self.other_end.insert(other, OtherEnd { cookie: one, counts: here });
    }
}

/// The numbers of the first request of a run. `None` if the other end does not know them.
fn numbers(role: Role, position: u64, origin: &Origin) -> Option<Numbers> {
    if origin.has_private_positions || origin.position != position {
        return None;
    }
    let [to_position, to_opposite] = origin.offsets;
    Some((role, position.wrapping_add(to_position) as u32, origin.opposite.wrapping_add(to_opposite) as u32))
}

/// The numbers that the same message has at the other end.
fn mirrored((role, sequence, opposite): Numbers) -> Numbers {
    (role.other(), sequence, opposite)
}

/// The node waits for its other end.
fn wait(tree: &mut Tree, id: NodeId, numbers: Numbers) {
    if let Some(node) = tree.get_mut(id) {
        node.unjoined = Some(numbers);
    }
}

/// Whether both ends count alike in both directions. Each end of a unix socket counts from the first operation that was
/// seen there. If bytes were under way just then, the ends never agree, and never join.
fn agree(tree: &Tree, one: NodeId, other: NodeId) -> bool {
    let opposite = |id| tree.get(id).and_then(|node| node.opposite);
    opposite(one).is_some() && opposite(one) == opposite(other)
}

/// `one` and `other` are the two ends of one exchange. Returns the other's connection, or `None` if that cannot be.
fn unite(tree: &mut Tree, one: NodeId, other: NodeId) -> Option<u64> {
    let (a, b) = (tree.get(one)?, tree.get(other)?);
    let (client, server) = match (a.role, b.role) {
        (Role::Client, Role::Server) => (one, other),
        (Role::Server, Role::Client) => (other, one),
        // The content misled one of them.
        _ => return None,
    };
    let (c, s) = if client == one { (a, b) } else { (b, a) };
    // The server reads what was sent before.
    if c.start > s.start.saturating_add(RETURN_LAG) || c.joined.is_some() || s.joined.is_some() {
        return None;
    }
    let connection = b.cookie;
    let earlier = c.start.min(s.start);
    for (node, joined) in [(client, server), (server, client)] {
        if let Some(node) = tree.get_mut(node) {
            node.joined = Some(joined);
        }
    }
    if let Some(client) = tree.get_mut(client) {
        // Its write returned after the peer had read.
        client.start = earlier;
    }
    if tree.is_below(client, server) {
        // A process calls itself: its own request was taken for the owner of the call.
        tree.clear_parent(client);
    }
    tree.set_parent(server, client, Evidence::Host);
    Some(connection)
}

/// The bounds of a span, corrected by what the other end saw earlier.
pub(super) fn bounds(tree: &Tree, id: NodeId, start: u64, end: u64) -> (u64, u64) {
    let Some(node) = tree.get(id) else { return (start, end) };
    let Some(other) = node.joined.and_then(|joined| tree.get(joined)) else {
        return (start.min(node.start), end);
    };
    match node.role {
        Role::Client => (start.min(node.start), end),
        // The write of a response may return after the peer has read it.
        Role::Server => {
            let read = other.end.filter(|_| other.complete);
            (start, read.map_or(end, |read| end.min(read)).max(start))
        }
    }
}
