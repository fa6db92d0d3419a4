//! Goroutines.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::unit::{SOURCE_WORDS, UnitSource, go};

use crate::arch::processor as arch;
use crate::kernel::task::Task;
use crate::user;

/// The id of the running goroutine. `None` outside of goroutines.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task) -> Option<[u64; 2]> {
    // SAFETY: a live value of the map.
    let words = unsafe { &(*source).words };
    id(words, running(words, task)?)
}

/// The id at `g`.
#[inline(always)]
pub fn id(words: &[u64; SOURCE_WORDS], g: u64) -> Option<[u64; 2]> {
    let goid = user::word::<u64>(g.wrapping_add(words[go::GOID]))?;
    // It is 0 on the scheduler's own stack.
    if goid == 0 { None } else { Some([goid, 0]) }
}

/// The id of the goroutine that started the running one. `None` before Go 1.21. Reading it takes as long as reading the running one's own
/// id, so it is read only if it is needed.
#[inline(always)]
pub fn starter(source: *const UnitSource, task: Task) -> Option<u64> {
    // SAFETY: a live value of the map.
    let words = unsafe { &(*source).words };
    if words[go::PARENT_GOID] == 0 {
        return None;
    }
    user::word::<u64>(running(words, task)?.wrapping_add(words[go::PARENT_GOID]))
}

/// The pointer to the running `g`.
#[inline(always)]
fn running(words: &[u64; SOURCE_WORDS], task: Task) -> Option<u64> {
    match words[go::G] {
        // SAFETY: the registers are those of the current task.
        0 => unsafe { in_register(task.registers()) },
        offset => user::word::<u64>(task.thread_pointer()?.wrapping_add(offset)),
    }
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
