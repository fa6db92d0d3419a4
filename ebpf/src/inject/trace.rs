//! Which trace a call belongs to.

use onlooker_common::injection::{Numbers, Received, Sent, lookup, trace_flag};

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
