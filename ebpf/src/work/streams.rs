//! Streams of HTTP/2: each is a request with an owner of its own.
//!
//! Where many requests share a connection, one unit of work often reads or writes for others. So what it does proves less than
//! on other connections:
//!
//! - A request is named by the position of its HEADERS frame.
//! - A call belongs to its goroutine's request: net/http's client writes each HEADERS frame from a goroutine that was started for
//!   the call. Other units may write what another one queued, so they prove no owner.
//! - A request that is read becomes the owner of the tick only if the operation has nothing of any other request.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::async_ids::begun_by;
use onlooker_common::connection::role;
use onlooker_common::owner::evidence;
use onlooker_common::segment::flag;
use onlooker_common::selection::{SelectedProcess, process_flag};
use onlooker_common::unit::{self, GoStream, UnitKey};

use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::{GO_STREAMS, UNITS};
use crate::process;
use crate::record::form::Moved;
use crate::selected::Selected;
use crate::state::stream::{Stream, StreamState, bit};
use crate::state::thread::Thread;
use crate::state::walk::{Walk, WalkState};
use crate::user;
use crate::work::owner::choose_ids;
use crate::work::units::{self, go, thread};
use crate::work::waiting::is_open;

/// A segment begins with the HEADERS frame that opens stream `number`, or (0) with the first bytes of a header that may do so.
/// The result means nothing: a global function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_stream(
    process: *mut SelectedProcess,
    stream: *mut StreamState,
    moved: *const Moved,
    number: u32,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(process), Some(stream)) = (unsafe { (Selected::new(process), Stream::new(stream)) }) else { return 0 };
    if moved.is_null() {
        return 0;
    }
    // SAFETY: a live value of the caller.
    let (tgid, position) = unsafe { ((*moved).tgid, (*moved).position) };
    if stream.role() != role::CLIENT {
        choose_ids(stream, None);
        stream.set_message_position(position);
        if number != 0 {
            note_request(process, stream, tgid, number);
        }
    } else {
        if number != 0 {
            process::calls(process, tgid);
        }
        if number != 0 && find_owner(stream, tgid) {
            choose_ids(stream, Some(stream.owner()));
        } else {
            stream.owner().clear();
            choose_ids(stream, None);
        }
        stream.set(bit::SENT);
    }
    stream.set_message_position(position);
    0
}

/// Notes a request that a goroutine of net/http's server read, for the goroutine that will handle it.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
fn note_request(process: Selected, stream: Stream, tgid: u32, number: u32) {
    let unit = stream.current_unit();
    if unit.kind != unit::GOROUTINE {
        return;
    }
    let Some(thread) = thread::state(Task::current()) else { return };
    // The tick is only a place for the value, which the stack has no room for. It proves nothing in a Go program.
    thread.tick().set(stream.cookie(), stream.message_position(), stream.message(), evidence::NONE);
    let request = thread.tick().as_ptr();
    // The connection's goroutine reads the first frames itself, together with the preface.
    let key = GoStream { tgid, number, starter: unit.words[0] };
    // SAFETY: a live value. If the kernel has no room, it forgets another stream, whose calls then have no owner.
    let _ = unsafe { GO_STREAMS.insert(key, &*request, 0) };
    if let Some(starter) = go::starter(process.unit_source(tgid), Task::current(), unit.words[0]) {
        // SAFETY: as above.
        let _ = unsafe { GO_STREAMS.insert(GoStream { starter, ..key }, &*request, 0) };
    }
}

/// A goroutine begins to handle the request of the stream of the `responseWriter` that is the function's second argument. The
/// goroutine of the connection has started it, as it has started the one that reads frames.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub unsafe fn handled_by_goroutine(registers: *const pt_regs) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let source = process.unit_source(tgid);
    // SAFETY: a live value of the map, which other CPUs may write; the context of a uprobe.
    let (kind, words, (g, _), [_, writer, _]) = unsafe {
        let kind = core::ptr::read_volatile(&raw const (*source).kind);
        (kind, &(*source).words, arch::goroutine(registers), arch::go_arguments(registers))
    };
    if kind != unit::GOROUTINE || words[unit::go::PARENT_GOID] == 0 {
        return;
    }
    let Some([id, _]) = go::id(words, g) else { return };
    let Some(starter) = user::word::<u64>(g.wrapping_add(words[unit::go::PARENT_GOID])) else { return };
    let Some(number) = stream_of(writer) else { return };
    let key = GoStream { tgid, number, starter };
    let Some(request) = GO_STREAMS.get_ptr_mut(key) else { return };
    // SAFETY: a live value of the map. The goroutine reads no other request.
    let _ = unsafe { UNITS.insert(UnitKey { tgid, kind, id }, &*request, 0) };
    let _ = GO_STREAMS.remove(key);
}

/// The number of the stream of a `responseWriter`. Its first member points to a `responseWriterState`, whose first member points to
/// the `stream`. That has its number behind a pointer. So it has been since Go 1.6.
#[inline(always)]
fn stream_of(writer: u64) -> Option<u32> {
    let state = user::peek::<u64>(writer)?;
    let stream = user::peek::<u64>(state)?;
    user::peek::<u32>(stream.wrapping_add(8))
}

/// Sets the stream's owner to that of the request now sent. Returns whether one was found.
#[inline(always)]
fn find_owner(stream: Stream, tgid: u32) -> bool {
    let unit = stream.current_unit();
    if unit.kind == unit::GOROUTINE
        && let Some((owner, evidence)) = units::open_request_of(tgid, unit)
    {
        stream.owner().copy_with_evidence(owner, evidence);
        return true;
    }
    if !stream.is(bit::SENT) && is_open(stream.owner()) {
        stream.owner().set_evidence(evidence::CONNECT);
        return true;
    }
    false
}

/// What [`streams_moved`] returns if the operation was not recorded.
pub const NOT_FOLLOWED: u32 = u32::MAX;

/// The frames of an operation have been followed. Returns how many bytes were written to the ring.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn streams_moved(
    process: *mut SelectedProcess,
    stream: *mut StreamState,
    moved: *const Moved,
    walk: *mut WalkState,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(process), Some(stream), Some(walk)) =
        (unsafe { (Selected::new(process), Stream::new(stream), Walk::new(walk)) })
    else {
        return NOT_FOLLOWED;
    };
    if moved.is_null() || walk.counts_only() != 0 {
        return NOT_FOLLOWED;
    }
    // SAFETY: a live value of the caller.
    let received = unsafe { (*moved).flags } & flag::EGRESS == 0;
    if received && let Some(thread) = thread::state(Task::current()) {
        frames_read(process, stream, walk, thread);
    }
    walk.recorded()
}

/// The thread read frames.
#[inline(always)]
fn frames_read(process: Selected, stream: Stream, walk: Walk, thread: Thread) {
    thread.tick().clear();
    let mut by = begun_by::UNKNOWN;
    if walk.to_server() != 0 {
        // The thread may have read several requests, and others than it may work on them.
        thread.request().clear();
        if walk.opened() != 0 {
            // Requests of streams are not counted as runnable.
            process.set(process_flag::MISCOUNTED);
        }
        if walk.opened() == 1 && walk.others() == 0 {
            thread.tick().set(stream.cookie(), stream.message_position(), stream.message(), evidence::THREAD);
            by = begun_by::REQUEST;
        }
    }
    units::tick_continues(stream.current_unit(), thread, by);
}
