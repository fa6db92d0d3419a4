//! Which trace a call belongs to, and the line that says so.

use aya_ebpf::bindings::sk_msg_md;
use onlooker_common::injection::{LINE_BYTES, Numbers, Received, Sent, lookup, trace_flag};

use super::hexadecimal::digits;
use crate::maps::{RECEIVED, SENT};
use crate::state::owner::SharedOwner;
use crate::state::stream::{Direction, Stream, StreamState, TRACE_UNKNOWN, bit};

/// Flags of a trace that begins here. All bits of its id are random.
const OF_ROOT: u32 = trace_flag::SAMPLED | trace_flag::RANDOM;

/// A request is read at `position` of a server connection. Its trace may be looked for later.
#[inline(always)]
pub fn received(stream: Stream, position: u64) {
    let opposite = stream.next(Direction::Egress);
    let lookup = if stream.is(bit::NUMBERED) { lookup::BY_NUMBERS } else { lookup::IMPOSSIBLE };
    let received = Received { position, opposite, trace_id: [0; 2], flags: 0, lookup };
    // If the kernel has no room, it forgets another request.
    let _ = RECEIVED.insert(stream.cookie(), received, 0);
}

/// Gives the message of a client connection the trace of its owner, which the owner's caller may have sent.
#[inline(always)]
pub fn find(stream: Stream) {
    trace_of_call(stream.as_ptr());
}

/// This is a global function: the verifier checks it once. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_of_call(stream: *mut StreamState) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    if let Some(stream) = unsafe { Stream::new(stream) } {
        stream.set_trace_flags(OF_ROOT);
        let owner = stream.owner();
        if owner.is_known() && !inherit(stream, owner) {
            stream.set_trace_flags(TRACE_UNKNOWN);
        }
    }
    0
}

/// Whether the ids of the message may be sent.
#[inline(always)]
pub fn is_known(stream: Stream) -> bool {
    stream.trace_flags() != TRACE_UNKNOWN
}

#[inline(always)]
fn inherit(stream: Stream, owner: SharedOwner) -> bool {
    let Some(received) = RECEIVED.get_ptr_mut(owner.cookie()) else { return false };
    // SAFETY: a live value of the map, which other CPUs may write.
    unsafe {
        if (*received).position != owner.position() {
            return false;
        }
        if (*received).trace_id == [0; 2] {
            if (*received).lookup != lookup::BY_NUMBERS {
                return false;
            }
            let numbers: Numbers = [(*received).position as u32, (*received).opposite as u32];
            // No traced process of this host sent it: its trace begins with it.
            let Some(sent) = SENT.get_ptr(numbers) else { return true };
            (*received).trace_id = (*sent).trace_id;
            (*received).flags = (*sent).flags;
        }
        stream.message().set_trace_id((*received).trace_id);
        stream.set_trace_flags((*received).flags);
    }
    true
}

/// Notes the trace of a call whose first byte has the number `position`, for its receiver on this host.
#[inline(always)]
pub fn sent(stream: Stream, position: u32) {
    if !stream.is(bit::NUMBERED) || !is_known(stream) {
        return;
    }
    let numbers: Numbers = [position, stream.next(Direction::Ingress) as u32];
    let sent = Sent { trace_id: stream.message().trace_id(), flags: stream.trace_flags(), _pad: 0 };
    let _ = SENT.insert(numbers, sent, 0);
}

/// Writes the line over the bytes of the message that can be written. Returns whether there were as many.
#[inline(always)]
pub fn write_line(message: *mut sk_msg_md, stream: Stream) -> bool {
    // SAFETY: members of the context.
    let (data, end) =
        unsafe { ((*message).__bindgen_anon_1.data as usize, (*message).__bindgen_anon_2.data_end as usize) };
    if data + LINE_BYTES as usize > end {
        return false;
    }
    let ids = stream.message();
    let [high, low] = ids.trace_id();
    let span = ids.span_id();
    // SAFETY: as many bytes can be written.
    unsafe {
        let line = data as *mut u8;
        line.cast::<[u8; 16]>().write_unaligned(*b"traceparent: 00-");
        hex(line.add(16), high);
        hex(line.add(32), low);
        line.add(48).write(b'-');
        hex(line.add(49), span);
        line.add(65).write(b'-');
        let flags = digits(stream.trace_flags()) >> 48;
        line.add(66).cast::<u16>().write_unaligned(flags as u16);
        line.add(68).write(b'\r');
        line.add(69).write(b'\n');
    }
    true
}

/// Writes a number as 16 hexadecimal digits.
///
/// # Safety
/// There must be room for them.
#[inline(always)]
unsafe fn hex(into: *mut u8, number: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        into.cast::<u64>().write_unaligned(digits((number >> 32) as u32));
        into.add(8).cast::<u64>().write_unaligned(digits(number as u32));
    }
}
