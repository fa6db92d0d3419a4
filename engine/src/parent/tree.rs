//! The links from nodes to their parents. A node stays as long as others need it.

use super::id::NodeId;
use super::ledger::Ledger;
use super::node::{Link, Node};
use crate::model::span::Evidence;

/// Longer chains of calls within one host are a loop.
pub(super) const DEEPEST: usize = 64;

/// Every node, linked to its parent.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) ledger: Ledger,
    /// Reused from sweep to sweep.
    to_sweep: Vec<NodeId>,
}

impl Tree {
    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.ledger.get(id)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.ledger.get_mut(id)
    }

    /// The parent of a node within this host, and its evidence.
    pub(super) fn parent(&self, id: NodeId) -> Option<(NodeId, Evidence)> {
        match self.get(id)?.link {
            Link::Node(parent, evidence) => Some((parent, evidence)),
            Link::None | Link::Remote | Link::Environment => None,
        }
    }

    /// Whether `above` is among the ancestors of `id`.
    pub(super) fn is_below(&self, id: NodeId, above: NodeId) -> bool {
        let mut at = id;
        for _ in 0..DEEPEST {
            match self.parent(at) {
                Some((parent, _)) if parent == above => return true,
                Some((parent, _)) => at = parent,
                None => return false,
            }
        }
        true
    }

    /// Sets the parent. Fails, and changes nothing, if the parent is the node itself or below it.
    pub(super) fn set_parent(&mut self, id: NodeId, parent: NodeId, evidence: Evidence) -> bool {
        if parent == id || self.is_below(parent, id) {
            return false;
        }
        self.ledger.hold(parent);
        let Some(node) = self.ledger.get_mut(id) else {
            self.release(parent);
            return false;
        };
        if let Link::Node(before, _) = std::mem::replace(&mut node.link, Link::Node(parent, evidence)) {
            self.release(before);
        }
        true
    }

    pub(super) fn clear_parent(&mut self, id: NodeId) {
        if let Some(node) = self.ledger.get_mut(id)
            && let Link::Node(before, _) = std::mem::replace(&mut node.link, Link::None)
        {
            self.release(before);
        }
    }

    /// Marks the node as settled. It goes when nothing holds it.
    pub(super) fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.ledger.get_mut(id) {
            node.settled = true;
        }
        self.sweep(id);
    }

    pub(super) fn release(&mut self, id: NodeId) {
        self.ledger.release(id);
        self.sweep(id);
    }

    /// Drops the node if it is settled and nothing holds it, and so on upwards.
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
