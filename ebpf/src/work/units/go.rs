//! Goroutines.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::unit::{SOURCE_WORDS, UnitSource, go};

use crate::arch::processor as arch;
use crate::kernel::task::Task;
use crate::user;

/// The ids of the running goroutine and of the one that started it. `None` outside of goroutines.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task) -> Option<[u64; 2]> {
    // SAFETY: a live value of the map.
    let words = unsafe { &(*source).words };
    let g = match words[go::G] {
        // SAFETY: the registers are those of the current task.
        0 => unsafe { in_register(task.registers()) }?,
        offset => user::word::<u64>(task.thread_pointer()?.wrapping_add(offset))?,
    };
    ids(words, g)
}

/// The ids at `g`.
#[inline(always)]
pub fn ids(words: &[u64; SOURCE_WORDS], g: u64) -> Option<[u64; 2]> {
    let goid = user::word::<u64>(g.wrapping_add(words[go::GOID]))?;
    if goid == 0 {
        // The scheduler's own stack.
        return None;
    }
    let parent = match words[go::PARENT_GOID] {
        0 => 0,
        _ if goid <= words[go::OLD] => 0,
        offset => user::word::<u64>(g.wrapping_add(offset))?,
    };
    Some([goid, parent])
}

/// The pointer in the register that holds the running `g` in Go's code. C code uses the register for something else. So the
/// stack pointer must be within the stack of this `g`: its first two words are the stack's bounds.
///
/// # Safety
/// As [`arch::goroutine`].
#[inline(always)]
unsafe fn in_register(registers: *const pt_regs) -> Option<u64> {
    // SAFETY: as for this function.
    let (g, stack_pointer) = unsafe { arch::goroutine(registers) };
    let [low, high] = user::peek::<[u64; 2]>(g)?;
    (low < stack_pointer && stack_pointer <= high).then_some(g)
}
