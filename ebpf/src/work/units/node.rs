//! Async ids of Node. `common::async_ids` has the rules.
//!
//! The words of a `UnitSource` are pairs, one for each event loop of the process:
//! 1. the address of the loop's `async_id_fields`: four doubles;
//! 2. the thread id of the loop in the lower half, and its ring of intervals in the upper half.

use core::ptr;
use onlooker_common::async_ids::{AsyncIds, INTERVALS as KEPT, Proof, begun_by, interval_of};
use onlooker_common::limits::EVENT_LOOPS;
use onlooker_common::losses::Loss;
use onlooker_common::owner::Owner;
use onlooker_common::unit::{SOURCE_WORDS, UnitSource};

use super::thread;
use crate::kernel::task::Task;
use crate::maps::{INTERVALS, count};
use crate::state::event_loop::{EventLoop, Interval, verdict};
use crate::state::owner::SharedOwner;
use crate::state::thread::Thread;
use crate::user;
use crate::work::waiting::is_open;

/// Where the ids of a thread's event loop are, and its ring of intervals. `None` if the thread runs none.
#[inline(always)]
fn place(source: *const UnitSource, tid: u32) -> Option<(u64, u32)> {
    for pair in 0..SOURCE_WORDS / 2 {
        // SAFETY: words of a live value.
        let (fields, of) = unsafe { ((*source).words[2 * pair], (*source).words[2 * pair + 1]) };
        if of as u32 == tid && fields != 0 {
            return Some((fields, (of >> 32) as u32));
        }
    }
    None
}

/// Reads the ids of the current thread's event loop. Returns the execution id and the trigger id.
#[inline(always)]
pub fn read(source: *const UnitSource, task: Task, tid: u32) -> Option<[u64; 2]> {
    let (fields, ring) = place(source, tid)?;
    let event_loop = thread::state(task)?.event_loop();
    let ids = user::word::<[u64; 4]>(fields).and_then(|bits| {
        let ids = AsyncIds::from_bits(bits);
        if ids.is_none() {
            count(Loss::UnitUnread);
        }
        ids
    });
    // The counter never goes back.
    let Some(ids) = ids.filter(|ids| ids.newest >= event_loop.newest()) else {
        event_loop.set_lost(1);
        event_loop.set_verdict(verdict::UNDECIDED);
        event_loop.set_begun_by(begun_by::UNKNOWN);
        return None;
    };
    event_loop.set_thread(tid);
    event_loop.set_ring(ring);
    if event_loop.lost() != 0 {
        begin_interval(event_loop, event_loop.newest(), None);
        event_loop.set_lost(0);
    }
    event_loop.set_ids(ids);
    Some([ids.execution, ids.trigger])
}

/// The loop begins to work for the owner of the current tick. Its ids were just read.
#[inline(always)]
pub fn begins(thread: Thread, by: u32) {
    let event_loop = thread.event_loop();
    begin_interval(event_loop, event_loop.newest(), Some(thread.tick()));
    event_loop.set_stretch_newest(event_loop.newest());
    event_loop.set_begun_by(by);
}

/// The next new id is that of an object whose work has the owner that was found last, or none.
#[inline(always)]
pub fn next_id_is(thread: Thread, is_owned: bool) {
    let event_loop = thread.event_loop();
    let newest = event_loop.newest();
    begin_interval(event_loop, newest, if is_owned { Some(event_loop.owner()) } else { None });
    begin_interval(event_loop, newest + 1, Some(thread.tick()));
}

/// Callbacks of `setImmediate` may have run since the last operation, in the name of any request.
#[inline(always)]
pub fn before_wait(thread: Thread) {
    let event_loop = thread.event_loop();
    if event_loop.immediates() != 0 {
        begin_interval(event_loop, event_loop.newest(), None);
    }
}

/// The first callback of `setImmediate` is registered (`due`), or all have run.
#[inline(always)]
pub fn immediates(thread: Thread, due: bool) {
    before_wait(thread);
    thread.event_loop().set_immediates(u32::from(due));
}

