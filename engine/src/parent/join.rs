//! Both ends of a connection on this host: which two nodes are one exchange, and what each knows better.

use super::{NodeId, Parents};
use crate::connections::{Origin, Place};
use crate::model::span::{Evidence, Role};

/// How much later than the server's read the return of the client's write may be told: its thread may be off the
/// processor in between. That the numbers of two messages are the same by chance is out of the question.
const RETURN_LAG: u64 = 1_000_000_000;

/// How long a call that nobody answered waits for the server to read it, and how many do: a busy server comes to what is
/// in its queue when the caller has long gone.
const UNANSWERED_WAIT: u64 = 10_000_000_000;
const UNANSWERED_KEPT: usize = 4096;

impl Parents {
    /// Calls that nobody answered are not waited for beyond `now`.
    pub(super) fn forget_unanswered(&mut self, now: u64) {
        while let Some(&(until, waiting)) = self.unanswered.front()
            && (until <= now || self.unanswered.len() >= UNANSWERED_KEPT)
        {
            self.unanswered.pop_front();
            self.remove(waiting);
        }
    }

    /// Keeps a call that nobody answered a while, for its other end to find it. Whether that can be.
    pub(super) fn await_other_end(&mut self, id: NodeId, end: u64) -> bool {
        match self.ledger.get_mut(id) {
            Some(node) if node.unjoined.is_some() && node.role == Role::Client => node.settled = true,
            _ => return false,
        }
        self.unanswered.push_back((end.saturating_add(UNANSWERED_WAIT), id));
        true
    }

    /// Joins both ends of a connection on this host.
    pub(super) fn join(&mut self, id: NodeId, place: Place, position: u64, origin: &Origin) {
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

    /// A span's bounds: what both ends say, the earlier.
    pub(super) fn bounds(&self, id: NodeId, start: u64, end: u64) -> (u64, u64) {
        let Some(node) = self.ledger.get(id) else { return (start, end) };
        let Some(other) = node.joined.and_then(|joined| self.ledger.get(joined)) else {
            return (start.min(node.start), end);
        };
        match node.role {
            Role::Client => (start.min(node.start), end),
            // The write of the answer returned after the peer had read it, if it has.
            Role::Server => {
                let theirs = other.end.filter(|_| other.complete);
                (start, theirs.map_or(end, |theirs| end.min(theirs)).max(start))
            }
        }
    }
}
