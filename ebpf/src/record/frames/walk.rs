//! Walks over the frames of an operation, to the end of its next segment.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;
use onlooker_common::frames::{HEADER, captured_of_payload, kind};
use onlooker_common::losses::Loss;

use super::direction;
use crate::maps::count;
use crate::record::form::Moved;
use crate::state::frames::{Frames, FramesState, mode};
use crate::state::stream::{Stream, StreamState};
use crate::state::walk::{VECTOR, Walk, WalkState, outcome};
use crate::user::{self, CONTINUE, LEAVE};
use crate::verifier::opaque;

/// The most steps of a walk: three for each of the frames of a segment, and one for each buffer.
const STEPS: u32 = 8_192;

/// Walks until there is an outcome. `is_last`: the segment is the operation's last, because there are too many. The result
/// means nothing: a global function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_frames(
    moved: *const Moved,
    stream: *mut StreamState,
    walk: *mut WalkState,
    is_last: u32,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(stream), Some(walk)) = (unsafe { (Stream::new(stream), Walk::new(walk)) }) else { return 0 };
    if moved.is_null() {
        return 0;
    }
    // SAFETY: a live value of the caller.
    let frames = stream.frames(direction(unsafe { (*moved).flags }));
    walk.set_outcome(outcome::BLIND);
    walk.set_kept(0);
    let mut walking = Walking { frames: frames.as_ptr(), walk: walk.as_ptr() };
    // SAFETY: the callback takes the index and a Walking.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut walking).cast(), 0) };
    if walk.outcome() == outcome::BLIND || (is_last != 0 && walk.outcome() != outcome::DONE) {
        lose_sight(frames, walk);
    }
    // A header that an earlier operation began stays in its segment.
    walk.set_kept(match walk.outcome() {
        // The rest of the header may open a stream.
        outcome::DONE if walk.to_server() != 0 && frames.have() < walk.length() => frames.have(),
        outcome::OPENS if walk.length() >= HEADER => HEADER,
        _ => 0,
    });
    0
}

/// The rest of the operation cannot be read. That does no harm within a payload.
#[inline(always)]
fn lose_sight(frames: Frames, walk: Walk) {
    let left = walk.left();
    if frames.have() != 0 || frames.payload_behind(walk.position()) < i64::from(left) {
        frames.begin_at(0, mode::UNKNOWN);
        count(Loss::FramesLost);
    }
    frames.set_keep(0);
    walk.advance(left);
    walk.set_outcome(outcome::DONE);
}

#[repr(C)]
struct Walking {
    frames: *mut FramesState,
    walk: *mut WalkState,
}

/// Passes bytes of one buffer that belong to one header or payload.
extern "C" fn step(_index: u32, walking: *mut Walking) -> i64 {
    // SAFETY: called by `walk_frames` with its own struct, which points to live values.
    let (frames, walk) = unsafe { (Frames::within((*walking).frames), Walk::within((*walking).walk)) };
    let stop = |why| {
        walk.set_outcome(why);
        LEAVE
    };
    if walk.left() == 0 {
        return stop(outcome::DONE);
    }
    if walk.piece() == 0 {
        return if next_buffer(walk) { CONTINUE } else { stop(outcome::BLIND) };
    }
    let inside = frames.payload_behind(walk.position());
    if inside > 0 {
        return if payload(frames, walk, inside as u64) { CONTINUE } else { stop(outcome::FULL) };
    }
    if frames.have() == 0 {
        let is_full = walk.captured() + HEADER > walk.room() || walk.length() > walk.captured();
        if is_full && walk.counts_only() == 0 {
            return stop(outcome::FULL);
        }
        walk.mark_here();
    }
    if !header(frames, walk) {
        return stop(outcome::BLIND);
    }
    if frames.have() == HEADER && begins(frames, walk) { stop(outcome::OPENS) } else { CONTINUE }
}

/// Goes to the next buffer. Returns false if it is unknown.
#[inline(always)]
fn next_buffer(walk: Walk) -> bool {
    if walk.vectors_left() == 0 {
        return false;
    }
    let Some([base, length]) = user::peek::<[u64; 2]>(walk.vectors()) else {
        count(Loss::UserReadFailed);
        return false;
    };
    let left = u64::from(walk.left());
    walk.set_vectors(walk.vectors() + VECTOR);
    walk.set_vectors_left(walk.vectors_left() - 1);
    walk.set_at(base);
    walk.set_piece(if length < left { length } else { left });
    walk.set_before(0);
    true
}

/// Passes bytes of a payload, of which `inside` are left. Returns false if the segment must end before them.
#[inline(always)]
fn payload(frames: Frames, walk: Walk, inside: u64) -> bool {
    let piece = walk.piece();
    let mut bytes = if inside < piece { inside } else { piece };
    let keep = u64::from(frames.keep());
    if keep != 0 && walk.counts_only() == 0 {
        let room = u64::from(walk.room().wrapping_sub(walk.captured()));
        if room == 0 {
            return false;
        }
        bytes = if keep < bytes { keep } else { bytes };
        bytes = if room < bytes { room } else { bytes };
        frames.set_keep((keep - bytes) as u32);
        walk.set_captured(walk.captured() + bytes as u32);
    }
    walk.advance(bytes as u32);
    true
}

/// Passes bytes of a header. Returns false if they cannot be read.
#[inline(always)]
fn header(frames: Frames, walk: Walk) -> bool {
    let have = frames.have();
    let missing = u64::from(HEADER.wrapping_sub(have));
    let bytes = if missing < walk.piece() { missing } else { walk.piece() };
    let (at, bounded) = (opaque(u64::from(have)) & 15, opaque(bytes) & 15);
    // SAFETY: the header has 16 bytes, of which 9 are used. More of the state follows.
    let failed = unsafe {
        let into = frames.header_bytes().add(at as usize);
        bpf_probe_read_user(into.cast(), bounded as u32, walk.at() as *const c_void)
    };
    if failed != 0 {
        count(Loss::UserReadFailed);
        return false;
    }
    frames.set_have(have + bytes as u32);
    walk.set_captured(walk.captured() + bytes as u32);
    walk.advance(bytes as u32);
    true
}

/// A header has passed. Returns whether it opens a stream.
#[inline(always)]
fn begins(frames: Frames, walk: Walk) -> bool {
    let header = frames.header();
    // Three bytes of length, the type, the flags, and four bytes of the stream's number.
    let length = (header as u32).swap_bytes() >> 8;
    let (kind, flags) = ((header >> 24) as u8, (header >> 32) as u8);
    let stream = ((header >> 40) as u32 | (frames.header_more() as u32) << 24).swap_bytes() & 0x7fff_ffff;
    frames.set_have(0);
    frames.set_boundary(walk.position() + u64::from(length));
    frames.set_keep(captured_of_payload(kind, flags, length));
    let opens = walk.to_server() != 0 && kind == kind::HEADERS && stream & 1 == 1 && stream > frames.newest();
    if opens {
        frames.set_newest(stream);
        walk.set_opened_stream(stream);
        walk.set_opened(walk.opened() + 1);
        walk.set_opened_here(walk.opened_here() + 1);
    } else if !matches!(kind, kind::PRIORITY | kind::SETTINGS | kind::PING)
        && (walk.opened() == 0 || stream != walk.opened_stream())
    {
        walk.set_others(walk.others() + 1);
    }
    opens && walk.counts_only() == 0
}
