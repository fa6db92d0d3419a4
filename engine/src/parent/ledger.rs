//! Every node, and the ways to find one: by connection and position, or by process.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::id::NodeId;
use super::node::{Link, Node, Responder};
use crate::model::span::Role;
use crate::prefetch::prefetch;

#[derive(Debug)]
struct Slot {
    /// [`VACANT`] if there is no node.
    generation: u32,
    /// The number of nodes that need this one: calls made for it, or perhaps made for it, its other end, a node that found
    /// it late, calls after it.
    holders: u32,
    /// Its index among the requests of its process, if it has one there.
    process_slot: u32,
    node: Node,
}

/// The generation of a slot without a node.
const VACANT: u32 = 0;

/// How long a process may go on with a request whose client gave up. Nothing shows when it is done.
const ABANDONED_WORK: u64 = 1_000_000_000;

/// No process works on so many requests.
const NO_PROCESS_SLOT: u32 = u32::MAX;

/// A node of a connection, with the position of its request.
#[derive(Debug, Clone, Copy)]
struct Sibling {
    position: u64,
    id: NodeId,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: Vec<Slot>,
    /// The slots without a node. The one that was used last is the last: it is still in the cache.
    vacant: Vec<u32>,
    generation: u32,
    /// Requests that were sent, or received, on a connection, in the order of their positions.
    by_connection: FxHashMap<(u64, Role), VecDeque<Sibling>>,
    by_process: FxHashMap<u32, Serving>,
}

/// The requests that a process serves.
#[derive(Debug, Default)]
struct Serving {
    all: Vec<NodeId>,
    /// The number of them that have not ended.
    open: usize,
    /// When the last of the others ended.
    last_end: u64,
    /// Until then the process may work on requests that were never seen, or whose clients gave up.
    others_until: u64,
}

