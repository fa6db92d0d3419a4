//! What is remembered of a request that finds no room.

use crate::moment::Moment;

/// A group that finds no room, beyond [`LIMIT`](crate::kit::in_order::Open::LIMIT).
#[derive(Debug, Default)]
pub(super) struct Overflow {
    pub(super) group: Option<Group>,
    /// Its `Sync` is still to come. Until then no request is kept, because its answers could not be distinguished.
    pub(super) unsynced: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) start: Moment,
    /// It prepares or describes a statement, so it is a request even without an `Execute`.
    pub(super) counts: bool,
}
