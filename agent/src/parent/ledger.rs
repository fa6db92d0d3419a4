//! Every node, and the ways to find one: by connection and position, by process.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::node::{Link, Node};
use crate::span::Role;

/// A node's place. Held ones stay; others must not be used after the node was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    slot: usize,
    /// Tells a node from one that had the slot before.
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// How many others need it: calls made for it, the server's side of it, what found it late.
    holders: u32,
    /// Its place among its process's requests.
    process_slot: usize,
    node: Node,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Slab<Entry>,
    next_generation: u32,
    /// Nodes of a connection in the order of their positions.
    by_connection: FxHashMap<u64, VecDeque<NodeId>>,
    /// Requests that a process serves.
    by_process: FxHashMap<u32, Vec<NodeId>>,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let (cookie, tgid, position, serves) = (node.cookie, node.tgid, node.position, node.role == Role::Server);
        let slot = self.entries.insert(Entry { generation, holders: 0, process_slot: usize::MAX, node });
        let id = NodeId { slot, generation };
        let entries = &self.entries;
        let siblings = self.by_connection.entry(cookie).or_default();
        // Nearly always the newest is the last.
        let at = siblings
            .iter()
            .rposition(|&sibling| entries.get(sibling.slot).is_some_and(|entry| entry.node.position <= position))
            .map_or(0, |index| index + 1);
        siblings.insert(at, id);
        if serves {
            let requests = self.by_process.entry(tgid).or_default();
            self.entries[slot].process_slot = requests.len();
            requests.push(id);
        }
        id
    }

    fn entry(&self, id: NodeId) -> Option<&Entry> {
        self.entries.get(id.slot).filter(|entry| entry.generation == id.generation)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.entry(id).map(|entry| &entry.node)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        let entry = self.entries.get_mut(id.slot)?;
        (entry.generation == id.generation).then_some(&mut entry.node)
    }

    fn on_connection(&self, cookie: u64) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.by_connection.get(&cookie).into_iter().flatten().filter_map(|&id| Some((id, self.get(id)?)))
    }

    /// What began at `position` on one connection, in the order of its coming.
    fn at<'l>(
        &'l self,
        siblings: &'l VecDeque<NodeId>,
        position: u64,
    ) -> impl DoubleEndedIterator<Item = (NodeId, &'l Node)> {
        let node = |&id: &NodeId| Some((id, self.get(id)?));
        let from = siblings.partition_point(|id| node(id).is_some_and(|(_, node)| node.position < position));
        let until = siblings.partition_point(|id| node(id).is_some_and(|(_, node)| node.position <= position));
        siblings.range(from..until).filter_map(node)
    }

    /// The latest request that began at `position` and is not settled.
    pub(super) fn find(&self, cookie: u64, position: u64) -> Option<NodeId> {
        let siblings = self.by_connection.get(&cookie)?;
        self.at(siblings, position).rfind(|(_, node)| !node.settled).map(|(id, _)| id)
    }

    /// The latest request that began at this sequence number, not half the numbers before or behind the newest.
    pub(super) fn at_sequence(&self, cookie: u64, sequence: u32) -> Option<NodeId> {
        let siblings = self.by_connection.get(&cookie)?;
        let newest = self.get(*siblings.back()?)?.position;
        let ahead = sequence.wrapping_sub(newest as u32).cast_signed();
        self.at(siblings, newest.wrapping_add_signed(i64::from(ahead))).next_back().map(|(id, _)| id)
    }

    /// The request of a run that was worked on at `nanos`. Of several pipelined ones that is the first without an answer: they
    /// are answered in order.
    pub(super) fn in_flight(&self, cookie: u64, run: u64, nanos: u64) -> Option<NodeId> {
        let is_it = |node: &Node| node.role == Role::Server && node.run == run && node.in_flight_at(nanos);
        self.on_connection(cookie).find(|(_, node)| is_it(node)).map(|(id, _)| id)
    }

    pub(super) fn requests_of(&self, tgid: u32) -> impl Iterator<Item = (NodeId, &Node)> {
        self.by_process.get(&tgid).into_iter().flatten().filter_map(|&id| Some((id, self.get(id)?)))
    }

    /// The one request of the process that `fits`, if it is one.
    pub(super) fn only_request(&self, tgid: u32, fits: impl Fn(NodeId, &Node) -> bool) -> Option<NodeId> {
        let mut candidates = self.requests_of(tgid).filter(|&(id, node)| fits(id, node));
        let (only, _) = candidates.next()?;
        candidates.next().is_none().then_some(only)
    }

    pub(super) fn hold(&mut self, id: NodeId) {
        if let Some(entry) = self.entries.get_mut(id.slot).filter(|entry| entry.generation == id.generation) {
            entry.holders += 1;
        }
    }

    pub(super) fn release(&mut self, id: NodeId) {
        if let Some(entry) = self.entries.get_mut(id.slot).filter(|entry| entry.generation == id.generation) {
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
        let Entry { node, process_slot, .. } = self.entries.remove(id.slot);
        if let Some(siblings) = self.by_connection.get_mut(&node.cookie) {
            // Nearly always the oldest: what ends first is settled first.
            if let Some(at) = siblings.iter().position(|&sibling| sibling == id) {
                siblings.remove(at);
            }
            if siblings.is_empty() {
                self.by_connection.remove(&node.cookie);
            }
        }
        if process_slot != usize::MAX
            && let Some(requests) = self.by_process.get_mut(&node.tgid)
        {
            requests.swap_remove(process_slot);
            if let Some(moved) = requests.get(process_slot) {
                self.entries[moved.slot].process_slot = process_slot;
            }
            if requests.is_empty() {
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
