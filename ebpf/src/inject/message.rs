//! Adds header lines to a request that is sent on an enrolled socket.
//!
//! They go to the end of the header block: only there it is certain that the program's own are missing, whatever the pieces
//! that the block is sent in.

use aya_ebpf::bindings::sk_msg_md;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_msg_apply_bytes, bpf_msg_pop_data, bpf_msg_pull_data, bpf_msg_push_data,
};
use aya_ebpf::programs::SkMsgContext;
use onlooker_common::connection::role;
use onlooker_common::limits::INJECTED_HEAD;
use onlooker_common::losses::Loss;

use super::head::{self, Found};
use super::lines;
use super::state::State;
use super::storage;
use super::trace;
use crate::connection;
use crate::kernel::member::{number, probe};
use crate::kernel::sock::{SendBuffer, Sock};
use crate::kernel::task::{Task, current_ids};
use crate::maps::count;
use crate::selected::Selected;
use crate::state::connection::Connection;
use crate::state::injection::{Injection, phase};
use crate::state::stream::bit;
use crate::work::owner;
use crate::work::units;

/// Room that must be left in the send buffer. If a send of added bytes were cut short, the kernel would tell the program that more of its own
/// bytes were sent than were.
const ROOM: u32 = 4096;

/// Servers limit header blocks to multiples of this.
const LIMIT_UNIT: u32 = 4096;

/// The end of a header block: CR LF.
const END_BYTES: u32 = 2;

/// What is added to a request.
#[derive(Clone, Copy)]
struct Addition {
    /// Where in the message.
    at: u32,
    bytes: u32,
    state: State,
}

/// Who decides owner and ids of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// The program that sees what is sent.
    Message,
    /// The program before it: on this kernel, the former cannot use the storage of threads.
    Call,
}

/// A process is about to send data on an enrolled socket. Decides owner and ids, if a request may begin.
#[inline(always)]
pub fn called(sock: Sock) {
    let (Some(injection), Some(connection)) = (storage::known(sock), connection::storage::known(sock)) else { return };
    let Some(buffer) = sock.send_buffer() else { return };
    if buffer.next != injection.sequence() {
        return;
    }
    if injection.phase() == phase::BODY {
        injection.begin_later();
    }
    let begins = injection.is_later() != 0 || buffer.sent == 0;
    if begins && injection.phase() == phase::METHOD && injection.is_decided() == 0 {
        decide(injection, connection, buffer);
    }
}

/// A process sends data on an enrolled socket. Returns whether the data may be sent.
#[inline(always)]
pub fn sent(ctx: &SkMsgContext, decided_by: DecidedBy) -> bool {
    let message = ctx.msg;
    // What an earlier run chose would apply to this one too.
    // SAFETY: the context, and a member of it.
    let sock = unsafe {
        bpf_msg_apply_bytes(message, 0);
        (*message).__bindgen_anon_3.sk
    };
    if sock.is_null() {
        return true;
    }
    // SAFETY: the verifier knows the pointer as a socket.
    let sock = unsafe { Sock::new(sock.cast_const().cast()) };
    let (Some(injection), Some(connection)) = (storage::known(sock), connection::storage::known(sock)) else {
        return true;
    };
    if injection.phase() == phase::DONE || ctx.size() == 0 {
        return true;
    }
    let outcome = match sock.send_buffer() {
        Some(buffer) if injection.phase() != phase::BODY || begins_request(message, injection, buffer) => {
            look(message, injection, connection, buffer, decided_by)
        }
        Some(buffer) if is_within_body(injection, buffer) => Ok(None),
        _ => {
            injection.set_phase(phase::DONE);
            count(Loss::TraceparentOpaque);
            return true;
        }
    };
    match outcome {
        Ok(None) => true,
        Ok(Some(addition)) => add(message, addition, injection, connection),
        Err(loss) => {
            // Another request may follow one that was followed to its end.
            if injection.phase() != phase::BODY {
                injection.set_phase(phase::DONE);
            }
            // Otherwise the ids are those of an earlier request, which may have been sent with them.
            if injection.is_decided() != 0 {
                connection.stream().clear(bit::SENDS_CONTEXT);
            }
            count(loss);
            true
        }
    }
}

