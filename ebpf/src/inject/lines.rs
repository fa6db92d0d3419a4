//! The header lines that are added to a request. The agent prepares their text; the ids are written here.

use aya_ebpf::bindings::sk_msg_md;
use onlooker_common::injection::{LINES, PLACES, STATE_BYTES, place, trace_flag};

use super::hexadecimal::digits;
use super::state::State;
use crate::globals;
use crate::state::stream::Stream;

/// The name of the last line, which not every request gets.
const STATE_NAME: [u8; 12] = *b"tracestate: ";

/// Bytes of the lines of a call.
#[inline(always)]
pub fn bytes(state: State) -> u32 {
    let line = if state.is_none() { 0 } else { STATE_NAME.len() as u32 + state.length + 2 };
    globals::lines_bytes() + line
}

/// Writes the line of the `tracestate` behind the others.
#[inline(always)]
fn write_state(data: usize, end: usize, state: State) -> bool {
    let State { value: state, length } = state;
    let data = data + globals::lines_bytes() as usize;
    if data + STATE_NAME.len() > end {
        return false;
    }
    // SAFETY: as many bytes can be written.
    unsafe { (data as *mut [u8; 12]).write_unaligned(STATE_NAME) };
    let data = data + STATE_NAME.len();
    for at in 0..=STATE_BYTES {
        let byte = data + at;
        if byte + 2 > end {
            return false;
        }
        if at >= length as usize || at >= STATE_BYTES {
            // SAFETY: as many bytes can be written.
            unsafe { (byte as *mut [u8; 2]).write_unaligned(*b"\r\n") };
            return true;
        }
        // SAFETY: this byte can be written, and the index is less than the length of the value.
        unsafe { (byte as *mut u8).write((&raw const (*state).value).cast::<u8>().add(at).read_volatile()) };
    }
    false
}

/// Writes the lines over the bytes of the message that can be written. Returns whether there were as many.
#[inline(always)]
pub fn write(message: *mut sk_msg_md, stream: Stream, state: State) -> bool {
    let length = globals::lines_bytes() as usize;
    // SAFETY: members of the context.
    let (data, end) =
        unsafe { ((*message).__bindgen_anon_1.data as usize, (*message).__bindgen_anon_2.data_end as usize) };
    if data + length > end {
        return false;
    }
    // The verifier knows the length and all places, so it walks through each loop once.
    for at in 0..LINES {
        if at >= length {
            break;
        }
        // SAFETY: as many bytes can be written.
        unsafe { ((data + at) as *mut u8).write(globals::line_byte(at)) };
    }
    let ids = stream.message();
    let ([high, low], span, flags) = (ids.trace_id(), ids.span_id(), stream.trace_flags());
    for index in 0..PLACES {
        let (what, at) = place::parts(globals::place(index));
        if what == 0 {
            break;
        }
        let into = (data + at as usize) as *mut u8;
        let number = match what {
            0..=2 => high,
            3 | 4 => low,
            _ => span,
        };
        // SAFETY: the agent has made places only within the lines.
        unsafe {
            match what {
                place::FLAGS => into.cast::<u16>().write_unaligned((digits(flags) >> 48) as u16),
                place::SAMPLED => into.write(b'0' + (flags & trace_flag::SAMPLED) as u8),
                place::IS_SAMPLED => {
                    let word = if flags & trace_flag::SAMPLED != 0 { *b"true " } else { *b"false" };
                    into.cast::<[u8; 5]>().write_unaligned(word);
                }
                // The first half of each number has an odd name.
                _ if what & 1 != 0 => into.cast::<u64>().write_unaligned(digits((number >> 32) as u32)),
                _ => into.cast::<u64>().write_unaligned(digits(number as u32)),
            }
        }
    }
    state.is_none() || (write_state(data, end, state) && state.is_unchanged(stream))
}
