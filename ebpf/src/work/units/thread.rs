//! Threads.

use aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::bpf_task_storage_get;
use core::ptr;
use onlooker_common::losses::Loss;
use onlooker_common::selection::process_flag;
use onlooker_common::unit;

use crate::kernel::task::Task;
use crate::maps::{THREADS, count};
use crate::selected::Selected;
use crate::state::thread::Thread;
use crate::state::unit::Unit;

/// The state of a task's thread, which must be the current one or not running yet. `None` if the kernel could not allocate it.
#[inline(always)]
pub fn state(task: Task) -> Option<Thread> {
    let thread = uncounted(task);
    if thread.is_none() {
        count(Loss::NoTaskStorage);
    }
    thread
}

/// As [`state`], without counting a failure.
#[inline(always)]
pub fn uncounted(task: Task) -> Option<Thread> {
    // SAFETY: the map's value is a ThreadState, for which zeros are valid. It lives as long as the thread.
    unsafe {
        let state = bpf_task_storage_get(
            THREADS.as_ptr(),
            task.as_ptr(),
            ptr::null_mut(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        );
        Thread::new(state.cast())
    }
}

/// What is remembered of any task's thread. If it is not the current one, it may change at any time.
#[inline(always)]
pub fn known(task: Task) -> Option<Thread> {
    // SAFETY: as above.
    unsafe { Thread::new(bpf_task_storage_get(THREADS.as_ptr(), task.as_ptr(), ptr::null_mut(), 0).cast()) }
}

/// The thread as a unit of work. The unit is unknown in a process with an event loop, and where units move between threads.
#[inline(always)]
pub fn unit(process: Selected, tid: u32) -> Unit {
    if process.has(process_flag::SCHEDULER) { Unit::UNKNOWN } else { itself(process, tid) }
}

/// The same for a thread that runs no other units.
#[inline(always)]
pub fn itself(process: Selected, tid: u32) -> Unit {
    if process.has(process_flag::LOOP) {
        Unit::UNKNOWN
    } else {
        Unit { kind: unit::THREAD, words: [u64::from(tid), 0] }
    }
}

/// Whether what the thread did can prove something. A thread of a JVM may have carried virtual threads before they could be
/// read, until it is known what it runs.
#[inline(always)]
pub fn is_judged(process: Selected, thread: Thread) -> bool {
    !process.has(process_flag::VIRTUAL_THREADS) || thread.java_thread() != 0
}