/// How many bytes of the body are left. More than half of all numbers: bytes passed unseen.
#[inline(always)]
fn body_left(injection: Injection, buffer: SendBuffer) -> u32 {
    injection.sequence().wrapping_sub(buffer.next)
}

#[inline(always)]
fn is_within_body(injection: Injection, buffer: SendBuffer) -> bool {
    body_left(injection, buffer) as i32 > 0
}

/// Whether the message, which is sent in a body or behind one, begins the next request. If the request begins within the message, this
/// program is called for it again.
#[inline(always)]
fn begins_request(message: *mut sk_msg_md, injection: Injection, buffer: SendBuffer) -> bool {
    let left = body_left(injection, buffer);
    if left == 0 {
        injection.begin_later();
        return true;
    }
    // SAFETY: the context, and a member of it.
    unsafe {
        if left < (*message).size {
            bpf_msg_apply_bytes(message, left);
        }
    }
    false
}

/// Follows the request. Returns where the lines are to be added in this message, if it ends the header block.
#[inline(always)]
fn look(
    message: *mut sk_msg_md,
    injection: Injection,
    connection: Connection,
    buffer: SendBuffer,
    decided_by: DecidedBy,
) -> Result<Option<Addition>, Loss> {
    // SAFETY: a member of the context.
    let size = unsafe { (*message).size };
    let is_first = injection.is_later() == 0;
    // Bytes that were sent past this program, or that it has seen although they were not sent, make the rest uncertain.
    if buffer.next != injection.sequence() || (is_first && injection.length() == 0 && buffer.sent != 0) {
        return Err(Loss::TraceparentOpaque);
    }
    let before = injection.length();
    let mut found = {
        let (from, linear) = linear_part(message);
        let linear = if linear < size { linear } else { size };
        let found = head::follow(injection, from, linear, 0);
        if found == Found::More && linear < size && linear < INJECTED_HEAD {
            let wanted = if size < INJECTED_HEAD { size } else { INJECTED_HEAD };
            // SAFETY: the context. It makes the beginning of the message one piece.
            if unsafe { bpf_msg_pull_data(message, 0, wanted, 0) } != 0 {
                return Err(Loss::TraceparentNoRoom);
            }
            let (from, now) = linear_part(message);
            if now < wanted {
                return Err(Loss::TraceparentOpaque);
            }
            head::follow(injection, from, wanted, linear)
        } else {
            found
        }
    };
    if let Found::End(at) = found
        && at + 1 < size
    {
        let (from, linear) = linear_part(message);
        if at + 1 < linear && probe::<u8>(from + u64::from(at) + 1) != Some(b'\n') {
            found = Found::Other;
        }
    }
    if found == Found::Other {
        return Err(Loss::TraceparentOpaque);
    }
    let stream = connection.stream();
    // A later request that is sent before the response to an earlier one has no ids of its own here. It is followed all the same.
    let is_decided =
        injection.is_decided() != 0 || (decided_by == DecidedBy::Message && decide(injection, connection, buffer));
    if is_first && !is_decided {
        return Err(Loss::TraceparentOpaque);
    }
    let Found::End(at) = found else {
        let length = before.saturating_add(size);
        if length > INJECTED_HEAD {
            return Err(Loss::TraceparentTooBig);
        }
        injection.set_length(length);
        injection.set_sequence(buffer.next.wrapping_add(size));
        return Ok(None);
    };
    // The LF must have been seen to be certain of the end.
    if !injection.is_last() && at + 1 < size {
        let whole = at + END_BYTES + injection.body();
        injection.set_phase(phase::BODY);
        injection.set_sequence(buffer.next.wrapping_add(whole));
        if whole < size {
            // SAFETY: the context. This program is called again for the next request.
            unsafe { bpf_msg_apply_bytes(message, whole) };
        }
    }
    if injection.has_own() != 0 {
        return Err(Loss::TraceparentOwn);
    }
    if !is_decided {
        return Err(Loss::TraceparentPipelined);
    }
    if !trace::is_known(stream) {
        return Err(Loss::TraceparentUnknown);
    }
    let length = before.saturating_add(at) + END_BYTES;
    let state = State::of_call(stream);
    let bytes = lines::bytes(state);
    if length + bytes > INJECTED_HEAD || length / LIMIT_UNIT != (length + bytes) / LIMIT_UNIT {
        return Err(Loss::TraceparentTooBig);
    }
    let needed = buffer.queued.saturating_add(at + END_BYTES + bytes + ROOM);
    if needed > buffer.limit {
        return Err(Loss::TraceparentNoRoom);
    }
    Ok(Some(Addition { at, bytes, state }))
}

