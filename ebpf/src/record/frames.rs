//! Records operations of HTTP/2 connections: frame headers and what a parser needs of the payloads.
//!
//! One operation becomes several segments. The captured bytes of each are its beginning: frames that are captured whole, and
//! the beginning of one that is not. The rest of that frame is the rest of the segment. A segment also ends before a HEADERS
//! frame that opens a stream: that request has an owner and ids of its own.
//!
//! The functions are global: the verifier checks each once, by itself. Only HTTP/2 connections use them, and the first
//! operations of others.

mod begin;
mod walk;

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use core::ptr;
use onlooker_common::losses::Loss;
use onlooker_common::plaintext::Plaintext;
use onlooker_common::segment::{Segment, flag};
use onlooker_common::selection::SelectedProcess;

pub use self::begin::begins_with_settings;
use crate::kernel::task::Task;
use crate::maps::{count, count_many};
use crate::record::arguments::Bytes;
use crate::record::capture::{Form, NO_ROOM};
use crate::record::form::Moved;
use crate::selected::Selected;
use crate::state::frames::mode;
use crate::state::stream::{Direction, Stream, StreamState};
use crate::state::tls::PlaintextState;
use crate::state::walk::{Walk, WalkState, outcome};
use crate::user::{CONTINUE, LEAVE};
use crate::work::streams;
pub use crate::work::streams::NOT_FOLLOWED;
use crate::work::units::thread;

/// The most segments of one operation. If it has more, its rest is a hole, and frames are not followed any further.
const SEGMENTS: u32 = 1024;

/// A form of operations with frames.
pub trait Framed: Form {
    /// Records an operation if the stream's frames are followed, by a global function. Returns how many bytes were written to
    /// the ring, or [`NOT_FOLLOWED`].
    ///
    /// # Safety
    /// The stream must be of the kind that has this form.
    unsafe fn record(process: Selected, moved: &mut Moved, stream: Stream, source: Bytes) -> u32;
}

impl Framed for Segment {
    #[inline(always)]
    unsafe fn record(process: Selected, moved: &mut Moved, stream: Stream, source: Bytes) -> u32 {
        record_frames(process.as_ptr(), moved, stream.as_ptr(), source.at, source.buffers)
    }
}

