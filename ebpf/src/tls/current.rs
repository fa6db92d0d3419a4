//! The call of a TLS library around a system call.

use onlooker_common::selection::process_flag;

use super::call::Calls;
use super::goroutine;
use crate::arch::processor as arch;
use crate::kernel::task::Task;
use crate::selected::Selected;
use crate::work::units::thread;

/// The object of the call that the current thread or goroutine is in while it executes a system call.
#[inline(always)]
pub fn object(process: Selected, tgid: u32, task: Task) -> Option<u64> {
    // SAFETY: the registers are those of the current task.
    if process.has(process_flag::TLS_GOROUTINES)
        && let Some(object) = unsafe { goroutine::current_object(task.registers(), tgid) }
    {
        return Some(object);
    }
    let thread = thread::known(task)?;
    // SAFETY: the registers are those of the current task.
    Calls::of_thread(thread, unsafe { arch::stack_pointer(task.registers()) }).object()
}
