//! Finds the trace context of a request that a process has read: calls that are made for the request continue its trace.
//!
//! The agent parses requests too, but the process may make a call before the agent has seen the request. The rules are those of
//! `protocols::propagation`. `traceparent` and `b3` are read here. Of other formats it is only noted that there is one.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use onlooker_common::injection::{Received, lookup, trace_flag};

use super::hexadecimal::{has_byte, number_of_digits};
use super::state::note_state;
use super::walk::Walk;
use crate::maps::RECEIVED;
use crate::record::arguments::Bytes;
use crate::state::stream::{Stream, StreamState, bit};
use crate::user::{self, CONTINUE, LEAVE};
use crate::verifier::opaque;

/// Bytes that are read at a time.
const CHUNK: usize = 32;
/// The most bytes of one read that are searched.
const SEARCHED: u32 = 16 << 10;

/// Values that the global functions return.
const GOES_ON: u32 = 0;
const HEAD_ENDS: u32 = 1;
const IS_PARENT: u32 = 2;
const IS_STATE: u32 = 3;
const IS_B3: u32 = 4;
/// Of another format. X-Ray's may name no span.
const IS_OTHER: u32 = 5;
const IS_XRAY: u32 = 6;

/// `00-` trace id `-` span id `-` flags.
const VALUE_BYTES: u32 = 55;

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
    if begins == 0 && head_ends(stream.as_ptr(), from, length) {
        return 0;
    }
    Walk::run(stream.as_ptr(), from, length, 0, SEARCHED / CHUNK as u32, next_chunk);
    0
}

extern "C" fn next_chunk(_index: u32, walk: *mut Walk<StreamState>) -> i64 {
    // SAFETY: called by `look_for_context` with its own struct.
    let walk = unsafe { &mut *walk };
    let left = walk.left();
    if left == 0 {
        return LEAVE;
    }
    let mut chunk = MaybeUninit::<[u64; CHUNK / 8]>::uninit();
    // SAFETY: the local has room for as many bytes. What is not read of it is not used: it is behind `left`.
    let failed = unsafe {
        let from = walk.address() as *const c_void;
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
            let next = (index * 8 + byte) as u32 + 1;
            if word & 0xff == u64::from(b'\n')
                && next < left
                && head_ends(walk.state, walk.address() + u64::from(next), left - next)
            {
                return LEAVE;
            }
            word >>= 8;
        }
    }
    walk.pass(CHUNK as u32);
    CONTINUE
}

/// A line of a request begins at an address in the process. Returns whether it is the empty one behind the header block.
///
/// Each kind of line has a function of its own, called from here: the stack has no room for one frame below another.
#[inline(always)]
fn head_ends(stream: *mut StreamState, at: u64, left: u32) -> bool {
    match kind_of_line(stream, at, left) {
        HEAD_ENDS => return true,
        IS_PARENT => read_traceparent(stream, at, left),
        IS_B3 => read_b3(stream, at, left),
        IS_STATE => note_state(stream, at, left),
        kind @ (IS_OTHER | IS_XRAY) => note_other(stream, at, left, kind),
        _ => 0,
    };
    false
}

/// Names with their colon, in lower case, as words. Shorter ones are compared by their first bytes.
const TRACEPARENT: [u64; 2] = [u64::from_le_bytes(*b"tracepar"), u64::from_le_bytes(*b"ent:\0\0\0\0")];
const TRACESTATE: [u64; 2] = [u64::from_le_bytes(*b"tracesta"), u64::from_le_bytes(*b"te:\0\0\0\0\0")];
const B3: u64 = u64::from_le_bytes(*b"b3:\0\0\0\0\0");
const B3_SEVERAL: [u64; 2] = [u64::from_le_bytes(*b"x-b3-tra"), u64::from_le_bytes(*b"ceid:\0\0\0")];
const JAEGER: [u64; 2] = [u64::from_le_bytes(*b"uber-tra"), u64::from_le_bytes(*b"ce-id:\0\0")];
const OTTRACE: [u64; 2] = [u64::from_le_bytes(*b"ot-trace"), u64::from_le_bytes(*b"r-tracei")];
const XRAY: [u64; 2] = [u64::from_le_bytes(*b"x-amzn-t"), u64::from_le_bytes(*b"race-id:")];

/// Bytes of two of the names.
const PARENT_NAME: u32 = 12;
const B3_NAME: u32 = 3;

/// Each letter in lower case.
const CASE: u64 = 0x2020_2020_2020_2020;

/// What line begins at an address in the process. `left` bytes are there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kind_of_line(stream: *mut StreamState, at: u64, left: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(stream) = (unsafe { Stream::new(stream) }) else { return HEAD_ENDS };
    let Some(first) = user::peek::<u8>(at) else { return HEAD_ENDS };
    if first == b'\r' || first == b'\n' {
        stream.clear(bit::HEAD_OPEN);
        return HEAD_ENDS;
    }
    // The shortest line of a trace context is longer than what is read of it at first.
    if !matches!(first | 0x20, b't' | b'b' | b'x' | b'u' | b'o') || left < 16 {
        return GOES_ON;
    }
    let Some([begins, ends]) = user::peek::<[u64; 2]>(at) else { return GOES_ON };
    let [begins, ends] = [begins | CASE, ends | CASE];
    // `bytes` of the second word count.
    let is = |name: [u64; 2], bytes: u32| begins == name[0] && (ends ^ name[1]) << (64 - 8 * bytes) == 0;
    if begins & 0xff_ffff == B3 {
        IS_B3
    } else if is(TRACEPARENT, 4) {
        IS_PARENT
    } else if is(TRACESTATE, 3) {
        IS_STATE
    } else if is(B3_SEVERAL, 5) || is(JAEGER, 6) || is(OTTRACE, 8) {
        IS_OTHER
    } else if is(XRAY, 8) {
        IS_XRAY
    } else {
        GOES_ON
    }
}

