//! Goroutines.

use onlooker_common::unit::UnitSource;

use crate::kernel::task::Task;
use crate::user;

/// Words of the source: where the pointer to the running `g` is, relative to the thread pointer (modulo 2^64), and the
/// offsets of `goid` and `parentGoid` in it. The last is 0 where Go has no such member (before 1.21).
const G: usize = 0;
const GOID: usize = 1;
const PARENT_GOID: usize = 2;

/// The ids of the running goroutine and of the one that started it.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task) -> Option<[u64; 2]> {
    // SAFETY: a live value of the map.
    let words = unsafe { (*source).words };
    let g = user::word::<u64>(task.thread_pointer()?.wrapping_add(words[G]))?;
    let goid = user::word::<u64>(g.wrapping_add(words[GOID]))?;
    if goid == 0 {
        // The scheduler's own stack.
        return None;
    }
    let parent = match words[PARENT_GOID] {
        0 => 0,
        offset => user::word::<u64>(g.wrapping_add(offset))?,
    };
    Some([goid, parent])
}