/// How many candidates there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    None,
    One(NodeId),
    Several,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        self.generation = self.generation.wrapping_add(1).max(VACANT + 1);
        let generation = self.generation;
        let Node { cookie, role, tgid, position, .. } = node;
        let vacant = self.vacant.pop();
        // Fewer than four billion nodes fit into memory.
        let slot = vacant.unwrap_or(self.slots.len() as u32);
        let id = NodeId { slot, generation };
        let mut process_slot = NO_PROCESS_SLOT;
        if role == Role::Server {
            let requests = self.by_process.entry(tgid).or_default();
            process_slot = requests.all.len() as u32;
            requests.all.push(id);
            requests.open += 1;
        }
        match self.slots.get_mut(slot as usize) {
            Some(vacant) => {
                (vacant.generation, vacant.holders, vacant.process_slot) = (generation, 0, process_slot);
                vacant.node = node;
            }
            None => self.slots.push(Slot { generation, holders: 0, process_slot, node }),
        }
        let siblings = self.by_connection.entry((cookie, role)).or_default();
        // The newest is nearly always the last.
        let at = siblings.iter().rposition(|sibling| sibling.position <= position).map_or(0, |index| index + 1);
        siblings.insert(at, Sibling { position, id });
        id
    }

    #[inline]
    fn slot(&self, id: NodeId) -> Option<&Slot> {
        self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }

    #[inline]
    fn slot_mut(&mut self, id: NodeId) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }

    /// Begins to load a node into the cache.
    #[inline]
    pub(super) fn prefetch(&self, id: NodeId) {
        if let Some(slot) = self.slots.get(id.slot as usize) {
            prefetch(slot);
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let with_node = self.slots.iter().zip(0..).filter(|(slot, _)| slot.generation != VACANT);
        with_node.map(|(Slot { generation, node, .. }, slot)| (NodeId { slot, generation: *generation }, node))
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.slot(id).map(|slot| &slot.node)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.slot_mut(id).map(|slot| &mut slot.node)
    }

    /// The requests that began at `position`, the latest first. It is nearly always the newest of the connection.
    fn at(&self, siblings: &VecDeque<Sibling>, position: u64) -> impl Iterator<Item = (NodeId, &Node)> {
        let behind = match siblings.back() {
            Some(newest) if newest.position <= position => siblings.len(),
            _ => siblings.partition_point(|sibling| sibling.position <= position),
        };
        let there = siblings.range(..behind).rev().take_while(move |sibling| sibling.position == position);
        there.filter_map(|sibling| Some((sibling.id, self.get(sibling.id)?)))
    }

    /// The latest request that began at `position` and is not settled.
    pub(super) fn find(&self, cookie: u64, role: Role, position: u64) -> Option<NodeId> {
        let siblings = self.by_connection.get(&(cookie, role))?;
        self.at(siblings, position).find(|(_, node)| !node.settled).map(|(id, _)| id)
    }

    /// The latest request that began at this sequence number, which counts as the nearest to the newest request's.
    pub(super) fn at_sequence(&self, cookie: u64, role: Role, sequence: u32) -> Option<NodeId> {
        let siblings = self.by_connection.get(&(cookie, role))?;
        let newest = siblings.back()?.position;
        let ahead = sequence.wrapping_sub(newest as u32).cast_signed();
        self.at(siblings, newest.wrapping_add_signed(i64::from(ahead))).next().map(|(id, _)| id)
    }

    /// The request ends. Returns false if there is none.
    pub(super) fn end(&mut self, id: NodeId, nanos: u64, complete: bool) -> bool {
        let Some(node) = self.get_mut(id) else { return false };
        let was_open = node.end.replace(nanos).is_none();
        node.complete = complete;
        let (tgid, serves) = (node.tgid, node.role == Role::Server);
        if was_open
            && serves
            && let Some(requests) = self.by_process.get_mut(&tgid)
        {
            requests.open = requests.open.saturating_sub(1);
            requests.last_end = requests.last_end.max(nanos);
            if !complete {
                requests.others_until = requests.others_until.max(nanos.saturating_add(ABANDONED_WORK));
            }
        }
        true
    }

    /// Until `nanos` the process may work on requests that are unknown, or over.
    pub(super) fn may_have_others(&mut self, tgid: u32, nanos: u64) {
        if let Some(requests) = self.by_process.get_mut(&tgid) {
            requests.others_until = requests.others_until.max(nanos);
        }
    }

    /// Whether a request of the process is open now.
    pub(super) fn has_open(&self, tgid: u32) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| requests.open > 0)
    }

    /// The process ended, or executed another program: it works on nothing else.
    pub(super) fn process_ended(&mut self, tgid: u32) {
        let Some(requests) = self.by_process.get_mut(&tgid) else { return };
        requests.others_until = 0;
        if requests.all.is_empty() {
            self.by_process.remove(&tgid);
        }
    }

    /// Whether several requests of the process are open now.
    pub(super) fn has_several(&self, tgid: u32) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| requests.open > 1)
    }

    /// Whether the process works on no request at `nanos`, as far as is known then.
    pub(super) fn is_idle(&self, tgid: u32, nanos: u64) -> bool {
        self.by_process
            .get(&tgid)
            .is_none_or(|requests| requests.open == 0 && requests.last_end < nanos && requests.others_until <= nanos)
    }

    /// Whether the process worked on no request at `nanos`, as far as is known a while later.
    pub(super) fn was_idle(&self, tgid: u32, nanos: u64) -> bool {
        !self.had_others(tgid, nanos) && !self.requests_of(tgid).any(|(_, request)| request.in_flight_at(nanos))
    }

    /// Whether the process may have worked at `nanos` on requests that are unknown, or over.
    pub(super) fn had_others(&self, tgid: u32, nanos: u64) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| nanos < requests.others_until)
    }

    /// The received request of a run that was worked on at `nanos`. Of several pipelined requests it is the first without a
    /// response, if responses come in order. Otherwise it is unknown.
    pub(super) fn in_flight(&self, cookie: u64, run: u64, nanos: u64) -> Option<NodeId> {
        let siblings = self.by_connection.get(&(cookie, Role::Server))?;
        let mut found = None;
        // It is among the newest, and the requests of a run are next to each other.
        for &Sibling { id, .. } in siblings.iter().rev() {
            let Some(node) = self.get(id) else { continue };
            if node.runs.contains(&run) && node.in_flight_at(nanos) {
                if found.is_some() && !node.in_order {
                    return None;
                }
                found = Some(id);
            } else if !node.runs.contains(&run) && found.is_some() {
                break;
            }
        }
        found
    }

    pub(super) fn requests_of(&self, tgid: u32) -> impl Iterator<Item = (NodeId, &Node)> {
        let requests = self.by_process.get(&tgid).into_iter().flat_map(|requests| &requests.all);
        requests.filter_map(|&id| Some((id, self.get(id)?)))
    }

    /// The only request of the process that `fits`.
    pub(super) fn only_request(&self, tgid: u32, fits: impl Fn(NodeId, &Node) -> bool) -> Found {
        let mut candidates = self.requests_of(tgid).filter(|&(id, node)| fits(id, node));
        match (candidates.next(), candidates.next()) {
            (Some((only, _)), None) => Found::One(only),
            (Some(_), Some(_)) => Found::Several,
            (None, _) => Found::None,
        }
    }

    pub(super) fn hold(&mut self, id: NodeId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.holders += 1;
        }
    }

    pub(super) fn release(&mut self, id: NodeId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.holders = slot.holders.saturating_sub(1);
        }
    }

    /// Removes the node if it is settled and nothing holds it. Returns the nodes that it held.
    pub(super) fn take_if_done(&mut self, id: NodeId) -> [Option<NodeId>; 4] {
        match self.slot(id) {
            Some(slot) if slot.node.settled && slot.holders == 0 => self.remove(id),
            _ => [None; 4],
        }
    }

    fn remove(&mut self, id: NodeId) -> [Option<NodeId>; 4] {
        let Some(slot) = self.slot_mut(id) else { return [None; 4] };
        slot.generation = VACANT;
        let process_slot = slot.process_slot;
        let node = &mut slot.node;
        let (cookie, role, tgid, is_open) = (node.cookie, node.role, node.tgid, node.end.is_none());
        let parent = match node.link {
            Link::Node(parent, _) => Some(parent),
            Link::None | Link::Remote | Link::Environment => None,
        };
        let responder = match node.work.as_ref().map(|work| work.responder) {
            Some(Responder::One(request)) => Some(request),
            _ => None,
        };
        let held = [parent, node.late, responder, node.after()];
        let last = node.end.unwrap_or(node.start);
        node.free();
        self.vacant.push(id.slot);
        if let Some(siblings) = self.by_connection.get_mut(&(cookie, role)) {
            // It is nearly always the oldest: what ends first is settled first.
            if let Some(at) = siblings.iter().position(|sibling| sibling.id == id) {
                siblings.remove(at);
            }
            if siblings.is_empty() {
                self.by_connection.remove(&(cookie, role));
            }
        }
        if process_slot != NO_PROCESS_SLOT
            && let Some(requests) = self.by_process.get_mut(&tgid)
        {
            requests.open = requests.open.saturating_sub(usize::from(is_open));
            requests.all.swap_remove(process_slot as usize);
            if let Some(&moved) = requests.all.get(process_slot as usize) {
                self.slots[moved.slot as usize].process_slot = process_slot;
            }
            if requests.all.is_empty() && requests.others_until <= last {
                self.by_process.remove(&tgid);
            }
        }
        held
    }
}
