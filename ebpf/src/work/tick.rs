//! Ticks: one iteration of an event loop, from one wait to the next.

use onlooker_common::async_ids::begun_by;
use onlooker_common::selection::process_flag;

use crate::kernel::task::{Task, current_ids};
use crate::selected::Selected;
use crate::state::stream::Stream;
use crate::work::units::{self, node, thread};

/// A thread is about to wait for events: its tick ends.
///
/// `by_epoll`: the thread waits in epoll, as event loops do. Code that waits for something else, such as a database, does
/// not have its request's connection in an epoll set meanwhile.
/// `may_block`: the wait is known to have a time. A loop of Node with a callback of `setImmediate` does not block.
#[inline(always)]
pub fn ends(tgid: u32, tid: u32, by_epoll: bool, may_block: bool) {
    let Some(process) = Selected::find(tgid) else { return };
    let Some(thread) = thread::state(Task::current()) else { return };
    thread.tick().clear();
    units::tick_ends(process, tgid, tid, begun_by::UNKNOWN);
    if may_block {
        thread.event_loop().set_immediates(0);
    }
    let may_show_loop = by_epoll && !process.has(process_flag::LOOP) && thread::is_judged(process, thread);
    if may_show_loop && thread.owes_response() && thread.socket().is_waited_for() {
        process.set(process_flag::LOOP);
    }
}

/// A loop of Node begins to run timers, or callbacks of operations that other threads finished. They belong to any request.
#[inline(always)]
pub fn callbacks_begin() {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let Some(thread) = thread::state(Task::current()) else { return };
    thread.tick().clear();
    units::tick_ends(process, tgid, tid, begun_by::CALLBACKS);
}

/// A loop of Node registers its first callback of `setImmediate` (`due`), or has run the last.
#[inline(always)]
pub fn immediates(due: bool) {
    let (tgid, _) = current_ids();
    if Selected::find(tgid).is_some()
        && let Some(thread) = thread::state(Task::current())
    {
        node::immediates(thread, due);
    }
}

/// The current thread learns the outcome of a call: the tick belongs to the call's owner from now on.
#[inline(always)]
pub fn belongs_to_owner_of(stream: Stream) {
    let (tgid, tid) = current_ids();
    if tgid != stream.tgid() {
        return;
    }
    let Some(thread) = thread::state(Task::current()) else { return };
    thread.tick().copy(stream.owner());
    if let Some(process) = Selected::find(tgid) {
        units::tick_ends(process, tgid, tid, begun_by::UNKNOWN);
    }
}
