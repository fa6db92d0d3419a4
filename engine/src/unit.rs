//! Units of work, as the engine compares them.

use onlooker_common::segment::{Segment, flag};
use onlooker_common::unit;

/// What performed a socket operation within its process: a goroutine, a virtual thread, a Python context.
///
/// Threads are not units here: the kernel programs judge them when the operation happens. Nor are the asynchronous operations of
/// Node: one callback may respond to a request and then send the call of another, which waited for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    pub tgid: u32,
    /// One of the [`mod@unit`] constants.
    pub kind: u32,
    pub id: u64,
}

impl Unit {
    /// The unit that performed the operation. `None` if it is unknown or only a thread.
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        match segment.unit_kind {
            unit::NONE | unit::THREAD | unit::ASYNC_ID => None,
            kind => Some(Self { tgid: segment.tgid, kind, id: segment.unit[0] }),
        }
    }

    /// The thread, unless it runs an event loop or carries virtual threads: then the unit, if it is known. The arguments are
    /// those of a record.
    pub(crate) fn working([tgid, tid]: [u32; 2], flags: u32, kind: u32, words: [u64; 2]) -> Option<Self> {
        if flags & flag::LOOP == 0 && (flags & flag::VIRTUAL_THREADS == 0 || kind == unit::THREAD) {
            return Some(Self { tgid, kind: unit::THREAD, id: u64::from(tid) });
        }
        (kind != unit::NONE).then_some(Self { tgid, kind, id: words[0] })
    }

    /// Whether a later unit of the process may have the same id. The id of a Python context is its address.
    pub(crate) fn is_reused(self) -> bool {
        self.kind == unit::PYTHON_CONTEXT
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::unknown(unit::NONE, false)]
    #[case::thread(unit::THREAD, false)]
    #[case::goroutine(unit::GOROUTINE, true)]
    #[case::virtual_thread(unit::VIRTUAL_THREAD, true)]
    #[case::python_context(unit::PYTHON_CONTEXT, true)]
    #[case::callback_of_node(unit::ASYNC_ID, false)]
    #[case::tokio_task(unit::TOKIO_TASK, true)]
    fn what_works_on_one_request_at_a_time_is_a_unit(#[case] unit_kind: u32, #[case] is_unit: bool) {
        let segment = Segment { unit_kind, unit: [7, 0], tgid: 42, ..Segment::default() };
        assert_eq!(Unit::of(&segment), is_unit.then_some(Unit { tgid: 42, kind: unit_kind, id: 7 }));
    }
}
