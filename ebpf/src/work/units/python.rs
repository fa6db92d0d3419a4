//! Contexts of Python (PEP 567). Each asyncio task runs in a context of its own.

use onlooker_common::unit::{UnitSource, python};

use crate::kernel::task::Task;
use crate::user;

/// The address of the current context. `None` where the thread has none, or runs no Python.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task) -> Option<[u64; 2]> {
    // SAFETY: a live value of the map.
    let words = unsafe { (*source).words };
    let mut block = task.thread_pointer()?;
    if words[python::BLOCK] != 0 {
        block = user::word::<u64>(block.wrapping_add(words[python::BLOCK]))?;
        if block == 0 {
            return None;
        }
    }
    let state = user::word::<u64>(block.wrapping_add(words[python::SLOT]))?;
    if state == 0 {
        return None;
    }
    let context = user::word::<u64>(state.wrapping_add(words[python::CONTEXT]))?;
    if context == 0 { None } else { Some([context, 0]) }
}
