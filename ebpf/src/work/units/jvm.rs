//! Virtual threads of a HotSpot JVM.
//!
//! A virtual thread runs on a carrier: a thread that runs others in turn. Each `JavaThread` knows its own `Thread` object and
//! that of the virtual thread that it runs now. A thread that runs itself is a platform thread.

use onlooker_common::losses::Loss;
use onlooker_common::selection::process_flag;
use onlooker_common::unit::{self, UnitSource, jvm};

use super::thread;
use crate::arch::processor;
use crate::kernel::task::Task;
use crate::maps::count;
use crate::selected::Selected;
use crate::state::stream::Stream;
use crate::state::thread::Thread;
use crate::state::unit::Unit;
use crate::user;

/// Whether an address can be that of a `JavaThread`. Another value would cost a fault.
#[inline(always)]
fn is_plausible(address: u64) -> bool {
    address & 7 == 0 && address >> 12 != 0 && address >> 47 == 0
}

/// Notes in the stream which virtual thread uses it in the current system call. If none does, it is the thread.
#[inline(always)]
pub fn note(process: Selected, source: *const UnitSource, task: Task, tid: u32, stream: Stream) {
    let Some(thread) = thread::state(task) else {
        stream.used_by(unit::NONE, [0; 2]);
        return;
    };
    let Unit { kind, words } = match running(source, task, thread) {
        Some(Running::Virtual(id)) => {
            if !process.has(process_flag::VIRTUAL_THREADS) {
                process.set(process_flag::SCHEDULER | process_flag::VIRTUAL_THREADS);
                process.clear(process_flag::LOOP);
            }
            if thread.request().is_known() {
                // It belongs to a virtual thread that could not be read then, and this may be another.
                thread.request().clear();
                thread.tick().clear();
            }
            Unit { kind: unit::VIRTUAL_THREAD, words: [id, 0] }
        }
        // The process's virtual threads run on other threads.
        Some(Running::Itself) => thread::itself(process, tid),
        None => thread::unit(process, tid),
    };
    stream.used_by(kind, words);
}

/// A word of the source.
#[inline(always)]
fn word(source: *const UnitSource, at: usize) -> u64 {
    // SAFETY: a live value of the map.
    unsafe { (*source).words[at] }
}

/// What a `JavaThread` runs.
enum Running {
    Virtual(u64),
    Itself,
}

/// `None` if that is unknown.
#[inline(always)]
fn running(source: *const UnitSource, task: Task, thread: Thread) -> Option<Running> {
    // SAFETY: the registers of the current task.
    let at = unsafe { processor::java_thread(task.registers()) };
    let [id, current_id] = jvm::unpair(word(source, jvm::IDS));
    let [own_object, current_object] = jvm::unpair(word(source, jvm::OBJECTS));
    // A JavaThread stays with its thread, and its own object keeps its id.
    if thread.java_thread() != at {
        if !is_plausible(at) || !is_of_current(word(source, jvm::THREAD), at, task)? {
            count(Loss::UnitUnread);
            return None;
        }
        let own = object_id(source, at + own_object, id)?;
        thread.set_java_thread_id(own);
        thread.set_java_thread(at);
    }
    let running =
        if current_id == 0 { object_id(source, at + current_object, id)? } else { user::word::<u64>(at + current_id)? };
    if running == thread.java_thread_id() { Some(Running::Itself) } else { Some(Running::Virtual(running)) }
}

/// Whether the `JavaThread` is that of the current thread. Native code may use its register for something else.
#[inline(always)]
fn is_of_current(offsets: u64, java_thread: u64, task: Task) -> Option<bool> {
    let [os_thread, pthread] = jvm::unpair(offsets);
    let os_thread = user::word::<u64>(java_thread + os_thread)?;
    // glibc's and musl's pthread_t is the thread pointer, on x86-64. The thread id would be that of the pid namespace.
    Some(user::word::<u64>(os_thread.wrapping_add(pthread))? == task.thread_pointer()?)
}

/// The id of the `Thread` object that the handle at `handle` refers to.
///
/// The collector may move objects meanwhile. An object is read only if the pointer to it is valid, and has not changed
/// afterwards: until then its old place is not used for anything else.
#[inline(always)]
fn object_id(source: *const UnitSource, handle: u64, id: u64) -> Option<u64> {
    let (bad, shift) = (word(source, jvm::BAD_COLOURS), word(source, jvm::SHIFT));
    let handle = user::word::<u64>(handle)?;
    let pointer = user::word::<u64>(handle)?;
    let mut address = pointer;
    if bad != 0 {
        if pointer & user::word::<u64>(bad)? != 0 {
            count(Loss::UnitUnread);
            return None;
        }
        if shift != 0 {
            address = pointer >> (user::word::<u64>(shift)? & 63);
        }
    }
    let found = user::word::<u64>(address.wrapping_add(id))?;
    if found == 0 || user::word::<u64>(handle)? != pointer {
        count(Loss::UnitUnread);
        return None;
    }
    Some(found)
}
