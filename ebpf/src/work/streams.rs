//! Streams of HTTP/2: each is a request with an owner of its own.
//!
//! Where many requests share a connection, one unit of work often reads or writes for others. So what it does proves less than
//! on other connections:
//!
//! - A request is named by the position of its HEADERS frame.
//! - A call belongs to its goroutine's request: net/http's client writes each HEADERS frame from a goroutine that was started for
//!   the call. The goroutine that writes for grpc-go's client is observed: see [`crate::work::go_streams`], and so is Node:
//!   [`crate::work::node_streams`]. Other units may write what another one queued, so they prove no owner.
//! - A request that is read becomes the owner of the tick only if the operation has nothing of any other request.

use onlooker_common::async_ids::begun_by;
use onlooker_common::connection::role;
use onlooker_common::owner::evidence;
use onlooker_common::segment::flag;
use onlooker_common::selection::{SelectedProcess, process_flag};
use onlooker_common::unit;

use crate::kernel::task::Task;
use crate::process;
use crate::record::form::Moved;
use crate::selected::Selected;
use crate::state::event_loop::reading;
use crate::state::stream::{Stream, StreamState, bit};
use crate::state::thread::Thread;
use crate::state::unit::Unit;
use crate::state::walk::{Walk, WalkState};
use crate::work::owner::choose_ids;
use crate::work::units::{self, thread};
use crate::work::waiting::is_open;
use crate::work::{go_streams, node_streams};

/// A segment begins with the HEADERS frame that opens stream `number`, or (0) with the first bytes of a header that may do so.
/// `is_begun`: 1 if an earlier operation had the first bytes. The request has the ids and the position that it got then, and a call
/// then has no owner. The result means nothing: a global function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_stream(
    process: *mut SelectedProcess,
    stream: *mut StreamState,
    moved: *const Moved,
    number: u32,
    is_begun: u32,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(process), Some(stream)) = (unsafe { (Selected::new(process), Stream::new(stream)) }) else { return 0 };
    if moved.is_null() {
        return 0;
    }
    // SAFETY: a live value of the caller.
    let (tgid, position, unit) = unsafe { ((*moved).tgid, (*moved).position, unit_of(moved)) };
    let is_client = stream.role() == role::CLIENT;
    if is_client && number != 0 {
        process::calls(process, tgid);
    }
    if is_begun == 0 {
        let is_found = is_client && number != 0 && find_owner(stream, tgid, number, unit);
        if is_client && !is_found {
            stream.owner().clear();
        }
        choose_ids(stream, if is_found { Some(stream.owner()) } else { None });
        stream.set_message_position(position);
    }
    if is_client {
        stream.set(bit::SENT);
    } else if number != 0 {
        go_streams::request_read(process, stream, tgid, number, unit);
    }
    0
}

/// The unit that performs the operation. The stream's current unit may be another one by now: one unit reads from a connection while
/// another one writes to it.
///
/// # Safety
/// `moved` must point to a live value.
#[inline(always)]
unsafe fn unit_of(moved: *const Moved) -> Unit {
    // SAFETY: the caller's promise.
    unsafe { Unit { kind: (*moved).unit_kind, words: (*moved).unit } }
}

/// Sets the stream's owner to that of the request now sent by `unit`. Returns whether one was found.
#[inline(always)]
fn find_owner(stream: Stream, tgid: u32, number: u32, unit: Unit) -> bool {
    let sender = match unit.kind {
        unit::ASYNC_ID => node_streams::sender(),
        _ => unit,
    };
    if matches!(sender.kind, unit::GOROUTINE | unit::ASYNC_ID)
        && let Some(found) = go_streams::take_call(tgid, number, sender, stream.owner())
    {
        return found;
    }
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
    let (received, unit) = unsafe { ((*moved).flags & flag::EGRESS == 0, unit_of(moved)) };
    if received && let Some(thread) = thread::state(Task::current()) {
        frames_read(process, stream, walk, thread, unit);
    }
    walk.recorded()
}

/// The thread read frames.
#[inline(always)]
fn frames_read(process: Selected, stream: Stream, walk: Walk, thread: Thread, unit: Unit) {
    thread.tick().clear();
    let mut by = begun_by::FRAMES;
    let opens = walk.to_server() != 0 && walk.opened() != 0;
    thread.event_loop().set_reading(if opens { reading::REQUESTS } else { reading::FRAMES });
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
    units::tick_continues(unit, thread, by);
}
