//! Finds out where frames begin, and prepares the walk over an operation.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::capture::any;
use onlooker_common::connection::role;
use onlooker_common::frames::{PREFACE, PROPOSAL_NANOS, kind};
use onlooker_common::limits::{BUFFERS, RECORD_CAPTURE};
use onlooker_common::losses::Loss;
use onlooker_common::segment::flag;

use super::direction;
use crate::maps::{FRAMES, any_capture, count};
use crate::record::arguments::Bytes;
use crate::record::capture::VECTOR_CAPTURE;
use crate::record::form::Moved;
use crate::state::frames::{Frames, mode};
use crate::state::stream::{Direction, Stream, StreamState, bit};
use crate::state::walk::{Walk, WalkState};
use crate::user;

/// Length of `PRI * HTTP/2.0`.
const FIRST_LINE: usize = 14;

/// Eight bytes of the preface, as they are read.
const fn preface_word(from: usize) -> u64 {
    let mut word = 0;
    let mut at = 0;
    while at < 8 {
        word |= (PREFACE[from + at] as u64) << (8 * at);
        at += 1;
    }
    word
}

/// Prepares the walk. Returns the direction's mode.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn prepare_walk(
    moved: *mut Moved,
    stream: *mut StreamState,
    walk: *mut WalkState,
    at: u64,
    buffers: u64,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(stream), Some(walk)) = (unsafe { (Stream::new(stream), Walk::new(walk)) }) else {
        return mode::UNKNOWN;
    };
    if moved.is_null() {
        return mode::UNKNOWN;
    }
    // SAFETY: a live value of the caller.
    let (flags, position, length) = unsafe { ((*moved).flags, (*moved).position, (*moved).length) };
    let way = direction(flags);
    let frames = stream.frames(way);
    if frames.mode() == mode::FOLLOWED && !frames.continues_at(position) {
        frames.set_mode(mode::UNKNOWN);
        count(Loss::FramesLost);
    }
    if frames.mode() != mode::FOLLOWED {
        // SAFETY: a live value of the caller.
        let opposite = unsafe { (*moved).opposite };
        let bytes = First { at, buffers, length, position };
        if flags & flag::BEGINS != 0 && stream.run() <= 1 && stream.is(bit::FROM_START) {
            // SAFETY: a live value of the caller.
            at_start(stream, way, &bytes, opposite, unsafe { (*moved).unit[0] });
        } else {
            agree(stream, way, &bytes);
        }
    }
    let mode = frames.mode();
    if mode == mode::UNKNOWN {
        return mode;
    }
    let mark = match mode {
        mode::FOLLOWED => flag::FRAMES,
        _ if frames.proposed() == position => flag::PROPOSES,
        _ => 0,
    };
    let egress = way == Direction::Egress;
    let to_server = stream.role() == role::UNKNOWN || (stream.role() == role::SERVER) != egress;
    let is_length_only = at == 0 && mode == mode::FOLLOWED;
    if is_length_only {
        count(Loss::LengthOnly);
    }
    // SAFETY: a live value of the caller.
    unsafe {
        (*moved).flags = flags | mark | (u32::from(is_length_only) * flag::LENGTH_ONLY);
        (*moved).added_later = (*moved).added;
        (*moved).added = 0;
    }
    let single = buffers == 0;
    walk.set_position(position);
    walk.set_left(length);
    walk.set_at(at);
    walk.set_piece(if single && at != 0 { u64::from(length) } else { 0 });
    walk.set_before(0);
    walk.set_vectors(at);
    walk.set_vectors_left(if buffers < u64::from(BUFFERS) { buffers } else { u64::from(BUFFERS) });
    walk.set_single(u32::from(single));
    walk.set_room(if single { RECORD_CAPTURE } else { VECTOR_CAPTURE - 1 });
    walk.set_counts_only(u32::from(mode != mode::FOLLOWED));
    walk.set_to_server(u32::from(to_server));
    walk.set_opened(0);
    walk.set_recorded(0);
    walk.set_others(u32::from(frames.payload_behind(position) != 0));
    walk.set_kept(0);
    walk.begin_here();
    mode
}

/// Whether a direction begins with a SETTINGS frame.
#[inline(always)]
pub fn begins_with_settings(bytes: Bytes, length: u64) -> bool {
    First { at: bytes.at, buffers: bytes.buffers, length: length as u32, position: 0 }.is_settings()
}

/// An operation on a connection whose frames are not followed.
struct First {
    at: u64,
    buffers: u64,
    length: u32,
    position: u64,
}

