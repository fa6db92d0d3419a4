//! Every node, and the ways to find one: by connection and position, by process.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::node::{Link, Node};
use crate::model::span::Role;

/// A node's place. Held ones stay; others must not be used after the node was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    slot: u32,
    /// Tells a node from one that had the slot before.
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// How many others need it: calls made for it, the server's side of it, what found it late.
    holders: u32,
    /// Its place among its process's requests, if it has one there.
    process_slot: u32,
    node: Node,
}

/// How long a process may go on with a request whose client gave up: nobody sees when it is done.
const WORK_FOR_NOBODY: u64 = 1_000_000_000;

/// No process can be working on so many requests.
const NO_PROCESS_SLOT: u32 = u32::MAX;

/// A node of a connection: where the request began, to be found without a look at the node.
#[derive(Debug, Clone, Copy)]
struct Sibling {
    position: u64,
    id: NodeId,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Slab<Entry>,
    next_generation: u32,
    /// Nodes of a connection in the order of their positions.
    by_connection: FxHashMap<u64, VecDeque<Sibling>>,
    by_process: FxHashMap<u32, Requests>,
}

/// The requests that a process serves.
#[derive(Debug, Default)]
struct Requests {
    all: Vec<NodeId>,
    /// How many of them have not ended.
    open: usize,
    /// Until then there may be some that were never seen, or that are worked on though their clients gave up.
    others_until: u64,
}

/// How many there are of something of which one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nobody,
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
        let (cookie, tgid, position, serves) = (node.cookie, node.tgid, node.position, node.role == Role::Server);
        let vacant = self.entries.vacant_entry();
        let slot = u32::try_from(vacant.key()).expect("memory for four billion nodes there is not");
        let id = NodeId { slot, generation };
        let mut process_slot = NO_PROCESS_SLOT;
        if serves {
            let requests = self.by_process.entry(tgid).or_default();
            process_slot = requests.all.len() as u32;
            requests.all.push(id);
            requests.open += 1;
        }
        vacant.insert(Entry { generation, holders: 0, process_slot, node });
        let siblings = self.by_connection.entry(cookie).or_default();
        // Nearly always the newest is the last.
        let at = siblings.iter().rposition(|sibling| sibling.position <= position).map_or(0, |index| index + 1);
        siblings.insert(at, Sibling { position, id });
        id
    }

    fn entry(&self, id: NodeId) -> Option<&Entry> {
        self.entries.get(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    fn entry_mut(&mut self, id: NodeId) -> Option<&mut Entry> {
        self.entries.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.entry(id).map(|entry| &entry.node)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.entry_mut(id).map(|entry| &mut entry.node)
    }

    /// What began at `position` on one connection, the latest first. It is nearly always the newest there.
    fn at(&self, siblings: &VecDeque<Sibling>, position: u64) -> impl Iterator<Item = (NodeId, &Node)> {
        let behind = match siblings.back() {
            Some(newest) if newest.position <= position => siblings.len(),
            _ => siblings.partition_point(|sibling| sibling.position <= position),
        };
        let there = siblings.range(..behind).rev().take_while(move |sibling| sibling.position == position);
        there.filter_map(|sibling| Some((sibling.id, self.get(sibling.id)?)))
    }

    /// The latest request that began at `position` and is not settled.
    pub(super) fn find(&self, cookie: u64, position: u64) -> Option<NodeId> {
        let siblings = self.by_connection.get(&cookie)?;
        self.at(siblings, position).find(|(_, node)| !node.settled).map(|(id, _)| id)
    }

    /// The latest request that began at this sequence number, not half the numbers before or behind the newest.
    pub(super) fn at_sequence(&self, cookie: u64, sequence: u32) -> Option<NodeId> {
        let siblings = self.by_connection.get(&cookie)?;
        let newest = siblings.back()?.position;
        let ahead = sequence.wrapping_sub(newest as u32).cast_signed();
        self.at(siblings, newest.wrapping_add_signed(i64::from(ahead))).next().map(|(id, _)| id)
    }

    /// The request ends. False if there is none.
    pub(super) fn end(&mut self, id: NodeId, nanos: u64, complete: bool) -> bool {
        let Some(node) = self.get_mut(id) else { return false };
        let was_open = node.end.replace(nanos).is_none();
        node.complete = complete;
        let (tgid, serves) = (node.tgid, node.role == Role::Server);
        if was_open && serves {
            self.close(tgid);
            if !complete {
                self.may_have_others(tgid, nanos.saturating_add(WORK_FOR_NOBODY));
            }
        }
        true
    }

    /// One of its requests is not open any more.
    fn close(&mut self, tgid: u32) {
        if let Some(requests) = self.by_process.get_mut(&tgid) {
            requests.open = requests.open.saturating_sub(1);
        }
    }

    /// Until `nanos` the process may be working on requests that are not known, or over.
    pub(super) fn may_have_others(&mut self, tgid: u32, nanos: u64) {
        if let Some(requests) = self.by_process.get_mut(&tgid) {
            requests.others_until = requests.others_until.max(nanos);
        }
    }

    /// Whether several requests of the process are open now.
    pub(super) fn has_several(&self, tgid: u32) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| requests.open > 1)
    }

    /// Whether the process may have been working at `nanos` on requests that are not known, or over.
    pub(super) fn had_others(&self, tgid: u32, nanos: u64) -> bool {
        self.by_process.get(&tgid).is_some_and(|requests| nanos < requests.others_until)
    }

    /// The request of a run that was worked on at `nanos`. Of several pipelined ones that is the first without an answer: they
    /// are answered in order.
    pub(super) fn in_flight(&self, cookie: u64, run: u64, nanos: u64) -> Option<NodeId> {
        let siblings = self.by_connection.get(&cookie)?;
        // It is among the newest: its run's are next to each other, the first is the oldest.
        let mut found = None;
        for &Sibling { id, .. } in siblings.iter().rev() {
            let Some(node) = self.get(id).filter(|node| node.role == Role::Server) else { continue };
            if node.runs.contains(&run) && node.in_flight_at(nanos) {
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

    /// The request of the process that `fits`, if it is one.
    pub(super) fn only_request(&self, tgid: u32, fits: impl Fn(NodeId, &Node) -> bool) -> Found {
        let mut candidates = self.requests_of(tgid).filter(|&(id, node)| fits(id, node));
        match (candidates.next(), candidates.next()) {
            (Some((only, _)), None) => Found::One(only),
            (Some(_), Some(_)) => Found::Several,
            (None, _) => Found::Nobody,
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

    /// Removes the node if it is settled and nobody holds it; gives what it held.
    pub(super) fn take_if_done(&mut self, id: NodeId) -> [Option<NodeId>; 2] {
        match self.entry(id) {
            Some(entry) if entry.node.settled && entry.holders == 0 => self.remove(id),
            _ => [None; 2],
        }
    }

    fn remove(&mut self, id: NodeId) -> [Option<NodeId>; 2] {
        let Entry { node, process_slot, .. } = self.entries.remove(id.slot as usize);
        if let Some(siblings) = self.by_connection.get_mut(&node.cookie) {
            // Nearly always the oldest: what ends first is settled first.
            if let Some(at) = siblings.iter().position(|sibling| sibling.id == id) {
                siblings.remove(at);
            }
            if siblings.is_empty() {
                self.by_connection.remove(&node.cookie);
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
        [parent, node.late]
    }
}
