//! The call of a TLS library around a system call.

use onlooker_common::selection::process_flag;

use super::call::Calls;
use super::goroutine;
use crate::arch::processor as arch;
use crate::kernel::task::Task;
use crate::selected::Selected;
use crate::state::tls::Call;
use crate::work::units::thread;

/// The call that the current thread or goroutine is in while it executes a system call.
#[inline(always)]
pub fn call(process: Selected, tgid: u32, task: Task) -> Option<Call> {
    // SAFETY: the registers are those of the current task.
    if process.has(process_flag::TLS_GOROUTINES)
        && let Some(call) = unsafe { goroutine::current_call(task.registers(), tgid) }
    {
        return Some(call);
    }
    let thread = thread::known(task)?;
    // SAFETY: the registers are those of the current task.
    Calls::of_thread(thread, unsafe { arch::stack_pointer(task.registers()) }).current()
}
