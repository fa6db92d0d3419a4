//! Finds the `traceparent` of a request that a process has read: calls that are made for the request continue its trace.
//!
//! The agent parses requests too, but the process may make a call before the agent has seen the request. The rules are those of
//! `protocols::propagation`.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use onlooker_common::injection::lookup;

use super::hexadecimal::{has_byte, number_of_digits};
use crate::maps::RECEIVED;
use crate::record::arguments::Bytes;
use crate::state::stream::{Stream, StreamState, bit};
use crate::user::{self, CONTINUE, LEAVE, opaque};

/// Bytes that are read at a time.
const CHUNK: usize = 32;
/// The most bytes of one read that are searched.
const SEARCHED: u32 = 16 << 10;

/// Values that the global functions return.
const GOES_ON: u32 = 0;
const HEAD_ENDS: u32 = 1;

/// `00-` trace id `-` span id `-` flags.
const VALUE_BYTES: u32 = 55;

#[repr(C)]
struct Walk {
    stream: *mut StreamState,
    /// Address of the bytes in the process.
    from: u64,
    length: u32,
    at: u32,
    outcome: u32,
    pad: u32,
}

/// A server read `length` bytes. `begins`: a run begins with them.
#[inline(always)]
pub fn look(stream: Stream, bytes: Bytes, length: u32, begins: bool) {
    if begins {
        stream.set(bit::HEAD_OPEN);
    } else if !stream.is(bit::HEAD_OPEN) {
        return;
    }
    if bytes.is_nowhere() {
        stream.clear(bit::HEAD_OPEN);
        return;
    }
    look_for_context(stream.as_ptr(), bytes.at, bytes.buffers as u32, length, u32::from(begins));
}

/// This is a global function: the verifier checks it once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_for_context(stream: *mut StreamState, at: u64, buffers: u32, length: u32, begins: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return 0 };
    // Of a vectored read, the first buffer.
    let (from, length) = match buffers {
        0 => (at, length),
        _ => match user::buffer(at, 0) {
            Some((base, room)) => (base, if room < u64::from(length) { room as u32 } else { length }),
            None => return 0,
        },
    };
    let length = if length < SEARCHED { length } else { SEARCHED };
    // A request begins with a method.
    if begins != 0 && !user::peek::<u8>(from).is_some_and(|first| first.is_ascii_uppercase()) {
        stream.clear(bit::HEAD_OPEN);
        return 0;
    }
    if begins == 0 && context_line(stream.as_ptr(), from, length) == HEAD_ENDS {
        return 0;
    }
    let mut walk = Walk { stream: stream.as_ptr(), from, length, at: 0, outcome: GOES_ON, pad: 0 };
    // SAFETY: the callback takes the index and a Walk.
    unsafe { bpf_loop(SEARCHED / CHUNK as u32, next_chunk as *mut c_void, (&raw mut walk).cast(), 0) };
    0
}

extern "C" fn next_chunk(_index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: called by `look_for_context` with its own struct.
    let walk = unsafe { &mut *walk };
    if walk.at >= walk.length {
        return LEAVE;
    }
    let left = walk.length - walk.at;
    let mut chunk = MaybeUninit::<[u64; CHUNK / 8]>::uninit();
    // SAFETY: the local has room for as many bytes. What is not read of it is not used: it is behind `left`.
    let failed = unsafe {
        let from = (walk.from + u64::from(walk.at)) as *const c_void;
        chunk.as_mut_ptr().cast::<u8>().write_bytes(0, CHUNK);
        if left >= CHUNK as u32 {
            bpf_probe_read_user(chunk.as_mut_ptr().cast(), CHUNK as u32, from)
        } else {
            bpf_probe_read_user(chunk.as_mut_ptr().cast(), (opaque(u64::from(left)) & (CHUNK as u64 - 1)) as u32, from)
        }
    };
    if failed != 0 {
        return LEAVE;
    }
    for index in 0..CHUNK / 8 {
        // SAFETY: a word of the local.
        let mut word = unsafe { chunk.as_ptr().cast::<u64>().add(index).read_volatile() };
        if !has_byte(word, b'\n') {
            continue;
        }
        for byte in 0..8 {
            let next = walk.at + (index * 8 + byte) as u32 + 1;
            if word & 0xff == u64::from(b'\n')
                && next < walk.length
                && context_line(walk.stream, walk.from + u64::from(next), walk.length - next) == HEAD_ENDS
            {
                return LEAVE;
            }
            word >>= 8;
        }
    }
    walk.at += CHUNK as u32;
    CONTINUE
}

