//! Names of nodes.

/// A node of [`Parents`](super::Parents). It must not be used after the node was settled, unless something holds the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    pub(super) slot: u32,
    /// Distinguishes the node from an earlier one in the same slot.
    pub(super) generation: u32,
}
