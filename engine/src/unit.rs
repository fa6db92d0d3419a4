//! Units of work, as the engine compares them.

use onlooker_common::segment::Segment;
use onlooker_common::unit;

/// What performed a socket operation within its process: a goroutine, a virtual thread, a Python context.
///
/// Threads are not units here. The kernel programs judge them when the operation happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    pub tgid: u32,
    /// One of the [`unit`] constants.
    pub kind: u32,
    pub id: u64,
}

impl Unit {
    /// The unit that performed the operation. `None` if it is unknown or only a thread.
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        match segment.unit_kind {
            unit::NONE | unit::THREAD => None,
            kind => Some(Self { tgid: segment.tgid, kind, id: segment.unit[0] }),
        }
    }

    /// Whether a later unit of the process may have the same id. The id of a Python context is its address.
    pub(crate) fn is_reused(self) -> bool {
        self.kind == unit::PYTHON_CONTEXT
    }
}
