//! Puts an operation into the ring, with as many of its bytes as are wanted.
//!
//! The verifier goes through `capture_operation` by itself, once, knowing nothing of who calls it: it is a function of the
//! kernel's global kind. Were it a part of its caller, all the ways in which one can come to it would multiply with all
//! there are within.

use core::mem::MaybeUninit;
use onlooker_common::event::Segment;
use onlooker_common::limits::LARGEST_CAPTURE;

use crate::arguments::Bytes;
use crate::emit;
use crate::user;

/// Records `segment` with up to `wanted` of its first bytes; gives how many were captured, nothing if the ring had no room.
#[inline(always)]
pub fn capture(segment: &Segment, source: Bytes, wanted: u32) -> Option<u32> {
    let captured = capture_operation(segment, source.at, source.buffers, wanted);
    if captured == NO_ROOM { None } else { Some(captured) }
}

/// More than can be captured.
const NO_ROOM: u32 = u32::MAX;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn capture_operation(segment: *const Segment, at: u64, buffers: u64, wanted: u32) -> u32 {
    // SAFETY: null, as far as the verifier knows, or a Segment that the caller holds.
    let Some(segment) = (unsafe { segment.as_ref() }) else { return NO_ROOM };
    let captured = match (at, buffers) {
        (0, _) => plain(segment),
        (_, 0) => buffer(segment, at, wanted),
        _ => vector(segment, at, buffers, wanted),
    };
    captured.unwrap_or(NO_ROOM)
}

/// One in eight times, by bits of the clock that are as good as random.
#[inline(always)]
fn now_and_then(time: u64) -> bool {
    time & 0x70 == 0
}

/// A record with room for `N` captured bytes.
#[repr(C)]
struct Record<const N: usize> {
    segment: Segment,
    payload: MaybeUninit<[u8; N]>,
}

#[inline(always)]
fn plain(segment: &Segment) -> Option<u32> {
    let mut entry = emit::reserve::<Segment>()?;
    entry.write(*segment);
    emit::submit(entry, now_and_then(segment.time));
    Some(0)
}

/// Size classes: the ring wants sizes that the verifier knows.
#[inline(always)]
fn buffer(segment: &Segment, from: u64, wanted: u32) -> Option<u32> {
    match wanted {
        0..=64 => buffer_class::<64>(segment, from, wanted),
        65..=256 => buffer_class::<256>(segment, from, wanted),
        257..=1024 => buffer_class::<1024>(segment, from, wanted),
        1025..=8192 => buffer_class::<8192>(segment, from, wanted),
        _ => buffer_class::<{ LARGEST_CAPTURE as usize }>(segment, from, wanted),
    }
}

#[inline(always)]
fn buffer_class<const N: usize>(segment: &Segment, from: u64, wanted: u32) -> Option<u32> {
    let mut entry = emit::reserve::<Record<N>>()?;
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for N bytes, and all of `segment` is written; what of the payload is not captured
    // is not said to be.
    let captured = unsafe {
        (&raw mut (*record).segment).write(*segment);
        let captured = user::prefix::<N>((&raw mut (*record).payload).cast(), from, u64::from(wanted));
        (*record).segment.captured = captured;
        if captured < segment.length {
            (*record).segment.tail_length =
                user::tail((&raw mut (*record).segment.tail).cast(), from, u64::from(segment.length));
        }
        captured
    };
    emit::submit(entry, now_and_then(segment.time));
    Some(captured)
}

#[inline(always)]
fn vector(segment: &Segment, iovecs: u64, count: u64, wanted: u32) -> Option<u32> {
    // The verifier wants it to be less than the class has: of the usual budgets, which are classes, one byte is left to the
    // tail.
    match wanted {
        0..=256 => vector_class::<256, 512>(segment, iovecs, count, at_most(wanted, 255)),
        257..=1024 => vector_class::<1024, 2048>(segment, iovecs, count, at_most(wanted, 1023)),
        1025..=8192 => vector_class::<8192, 16384>(segment, iovecs, count, at_most(wanted, 8191)),
        _ => {
            const LARGEST: usize = LARGEST_CAPTURE as usize;
            vector_class::<LARGEST, { 2 * LARGEST }>(segment, iovecs, count, at_most(wanted, LARGEST_CAPTURE - 1))
        }
    }
}

#[inline(always)]
fn at_most(wanted: u32, most: u32) -> u32 {
    if wanted < most { wanted } else { most }
}

/// `ROOM` is twice `N`: see `user::gather`.
#[inline(always)]
fn vector_class<const N: usize, const ROOM: usize>(
    segment: &Segment,
    iovecs: u64,
    count: u64,
    wanted: u32,
) -> Option<u32> {
    let mut entry = emit::reserve::<Record<ROOM>>()?;
    let record = entry.as_mut_ptr();
    // SAFETY: as in `buffer_class`, with twice the room.
    let captured = unsafe {
        (&raw mut (*record).segment).write(*segment);
        let (captured, tail) = user::gather::<N>(
            (&raw mut (*record).payload).cast(),
            (&raw mut (*record).segment.tail).cast(),
            iovecs,
            count,
            u64::from(segment.length),
            u64::from(wanted),
        );
        (*record).segment.captured = captured;
        (*record).segment.tail_length = tail;
        captured
    };
    emit::submit(entry, now_and_then(segment.time));
    Some(captured)
}