/// The request whose head is read, if it is remembered.
#[inline(always)]
fn request(stream: *mut StreamState) -> Option<*mut Received> {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let stream = unsafe { Stream::new(stream) }?;
    RECEIVED.get_ptr_mut(stream.cookie())
}

/// A line with a `traceparent`. The result means nothing, as of the following functions.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_traceparent(stream: *mut StreamState, at: u64, left: u32) -> u32 {
    let Some(received) = request(stream) else { return 0 };
    let before = PARENT_NAME + blanks(at + u64::from(PARENT_NAME));
    let [high, low, flags] = if left >= before + VALUE_BYTES { parse(at + u64::from(before)) } else { MALFORMED };
    // SAFETY: a live value of the map, which other CPUs may write.
    unsafe {
        let is_first = (*received).lookup != lookup::FOUND && (*received).lookup != lookup::UNCLEAR;
        if high | low != 0 && is_first {
            (*received).trace_id = [high, low];
            (*received).flags = flags as u32;
            (*received).lookup = lookup::FOUND;
        } else {
            // The agent decides about malformed ones, about those of later versions, and about those that occur twice.
            (*received).trace_id = [0; 2];
            (*received).lookup = lookup::UNCLEAR;
        }
    }
    0
}

/// A line with a `b3`. A `traceparent` takes precedence.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_b3(stream: *mut StreamState, at: u64, left: u32) -> u32 {
    let Some(received) = request(stream) else { return 0 };
    let before = B3_NAME + blanks(at + u64::from(B3_NAME));
    let [high, low, flags] = if left >= before + B3_BYTES { parse_b3(at + u64::from(before)) } else { MALFORMED };
    // SAFETY: a live value of the map, which other CPUs may write.
    unsafe {
        match (*received).lookup {
            lookup::BY_NUMBERS | lookup::IMPOSSIBLE => {
                (*received).trace_id = [high, low];
                (*received).flags = flags as u32;
                (*received).lookup = lookup::OTHER_FORMAT;
            }
            // Two of other formats are for the agent to decide.
            lookup::OTHER_FORMAT => (*received).trace_id = [0; 2],
            _ => {}
        }
    }
    0
}

/// A line of another format. Only the agent reads those.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_other(stream: *mut StreamState, at: u64, left: u32, kind: u32) -> u32 {
    let Some(received) = request(stream) else { return 0 };
    if kind == IS_XRAY && !has_parent(at, left) {
        return 0;
    }
    // SAFETY: a live value of the map, which other CPUs may write.
    unsafe {
        if (*received).lookup == lookup::BY_NUMBERS || (*received).lookup == lookup::IMPOSSIBLE {
            (*received).lookup = lookup::OTHER_FORMAT;
        }
    }
    0
}

/// How many blanks there are at an address: 1 or none.
#[inline(always)]
fn blanks(at: u64) -> u32 {
    u32::from(matches!(user::peek::<u8>(at), Some(b' ' | b'\t')))
}

/// Whether the value of X-Ray names a span. Load balancers send one without.
#[inline(always)]
fn has_parent(at: u64, left: u32) -> bool {
    const PARENT: u64 = u64::from_le_bytes(*b"Parent=\0");
    // The longest that X-Ray sends.
    const SEARCHED: u32 = 256;
    for index in 16..SEARCHED {
        if index + 8 > left {
            break;
        }
        let found = word(at + u64::from(index));
        if found & 0x00ff_ffff_ffff_ffff == PARENT {
            return true;
        }
        if found as u8 == b'\n' {
            break;
        }
    }
    false
}

/// `TRACE-SPAN`, of 32 and 16 digits.
const B3_BYTES: u32 = 49;

/// The trace id and the flags of a `b3` at an address. Of a trace id of 64 bits, nothing.
#[inline(always)]
fn parse_b3(at: u64) -> [u64; 3] {
    let tail = word(at + u64::from(B3_BYTES) - 1) >> 8;
    // A dash and the state, and a dash and another span.
    let has_state = tail as u8 == b'-';
    let state = (tail >> 8) as u8;
    let has_more = has_state && (tail >> 16) as u8 == b'-';
    let parent = if has_more { digits(at + u64::from(B3_BYTES) + 3).unwrap_or(0) } else { 1 };
    let end = match (has_state, has_more) {
        (false, _) => tail as u8,
        (true, false) => (tail >> 16) as u8,
        (true, true) => word(at + u64::from(B3_BYTES) + 19) as u8,
    };
    let is_over = matches!(end, b'\r' | b'\n' | b' ' | b'\t');
    let is_state = !has_state || matches!(state, b'0' | b'1' | b'd');
    let flags = if has_state && state == b'0' { 0 } else { u64::from(trace_flag::SAMPLED) };
    let (high, low) = (digits(at).unwrap_or(u64::MAX), digits(at + 16).unwrap_or(u64::MAX));
    let malformed = high == u64::MAX || low == u64::MAX || digits(at + 33).unwrap_or(0) == 0 || parent == 0;
    let is_well_formed = !malformed && word(at + 32) as u8 == b'-' && is_over && is_state;
    if is_well_formed { [high, low, flags] } else { MALFORMED }
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