impl Framed for Plaintext {
    #[inline(always)]
    unsafe fn record(process: Selected, moved: &mut Moved, stream: Stream, source: Bytes) -> u32 {
        // The state of an object begins with its stream.
        record_frames_of_plaintext(process.as_ptr(), moved, stream.as_ptr().cast(), source.at, source.buffers)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn record_frames(
    process: *mut SelectedProcess,
    moved: *mut Moved,
    stream: *mut StreamState,
    at: u64,
    buffers: u64,
) -> u32 {
    follow::<Segment>(process, moved, stream, Bytes { at, buffers })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn record_frames_of_plaintext(
    process: *mut SelectedProcess,
    moved: *mut Moved,
    plaintext: *mut PlaintextState,
    at: u64,
    buffers: u64,
) -> u32 {
    follow::<Plaintext>(process, moved, plaintext.cast(), Bytes { at, buffers })
}

/// The pointers are checked before they are used.
#[inline(always)]
fn follow<F: Framed>(process: *mut SelectedProcess, moved: *mut Moved, stream: *mut StreamState, source: Bytes) -> u32 {
    let mut rest = Rest { process, moved, stream, walk: ptr::null_mut() };
    let rest = &raw mut rest;
    let Some(thread) = thread::uncounted(Task::current()) else { return NOT_FOLLOWED };
    // The pointers are read from there again, because the stack has no room for another copy of them.
    // SAFETY: a local. The callback takes the index and a Rest.
    unsafe {
        ptr::write_volatile(&raw mut (*rest).walk, thread.walk().as_ptr());
        let all = || ptr::read_volatile(rest);
        let Rest { moved, stream, walk, .. } = all();
        if begin::prepare_walk(moved, stream, walk, source.at, source.buffers) == mode::UNKNOWN {
            return NOT_FOLLOWED;
        }
        bpf_loop(SEGMENTS, next_segment::<F> as *mut c_void, rest.cast(), 0);
        let Rest { process, moved, stream, walk } = all();
        streams::streams_moved(process, stream, moved, walk)
    }
}

/// What the segments of an operation are made from.
#[repr(C)]
struct Rest {
    process: *mut SelectedProcess,
    moved: *mut Moved,
    stream: *mut StreamState,
    walk: *mut WalkState,
}

/// Walks to the end of the next segment, and records it.
extern "C" fn next_segment<F: Framed>(index: u32, rest: *mut Rest) -> i64 {
    // SAFETY: called by `record_frames` with its own struct, which points to live values or is null.
    let (process, moved, stream, walk) = unsafe { ((*rest).process, (*rest).moved, (*rest).stream, (*rest).walk) };
    if process.is_null() || moved.is_null() || stream.is_null() {
        return LEAVE;
    }
    walk::walk_frames(moved, stream, walk, u32::from(index == SEGMENTS - 1));
    // SAFETY: live values.
    let (process, stream, walk) = unsafe { (Selected::within(process), Stream::within(stream), Walk::within(walk)) };
    if walk.counts_only() != 0 {
        return LEAVE;
    }
    let opens = walk.outcome() == outcome::OPENS;
    // An earlier operation began the header, which does not end the segment.
    let is_begun = opens && walk.kept() == 0;
    if index == 0 && begins_header(moved, stream, walk) {
        streams::open_stream(process.as_ptr(), stream.as_ptr(), moved, 0, 0);
    }
    if walk.length() > walk.kept() && !is_begun {
        write_segment::<F>(moved, stream, walk);
    }
    if opens || walk.kept() != 0 {
        let number = if opens { walk.opened_stream() } else { 0 };
        streams::open_stream(process.as_ptr(), stream.as_ptr(), moved, number, u32::from(is_begun));
    }
    if walk.kept() != 0 {
        walk.begin_at_mark(walk.kept());
        walk.set_opened_here(u32::from(opens));
        return CONTINUE;
    }
    if !opens {
        walk.begin_here();
    }
    if walk.outcome() == outcome::DONE { LEAVE } else { CONTINUE }
}

/// Whether the operation is the beginning of a header, and nothing else. It may be that of a HEADERS frame that opens a stream.
#[inline(always)]
fn begins_header(moved: *const Moved, stream: Stream, walk: Walk) -> bool {
    // SAFETY: a live value of the caller.
    let frames = stream.frames(direction(unsafe { (*moved).flags }));
    walk.to_server() != 0 && walk.kept() == 0 && frames.have() != 0 && frames.have() == walk.length()
}

/// Records the segment, without the bytes that the next one keeps.
#[inline(always)]
fn write_segment<F: Framed>(moved: *mut Moved, stream: Stream, walk: Walk) {
    let length = walk.length() - walk.kept();
    let captured = if walk.captured() < length { walk.captured() } else { length };
    // SAFETY: a live value of the caller.
    unsafe {
        (*moved).length = length;
        (*moved).before = walk.first_before();
        if walk.left() == 0 && walk.kept() == 0 {
            (*moved).added = (*moved).added_later;
        }
    }
    // The size classes of vectored operations hold one byte less than the number says.
    let is_class = walk.single() == 0 && (captured == 256 || captured == 1024);
    let source = Bytes { at: if captured == 0 { 0 } else { walk.first() }, buffers: walk.first_vectors() };
    // SAFETY: live values of the caller.
    let written = unsafe { F::capture(moved, stream.as_ptr(), source, captured + u32::from(is_class)) };
    if written == NO_ROOM {
        match walk.opened_here() {
            0 => count(Loss::RingFullSegment),
            requests => count_many(Loss::RingFullRequest, u64::from(requests)),
        }
    } else {
        walk.set_recorded(walk.recorded() + written + size_of::<Segment>() as u32);
    }
    // SAFETY: a live value of the caller.
    unsafe {
        (*moved).position += u64::from(length);
        // Only the first segment begins a run, and only its first byte passed when the operation began.
        (*moved).flags &= !flag::BEGINS;
        (*moved).began = 0;
    }
}

/// The way of an operation's bytes.
#[inline(always)]
fn direction(flags: u32) -> Direction {
    if flags & flag::EGRESS != 0 { Direction::Egress } else { Direction::Ingress }
}