/// Reads the ids of the current thread's event loop and decides whose work the operation is, if it is a write or a connect.
/// The verdict is one of `state::event_loop::verdict`. It is left in memory, where the caller's verifier does not follow it.
#[inline(always)]
pub fn read_and_judge(source: *const UnitSource, task: Task, tid: u32) -> Option<[u64; 2]> {
    let words = read(source, task, tid)?;
    judge(thread::state(task)?);
    Some(words)
}

#[inline(always)]
fn judge(thread: Thread) {
    let event_loop = thread.event_loop();
    let (stretch, ids) = (event_loop.stretch(), event_loop.ids());
    event_loop.set_verdict(verdict::UNKNOWN);
    let owner = match stretch.proof(ids) {
        Proof::Stretch => thread.tick(),
        Proof::Birth(id) => match owner_of(event_loop, id) {
            Some(owner) => owner,
            None => return,
        },
        Proof::Nothing => return event_loop.set_verdict(verdict::UNDECIDED),
    };
    if !is_open(owner) {
        return;
    }
    event_loop.owner().copy(owner);
    event_loop.set_verdict(verdict::OWNED);
    if !owner.is_same_request(thread.tick()) && ids.execution > stretch.newest {
        // What was born since the operation was continued is its own: the reused connection's new id, the parser's.
        let first = if ids.socket > stretch.newest && ids.socket < ids.execution { ids.socket } else { ids.execution };
        let last = start_at(event_loop, event_loop.oldest().wrapping_sub(1));
        begin_interval(event_loop, if first - 1 > last { first - 1 } else { last }, Some(event_loop.owner()));
        begin_interval(event_loop, ids.newest, Some(thread.tick()));
    }
}

#[inline(always)]
fn entry(event_loop: EventLoop, place: u32) -> Option<*mut Interval> {
    INTERVALS.get_ptr_mut((event_loop.ring() & (EVENT_LOOPS - 1)) * KEPT + (place & (KEPT - 1)))
}

/// The newest id when the interval at a place began; 0 if there is none.
#[inline(always)]
fn start_at(event_loop: EventLoop, place: u32) -> u64 {
    let Some(interval) = entry(event_loop, place) else { return 0 };
    // SAFETY: members of a live value of the map.
    let (start, thread) = unsafe { ((*interval).start, (*interval).thread) };
    // Without a branch, as in `interval_of`: all ones if the threads are the same.
    let difference = u64::from(thread ^ event_loop.thread());
    start & (difference.wrapping_sub(1) >> (u64::BITS - 1)).wrapping_neg()
}

#[inline(always)]
fn owner_of(event_loop: EventLoop, id: u64) -> Option<SharedOwner> {
    let place = interval_of(id, event_loop.oldest(), |place| start_at(event_loop, place))?;
    // SAFETY: a live value of the map. Only this thread uses it.
    entry(event_loop, place).map(|interval| unsafe { SharedOwner::within(&raw mut (*interval).owner) })
}

/// Ids that are born after `start` belong to `owner`.
#[inline(always)]
fn begin_interval(event_loop: EventLoop, start: u64, owner: Option<SharedOwner>) {
    write_interval(event_loop, start, owner.map_or(ptr::null(), SharedOwner::as_ptr));
}

/// The owner is unknown if it is null. An `Option` would take a register that is not always set, which the verifier rejects.
#[inline(never)]
fn write_interval(event_loop: EventLoop, start: u64, owner: *const Owner) {
    let oldest = event_loop.oldest() & (KEPT - 1);
    let last = oldest.wrapping_sub(1) & (KEPT - 1);
    // Nothing was born in the last one.
    let is_empty = start_at(event_loop, last) == start;
    let Some(interval) = entry(event_loop, if is_empty { last } else { oldest }) else { return };
    // SAFETY: a live value of the map. Only this thread uses it.
    unsafe {
        (*interval).start = start;
        (*interval).thread = event_loop.thread();
        let slot = SharedOwner::within(&raw mut (*interval).owner);
        if owner.is_null() {
            slot.clear();
        } else {
            slot.copy(SharedOwner::within(owner.cast_mut()));
        }
    }
    if !is_empty {
        event_loop.set_oldest(oldest + 1);
    }
}
