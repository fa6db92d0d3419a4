//! Children that a thread started for its request and waits for.
//!
//! A handler may fork, or run a program, and wait for it. Then the child works for the handler's request. That is proven while
//! each process above the child, up to the thread that forked for the request, waits for the one below: for its end, or for
//! what it writes to its standard output or standard error. A child that goes on by itself proves nothing: a daemon, or a
//! worker that takes other requests' work from a queue.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::owner::evidence;
use onlooker_common::selection::process_flag;

use crate::kernel::task::Task;
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::thread::{Thread, ThreadState};
use crate::work::units::thread;
use crate::work::waiting::is_open;

/// Processes from the child to the thread that forked for the request: of `sh -c 'a | b'` there are two. Scripts nest.
const GENERATIONS: u32 = 4;

/// For so long after the fork the thread above may be on its way to wait: it is runnable and does not wait for anything else.
const STARTING: u64 = 100_000_000;

/// The current thread forks. The child works for the request that the thread works on.
#[inline(always)]
pub fn forked(process: Selected, current: Task, child: Task) {
    let Some(thread) = thread::known(current) else { return };
    let proves = !process.has(process_flag::LOOP) && thread::is_judged(process, thread);
    let works = proves && thread.owes_response() && is_open(thread.request());
    let request = if works { thread.request() } else { thread.started_for() };
    if !request.is_known() {
        return;
    }
    let Some(child) = thread::state(child) else { return };
    child.started_for().copy_with_evidence(request, evidence::FORK);
    // SAFETY: no arguments.
    child.set_started_at(unsafe { bpf_ktime_get_ns() });
}

/// The request that the current thread was started for, if that is proven.
#[inline(always)]
pub fn request(thread: Thread) -> Option<SharedOwner> {
    let request = thread.started_for();
    (request.is_known() && is_awaited(thread.as_ptr()) != 0).then_some(request)
}

/// Whether each process above the current thread's waits for the one below, up to a thread that owes the response to the
/// request. `state` is the current thread's.
///
/// A global function, which the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_awaited(state: *mut ThreadState) -> u32 {
    let mut below = Task::current();
    // SAFETY: the state in the current task's storage, or null as far as the verifier knows.
    let Some(mut thread) = (unsafe { Thread::new(state) }) else { return 0 };
    let request = thread.started_for();
    for _ in 0..GENERATIONS {
        let Some(above) = below.parent() else { return 0 };
        if !waits(above, below, thread) {
            return 0;
        }
        let Some(upper) = thread::known(above) else { return 0 };
        if upper.request().is_same_request(request) {
            return u32::from(upper.owes_response());
        }
        if !upper.started_for().is_same_request(request) {
            return 0;
        }
        below = above;
        thread = upper;
    }
    0
}

#[inline(always)]
fn waits(above: Task, below: Task, state_below: Thread) -> bool {
    // SAFETY: no arguments.
    let is_starting = || unsafe { bpf_ktime_get_ns() } < state_below.started_at() + STARTING && above.is_runnable();
    above.waits_for(below) || is_starting()
}
