//! Tasks of tokio that others wake: which request a task works for that reads no requests itself.
//!
//! hyper's client has a task for each connection. The task that makes a call gives it the request and wakes it. Of each woken
//! task, `UNITS` has the request whose task woke it, and one of these as its evidence:
//!
//! | evidence | meaning |
//! |---|---|
//! | `WOKEN` | tasks of this request woke it, and nothing else since it last waited |
//! | `WAKE` | something else woke it too. If the request is not known, nothing known woke it |
//! | `NONE` | it has written a message since it was woken |
//!
//! What else wakes tasks: I/O and timers, tasks that read no request, and code outside of tasks.
//!
//! This proves an owner only on a connection that one task alone writes to, which did not open it: a connection of a pool has
//! many writers. Such a task may wait for a place in a queue, which another request gives away and wakes it.
//!
//! It proves nothing either if the same request had the connection's message before: see `find_woken_owner`. Such an owner is
//! likely. It is corrected if a task of another request wakes the connection's task before the response is read.

use onlooker_common::owner::{Owner, evidence};
use onlooker_common::unit::{self, UnitKey, tokio};

use crate::kernel::task::{Task, current_ids};
use crate::maps::UNITS;
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::stream::{Stream, StreamState, bit};
use crate::user;
use crate::work::units::{self, tokio as tasks};
use crate::work::waiting::is_open;

/// Offsets in tokio's `Header` (`task/core.rs`) and `Vtable` (`task/raw.rs`), from 1.26 on.
mod offset {
    pub const STATE: u64 = 0;
    pub const VTABLE: u64 = 16;
    pub const ID_OFFSET: u64 = 72;
}

/// Bits of the state (`task/state.rs`): the task runs, or it will run because it was woken.
const RUNNING: u64 = 1;
const NOTIFIED: u64 = 4;
/// Before the id, a task has its header and a pointer to its scheduler.
const LARGEST_ID_OFFSET: u64 = 1024;

/// The current thread wakes the task with this header.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub fn by_running_task(header: u64) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let source = process.unit_source(tgid);
    // SAFETY: a live value of the map, which other CPUs may write.
    let (kind, words) = unsafe { (core::ptr::read_volatile(&raw const (*source).kind), &(*source).words) };
    if kind != unit::TOKIO_TASK {
        return;
    }
    let Some((is_busy, woken)) = target(words[tokio::IMAGE_START], words[tokio::IMAGE_END], header) else { return };
    let waker = tasks::read(source, Task::current()).map_or(0, |words| words[0]);
    // A task that reads requests works for these, whoever wakes it.
    if waker == woken || units::request_of(tgid, unit::TOKIO_TASK, woken).is_some() {
        return;
    }
    let owner = units::request_of(tgid, unit::TOKIO_TASK, waker).filter(|&owner| is_open(owner));
    let key = UnitKey { tgid, kind: unit::WOKEN_TASK, id: woken };
    let Some(known) = UNITS.get_ptr_mut(key) else {
        let _ = match owner {
            // SAFETY: a live value of the map.
            Some(owner) => UNITS.insert(key, unsafe { &*owner.as_ptr() }, 0),
            None => UNITS.insert(key, Owner::default(), 0),
        };
        if let Some(known) = UNITS.get_ptr_mut(key) {
            // SAFETY: a live value of the map.
            let known = unsafe { SharedOwner::within(known) };
            known.set_evidence(if owner.is_some() { evidence::WOKEN } else { evidence::WAKE });
        }
        return;
    };
    // SAFETY: a live value of the map.
    let known = unsafe { SharedOwner::within(known) };
    let is_pending = known.evidence() != evidence::NONE;
    let notes = notes(known);
    match owner {
        Some(owner) if notes & note::LATE != 0 && !owner.is_same_request(known) => {}
        Some(owner) if notes & note::REPEATED != 0 && writer_tag(owner) != notes & note::WRITER => {
            // It took the message that it has just written before it was woken for it.
            known.copy_with_evidence(owner, evidence::WAKE);
            set_notes(known, note::DOUBT | note::LATE | writer_tag(owner));
        }
        // It waits for the rest of the last response, and another one has a message. That one may be about to mark the task as woken.
        Some(owner) if is_pending && writer_tag(owner) == notes & note::WRITER && known.is_known() => {
            if !owner.is_same_request(known) {
                known.set_evidence(evidence::WAKE);
            } else if !is_busy {
                known.set_evidence(evidence::WOKEN);
            }
        }
        Some(owner) if is_pending && is_busy => {
            if !owner.is_same_request(known) {
                known.copy_with_evidence(owner, evidence::WAKE);
            }
        }
        Some(owner) => {
            if !is_pending && !owner.is_same_request(known) {
                // As above.
                set_notes(known, notes | note::DOUBT);
            }
            known.copy_with_evidence(owner, evidence::WOKEN);
        }
        None => {
            if notes & note::LATE == 0 && (!is_busy || !is_pending) {
                known.forget();
            }
            known.set_evidence(evidence::WAKE);
        }
    }
}