impl First {
    /// The address of the first `length` bytes, if they are in one buffer.
    #[inline(always)]
    fn address(&self, length: u64) -> Option<u64> {
        if self.at == 0 || u64::from(self.length) < length {
            return None;
        }
        if self.buffers == 0 {
            return Some(self.at);
        }
        let [base, room] = user::peek::<[u64; 2]>(self.at)?;
        if room < length { None } else { Some(base) }
    }

    /// Whether it begins with the client's preface. Its first line is enough: the method PRI is reserved for it, and net/http
    /// reads the line by itself.
    #[inline(always)]
    fn is_preface(&self) -> bool {
        let Some(at) = self.address(FIRST_LINE as u64) else { return false };
        user::peek::<u64>(at) == Some(preface_word(0))
            && user::peek::<u64>(at + FIRST_LINE as u64 - 8) == Some(preface_word(FIRST_LINE - 8))
    }

    /// Whether it begins with a SETTINGS frame, with which a server begins (RFC 9113 3.4): its length is a multiple of 6 and
    /// less than 256, its flags and the number of its stream are 0.
    #[inline(always)]
    fn is_settings(&self) -> bool {
        let Some(at) = self.address(9) else { return false };
        let Some(head) = user::peek::<u64>(at) else { return false };
        const EXCEPT_LENGTH: u64 = 0xffff_ffff_ff00_ffff;
        head & EXCEPT_LENGTH == (kind::SETTINGS as u64) << 24
            && (head >> 16 & 0xff) % 6 == 0
            && user::peek::<u8>(at + 8) == Some(0)
    }

    /// Begins at the first byte. The preface counts as a payload that is captured.
    #[inline(always)]
    fn begin(&self, frames: Frames, mode: u32, is_preface: bool) {
        let preface = if is_preface { PREFACE.len() as u32 } else { 0 };
        frames.begin_at(self.position + u64::from(preface), mode);
        frames.set_keep(preface);
    }
}

/// The first bytes of a direction, on a connection that is followed from its start. `opposite`: where the other direction is. `unit`:
/// the first word of the unit of work.
#[inline(always)]
fn at_start(stream: Stream, way: Direction, first: &First, opposite: u64, unit: u64) {
    let other = stream.frames(way.opposite());
    if first.is_preface() {
        first.begin(stream.frames(way), mode::FOLLOWED, true);
        if way == Direction::Ingress {
            stream.set_writer(unit);
        }
        if stream.run() == 0 {
            other.begin_at(opposite, mode::FOLLOWED);
        } else if other.mode() == mode::PROPOSED {
            // The server spoke first.
            other.set_mode(mode::FOLLOWED);
        }
        stream.set_framed(1);
    } else if stream.run() == 0 && first.is_settings() {
        propose(stream.frames(way), first, false);
        stream.set_framed(1);
    }
}

#[inline(always)]
fn propose(frames: Frames, first: &First, is_preface: bool) {
    first.begin(frames, mode::PROPOSED, is_preface);
    frames.set_proposed(first.position);
    // SAFETY: no arguments.
    frames.set_proposed_at(unsafe { bpf_ktime_get_ns() });
}

/// Follows the frames if the agent has confirmed the proposal. Otherwise proposes again, if the agent knows that there are
/// frames.
#[inline(always)]
fn agree(stream: Stream, way: Direction, first: &First) {
    let frames = stream.frames(way);
    if any_capture() & any::FRAMES == 0 {
        return;
    }
    let Some(confirmed) = FRAMES.get_ptr(stream.cookie()) else { return };
    stream.set_framed(1);
    // SAFETY: a live value of the map, which the agent changes.
    let confirmed = unsafe {
        let positions = &raw const (*confirmed).positions;
        match way {
            Direction::Ingress => core::ptr::read_volatile(&raw const (*positions)[0]),
            Direction::Egress => core::ptr::read_volatile(&raw const (*positions)[1]),
        }
    };
    if frames.mode() == mode::PROPOSED && frames.continues_at(first.position) {
        // A header that has begun may be of a request, which then has no ids yet.
        if frames.proposed() == confirmed && frames.have() == 0 {
            frames.set_mode(mode::FOLLOWED);
            return;
        }
        // SAFETY: no arguments.
        if unsafe { bpf_ktime_get_ns() }.wrapping_sub(frames.proposed_at()) < PROPOSAL_NANOS {
            return;
        }
    }
    propose(frames, first, first.is_preface());
}
