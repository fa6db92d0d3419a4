//! Counts the runnable requests of a process: those in flight that do not wait for the response to a call.
//!
//! In an event loop the tick proves an owner only while exactly one request is runnable.

use onlooker_common::losses::Loss;
use onlooker_common::owner::evidence;
use onlooker_common::selection::{Waiting, process_flag};

use crate::atomic;
use crate::maps::{COMPLETED, WAITING, count};
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::stream::Stream;

/// A process read the beginning of a request.
#[inline(always)]
pub fn request_begins(stream: Stream, process: Selected, tgid: u32) {
    if stream.exchange_in_flight(true) {
        stream.set_counted_by(tgid);
        process.add_runnable(1);
    }
}

/// The response to the request on a server connection begins, or there will be none.
#[inline(always)]
pub fn request_ends(stream: Stream) {
    if !stream.exchange_in_flight(false) {
        return;
    }
    // Another process may respond than the one that counts the request.
    let Some(process) = Selected::find(stream.counted_by()) else { return };
    if process.has(process_flag::CALLS) && process.has(process_flag::LOOP) {
        match WAITING.get_ptr_mut(stream.cookie()) {
            // SAFETY: a live value of the map.
            Some(waiting) if unsafe { (*waiting).position == stream.message_position() } => unsafe {
                (*waiting).answered = 1;
                if (*waiting).calls > 0 {
                    // Its calls have already made it not runnable.
                    return;
                }
            },
            _ => {
                // A call that it makes later must not lower the count a second time.
                let answered = Waiting { position: stream.message_position(), calls: 0, answered: 1 };
                if WAITING.insert(stream.cookie(), answered, 0).is_err() {
                    count(Loss::RequestsFull);
                }
            }
        }
    }
    process.add_runnable(-1);
}

/// The owner of a client's stream begins to wait for what happens on it.
#[inline(always)]
pub fn call_begins(stream: Stream, process: Selected) {
    let owner = stream.owner();
    // A child process does not count its parent's requests.
    if !owner.is_known() || owner.evidence() == evidence::FORK || !process.has(process_flag::LOOP) {
        return;
    }
    let known = match WAITING.get_ptr_mut(owner.cookie()) {
        // SAFETY: a live value of the map.
        Some(waiting) if unsafe { (*waiting).position == owner.position() } => waiting,
        // A later request was read on the owner's connection: the owner is not counted any more.
        // SAFETY: a live value of the map.
        Some(waiting) if unsafe { (*waiting).position > owner.position() } => return,
        _ => {
            let fresh = Waiting { position: owner.position(), calls: 0, answered: 0 };
            if WAITING.insert(owner.cookie(), fresh, 0).is_err() {
                count(Loss::RequestsFull);
                return;
            }
            let Some(waiting) = WAITING.get_ptr_mut(owner.cookie()) else { return };
            waiting
        }
    };
    // SAFETY: a live, aligned value of the map.
    unsafe {
        let before = atomic::fetch_add(&raw mut (*known).calls, 1);
        if before == 0 && (*known).answered == 0 {
            process.add_runnable(-1);
        }
    }
    stream.exchange_awaited(true);
}

/// The call on a client's stream has its response, or there will be none.
#[inline(always)]
pub fn call_ends(stream: Stream, process: Selected) {
    if !stream.exchange_awaited(false) {
        return;
    }
    let owner = stream.owner();
    let Some(waiting) = WAITING.get_ptr_mut(owner.cookie()) else {
        // The entry was evicted, so the request may be missing from the count for good.
        process.set(process_flag::MISCOUNTED);
        return;
    };
    // SAFETY: a live, aligned value of the map.
    unsafe {
        if (*waiting).position != owner.position() {
            return;
        }
        let before = atomic::fetch_add(&raw mut (*waiting).calls, -1);
        if before == 1 && (*waiting).answered == 0 {
            process.add_runnable(1);
        }
    }
}

/// Whether no request of the process except `owner` is runnable.
#[inline(always)]
pub fn is_only_runnable(owner: SharedOwner, process: Selected) -> bool {
    if process.has(process_flag::SCHEDULER) {
        return false;
    }
    if process.has(process_flag::NO_QUEUE) {
        return true;
    }
    if process.has(process_flag::MISCOUNTED) {
        return false;
    }
    let is_counted = match WAITING.get_ptr(owner.cookie()) {
        // SAFETY: a live value of the map.
        Some(waiting) => unsafe {
            let (position, calls, answered) = ((*waiting).position, (*waiting).calls, (*waiting).answered);
            position < owner.position() || (position == owner.position() && calls == 0 && answered == 0)
        },
        None => true,
    };
    process.runnable() == i64::from(is_counted)
}

/// Whether the owner is known, and the agent has not reported the request as complete.
#[inline(always)]
pub fn is_open(owner: SharedOwner) -> bool {
    if !owner.is_known() {
        return false;
    }
    match COMPLETED.get_ptr(owner.cookie()) {
        // SAFETY: a live value of the map.
        Some(until) => owner.position() >= unsafe { *until },
        None => true,
    }
}