/// Whether the task with this header runs or has been woken already, and its id.
#[inline(always)]
fn target(image_start: u64, image_end: u64, header: u64) -> Option<(bool, u64)> {
    let state = user::peek::<u64>(header.wrapping_add(offset::STATE))?;
    let vtable = user::peek::<u64>(header.wrapping_add(offset::VTABLE))?;
    if vtable < image_start || vtable >= image_end {
        return None;
    }
    let id_offset = user::peek::<u64>(vtable.wrapping_add(offset::ID_OFFSET))?;
    if id_offset == 0 || id_offset > LARGEST_ID_OFFSET {
        return None;
    }
    let id = user::peek::<u64>(header.wrapping_add(id_offset))?;
    if id == 0 { None } else { Some((state & (RUNNING | NOTIFIED) != 0, id)) }
}

/// Notes which task opens a connection.
#[inline(always)]
pub fn opened(stream: Stream) {
    let unit = stream.current_unit();
    if unit.kind == unit::TOKIO_TASK {
        stream.set_writer(unit.words[0]);
    }
}

/// A task writes a message that begins a run. Copies the request that it was woken for to the stream, and returns whether that is
/// known. `writer`: the task that wrote the message before, or opened the connection. 0 if it is unknown.
#[inline(always)]
pub fn owner(tgid: u32, stream: Stream, writer: u64) -> bool {
    find_woken_owner(stream.as_ptr(), tgid, writer) != 0
}

/// A global function, which the verifier checks once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_woken_owner(stream: *mut StreamState, tgid: u32, writer: u64) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return 0 };
    let id = stream.current_unit().words[0];
    if writer == 0 {
        // Perhaps the connection is older than what is known of the process.
        stream.set(bit::UNOPENED);
    } else if stream.is(bit::SENT) != (writer == id) {
        // By the opener, or by several: it is no connection of a task of its own.
        stream.set(bit::MIXED);
    }
    let Some(known) = UNITS.get_ptr_mut(UnitKey { tgid, kind: unit::WOKEN_TASK, id }) else { return 0 };
    // SAFETY: a live value of the map.
    let known = unsafe { SharedOwner::within(known) };
    let (found, is_doubtful) = (known.evidence(), notes(known) & note::DOUBT != 0);
    known.set_evidence(evidence::NONE);
    set_notes(known, 0);
    if found == evidence::NONE || stream.is(bit::MIXED) || !is_open(known) {
        return 0;
    }
    // The task that used the connection before may wake it for the rest of a response. Then it may take the message of another,
    // which is about to wake it.
    let before = stream.owner();
    let is_repeated = stream.is(bit::SENT) && before.is_same_request(known);
    let is_next = !stream.is(bit::SENT) || (before.is_known() && !is_repeated);
    let is_proof = found == evidence::WOKEN && is_next && !is_doubtful && !stream.is(bit::UNOPENED);
    set_notes(known, writer_tag(known) | if is_repeated { note::REPEATED } else { 0 });
    stream.owner().copy_with_evidence(known, if is_proof { evidence::WOKEN } else { evidence::WAKE });
    1
}

/// The current task begins to read a response. If it was woken for the request only after it had written it, corrects the owner.
///
/// A global function, which the verifier checks once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn correct_woken_owner(stream: *mut StreamState, tgid: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return 0 };
    let id = stream.current_unit().words[0];
    let Some(known) = UNITS.get_ptr_mut(UnitKey { tgid, kind: unit::WOKEN_TASK, id }) else { return 0 };
    // SAFETY: a live value of the map.
    let known = unsafe { SharedOwner::within(known) };
    let notes = notes(known);
    set_notes(known, notes & !(note::REPEATED | note::LATE));
    if notes & note::LATE == 0 {
        return 0;
    }
    stream.owner().copy_with_evidence(known, evidence::WAKE);
    stream.set(bit::CORRECTED);
    if known.evidence() == evidence::WAKE {
        known.forget();
    }
    0
}

/// What is noted of a woken task besides its owner.
mod note {
    /// The request of the message that the task wrote last may be another one than was found.
    pub const DOUBT: u32 = 1;
    /// The task wrote its last two messages for the same request, as it seems. The response to the second has not come.
    pub const REPEATED: u32 = 1 << 1;
    /// The owner is that of the message that the task has written already. The response has not come.
    pub const LATE: u32 = 1 << 2;
    /// A hash of the request of the message that the task wrote last.
    pub const WRITER: u32 = !0b111;
}

/// The request's `note::WRITER`.
#[inline(always)]
fn writer_tag(owner: SharedOwner) -> u32 {
    let mixed = (owner.cookie() ^ owner.position().rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32 & note::WRITER
}

#[inline(always)]
fn notes(known: SharedOwner) -> u32 {
    // SAFETY: a member of a live value of the map.
    unsafe { (*known.as_ptr())._pad }
}

#[inline(always)]
fn set_notes(known: SharedOwner, notes: u32) {
    // SAFETY: a member of a live value of the map.
    unsafe { (*known.as_ptr().cast_mut())._pad = notes }
}