/// Address and length of the bytes that can be read at once.
#[inline(always)]
fn linear_part(message: *mut sk_msg_md) -> (u64, u32) {
    // SAFETY: members of the context.
    let (data, end) =
        unsafe { (number((*message).__bindgen_anon_1.data), number((*message).__bindgen_anon_2.data_end)) };
    (data, end.wrapping_sub(data) as u32)
}

/// Decides owner and ids of the request, before its first byte is sent. The record of the operation has the same.
#[inline(always)]
fn decide(injection: Injection, connection: Connection, buffer: SendBuffer) -> bool {
    let task = Task::current();
    let (tgid, tid) = (task.tgid(), task.pid());
    let Some(process) = Selected::find(tgid) else { return false };
    let stream = connection.stream();
    if stream.role() != role::CLIENT {
        return false;
    }
    let position = if injection.is_later() == 0 {
        if stream.is(bit::IDENTIFIED) {
            return false;
        }
        // SAFETY: no arguments.
        let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
        stream.set_id_mask(word());
        stream.set_id_seed(word());
        stream.set_next_received(u64::from(buffer.received));
        stream.set(bit::NUMBERED);
        u64::from(buffer.next)
    } else {
        // All that was sent before was recorded, and the record of this operation will begin a run.
        if !stream.is(bit::IDENTIFIED) || stream.next_sent() as u32 != buffer.next || !stream.is_answered() {
            return false;
        }
        stream.next_sent()
    };
    units::note(process, tgid, tid, stream);
    owner::decide(process, stream, position);
    injection.set_is_decided(1);
    stream.set(bit::DECIDED | bit::SENDS_CONTEXT);
    true
}

/// Adds the lines. Returns whether the message may be sent.
#[inline(always)]
fn add(message: *mut sk_msg_md, addition: Addition, injection: Injection, connection: Connection) -> bool {
    let (stream, Addition { at, bytes: added, state }) = (connection.stream(), addition);
    if injection.phase() != phase::BODY {
        injection.set_phase(phase::DONE);
    }
    // SAFETY: the context.
    if unsafe { bpf_msg_push_data(message, at, added, 0) } != 0 {
        stream.clear(bit::SENDS_CONTEXT);
        count(Loss::TraceparentNoRoom);
        return true;
    }
    // SAFETY: the context. The added bytes are a piece of their own, so nothing is copied.
    let written = unsafe { bpf_msg_pull_data(message, at, at + added, 0) } == 0 && lines::write(message, stream, state);
    if !written {
        stream.clear(bit::SENDS_CONTEXT);
        count(Loss::TraceparentNoRoom);
        // SAFETY: the context. If this fails too, what was added must not be sent.
        return unsafe { bpf_msg_pop_data(message, at, added, 0) } == 0;
    }
    injection.set_sequence(injection.sequence().wrapping_add(added));
    connection.set_added(added);
    connection.set_added_by(current_ids().1);
    // SAFETY: the context, and a member of it.
    unsafe {
        let size = (*message).size;
        let end = at + added + if size > at + added + 1 { END_BYTES } else { 1 };
        // Several pieces would be sent as several packets.
        bpf_msg_pull_data(message, 0, end, 0);
        // There is room for this much. What follows passes through this program again, which lets it through.
        bpf_msg_apply_bytes(message, end);
    }
    count(Loss::TraceparentAdded);
    true
}
