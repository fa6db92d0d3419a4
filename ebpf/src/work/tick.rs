//! Ticks: one iteration of an event loop, from one wait to the next.

use onlooker_common::selection::process_flag;

use crate::kernel::task::{Task, current_ids};
use crate::selected::Selected;
use crate::state::stream::Stream;
use crate::work::units::thread;

/// A thread is about to wait for events: its tick ends.
///
/// `by_epoll`: the thread waits in epoll, as event loops do. Code that waits for something else, such as a database, does
/// not have its request's connection in an epoll set meanwhile.
#[inline(always)]
pub fn ends(tgid: u32, by_epoll: bool) {
    let Some(process) = Selected::find(tgid) else { return };
    let Some(thread) = thread::state(Task::current()) else { return };
    thread.tick().clear();
    let in_loop = process.has(process_flag::LOOP);
    if by_epoll && !in_loop && thread.owes_response() && thread.socket().is_waited_for() {
        process.set(process_flag::LOOP);
    }
}

/// The current thread learns the outcome of a call: the tick belongs to the call's owner from now on.
#[inline(always)]
pub fn belongs_to_owner_of(stream: Stream) {
    if current_ids().0 == stream.tgid()
        && let Some(thread) = thread::state(Task::current())
    {
        thread.tick().copy(stream.owner());
    }
}