/// A line of a request begins at an address in the process. `left` bytes are there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn context_line(stream: *mut StreamState, at: u64, left: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return HEAD_ENDS };
    let Some(first) = user::peek::<u8>(at) else { return HEAD_ENDS };
    if first == b'\r' || first == b'\n' {
        stream.clear(bit::HEAD_OPEN);
        return HEAD_ENDS;
    }
    const NAME: [u64; 2] = [u64::from_le_bytes(*b"tracepar"), u64::from_le_bytes(*b"ent:\0\0\0\0")];
    const NAME_BYTES: u32 = 12;
    // Each letter in lower case.
    const CASE: [u64; 2] = [0x2020_2020_2020_2020, 0x0020_2020];
    if first | 0x20 != b't' || left < NAME_BYTES + VALUE_BYTES {
        return GOES_ON;
    }
    let Some([begins, ends]) = user::peek::<[u64; 2]>(at) else { return GOES_ON };
    if begins | CASE[0] != NAME[0] || (ends | CASE[1]) & 0xffff_ffff != NAME[1] {
        return GOES_ON;
    }
    let blank = (ends >> 32 & 0xff) as u8;
    let blanks = u32::from(blank == b' ' || blank == b'\t');
    let value = at + u64::from(NAME_BYTES + blanks);
    let [high, low, flags] = if left >= NAME_BYTES + blanks + VALUE_BYTES { parse(value) } else { MALFORMED };
    if let Some(received) = RECEIVED.get_ptr_mut(stream.cookie()) {
        // SAFETY: a live value of the map, which other CPUs may write.
        unsafe {
            if high | low != 0 && (*received).trace_id == [0; 2] {
                (*received).trace_id = [high, low];
                (*received).flags = flags as u32;
            } else {
                // The agent decides about malformed ones, about those of later versions, and about those that occur twice.
                (*received).trace_id = [0; 2];
                (*received).lookup = lookup::IMPOSSIBLE;
            }
        }
    }
    GOES_ON
}

/// What `parse` returns for a value that it does not know.
const MALFORMED: [u64; 3] = [0; 3];

/// The trace id and the flags of the value at an address.
///
/// (Not an `Option`: the compiler would spill registers that are not set, which the verifier rejects.)
#[inline(always)]
fn parse(at: u64) -> [u64; 3] {
    // Later versions begin like this one (W3C Trace Context 3.2.2.2), but their end is not known.
    if word(at) & 0x00ff_ffff != u64::from_le_bytes(*b"00-\0\0\0\0\0") {
        return MALFORMED;
    }
    // The last bytes of the span id, a dash, the flags, and the byte behind the value.
    let tail = word(at + u64::from(VALUE_BYTES) - 7);
    let dashes = word(at + 35) as u8 == b'-' && (tail >> 32) as u8 == b'-';
    let is_over = matches!((tail >> 56) as u8, b'\r' | b'\n' | b' ' | b'\t');
    let flags = number_of_digits([ZEROS, tail >> 40 << 48 | ZEROS >> 16]).unwrap_or(u64::MAX);
    let (high, low) = (digits(at + 3).unwrap_or(u64::MAX), digits(at + 19).unwrap_or(u64::MAX));
    let malformed = high == u64::MAX || low == u64::MAX || flags == u64::MAX || digits(at + 36).unwrap_or(0) == 0;
    if malformed || !dashes || !is_over { MALFORMED } else { [high, low, flags] }
}

#[inline(always)]
fn word(at: u64) -> u64 {
    user::peek::<u64>(at).unwrap_or(0)
}

/// The number of 16 digits at an address.
#[inline(always)]
fn digits(at: u64) -> Option<u64> {
    number_of_digits([word(at), word(at + 8)])
}

/// Eight times the digit 0.
const ZEROS: u64 = 0x3030_3030_3030_3030;
