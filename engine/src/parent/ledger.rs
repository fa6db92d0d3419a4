//! Every node, and the ways to find one: by connection and position, or by process.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::id::NodeId;
use super::node::{Link, Node, Responder};
use crate::model::span::Role;

#[derive(Debug)]
struct Slot {
    generation: u32,
    /// The number of nodes that need this one: calls made for it, or perhaps made for it, its other end, a node that found
    /// it late.
    holders: u32,
    /// Its index among the requests of its process, if it has one there.
    process_slot: u32,
    node: Node,
}

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
    entries: Slab<Slot>,
    next_generation: u32,
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
        self.entries.len()
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let Node { cookie, role, tgid, position, .. } = node;
        let vacant = self.entries.vacant_entry();
        let slot = u32::try_from(vacant.key()).expect("fewer than four billion nodes fit into memory");
        let id = NodeId { slot, generation };
        let mut process_slot = NO_PROCESS_SLOT;
        if role == Role::Server {
            let requests = self.by_process.entry(tgid).or_default();
            process_slot = requests.all.len() as u32;
            requests.all.push(id);
            requests.open += 1;
        }
        vacant.insert(Slot { generation, holders: 0, process_slot, node });
        let siblings = self.by_connection.entry((cookie, role)).or_default();
        // The newest is nearly always the last.
        let at = siblings.iter().rposition(|sibling| sibling.position <= position).map_or(0, |index| index + 1);
        siblings.insert(at, Sibling { position, id });
        id
    }

    fn entry(&self, id: NodeId) -> Option<&Slot> {
        self.entries.get(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    fn entry_mut(&mut self, id: NodeId) -> Option<&mut Slot> {
        self.entries.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.entries.iter().map(|(slot, Slot { generation, node, .. })| {
            // It fitted when the node was inserted.
            (NodeId { slot: slot as u32, generation: *generation }, node)
        })
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.entry(id).map(|entry| &entry.node)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.entry_mut(id).map(|entry| &mut entry.node)
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
        if was_open && serves {
            self.close(tgid);
            if !complete {
                self.may_have_others(tgid, nanos.saturating_add(ABANDONED_WORK));
            }
        }
        true
    }

    /// One request of the process is not open any more.
    fn close(&mut self, tgid: u32) {
        if let Some(requests) = self.by_process.get_mut(&tgid) {
            requests.open = requests.open.saturating_sub(1);
        }
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

    /// Whether several requests of the process are open now.
    pub(super) fn has_several(&self, tgid: u32) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| requests.open > 1)
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
        if let Some(entry) = self.entry_mut(id) {
            entry.holders += 1;
        }
    }

    pub(super) fn release(&mut self, id: NodeId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.holders = entry.holders.saturating_sub(1);
        }
    }

    /// Removes the node if it is settled and nothing holds it. Returns the nodes that it held.
    pub(super) fn take_if_done(&mut self, id: NodeId) -> [Option<NodeId>; 3] {
        match self.entry(id) {
            Some(entry) if entry.node.settled && entry.holders == 0 => self.remove(id),
            _ => [None; 3],
        }
    }

    fn remove(&mut self, id: NodeId) -> [Option<NodeId>; 3] {
        let Slot { node, process_slot, .. } = self.entries.remove(id.slot as usize);
        if let Some(siblings) = self.by_connection.get_mut(&(node.cookie, node.role)) {
            // It is nearly always the oldest: what ends first is settled first.
            if let Some(at) = siblings.iter().position(|sibling| sibling.id == id) {
                siblings.remove(at);
            }
            if siblings.is_empty() {
                self.by_connection.remove(&(node.cookie, node.role));
            }
        }
        if node.end.is_none() && node.role == Role::Server {
            self.close(node.tgid);
        }
        if process_slot != NO_PROCESS_SLOT
            && let Some(requests) = self.by_process.get_mut(&node.tgid)
        {
            requests.all.swap_remove(process_slot as usize);
            if let Some(&moved) = requests.all.get(process_slot as usize) {
                self.entries[moved.slot as usize].process_slot = process_slot;
            }
            if requests.all.is_empty() {
                self.by_process.remove(&node.tgid);
            }
        }
        let parent = match node.link {
            Link::Node(parent, _) => Some(parent),
            Link::None | Link::Remote => None,
        };
        let responder = match node.work.map(|work| work.responder) {
            Some(Responder::One(request)) => Some(request),
            _ => None,
        };
        [parent, node.late, responder]
    }
}
