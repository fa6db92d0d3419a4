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
use crate::kernel::sock::Sock;
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

/// A process is about to send data on an enrolled socket. Decides owner and ids, if this may be the first request.
#[inline(always)]
pub fn called(sock: Sock) {
    let (Some(injection), Some(connection)) = (storage::known(sock), connection::storage::known(sock)) else { return };
    if injection.phase() != phase::METHOD || injection.is_decided() != 0 {
        return;
    }
    if let Some(buffer) = sock.send_buffer()
        && buffer.next == injection.sequence()
        && buffer.sent == 0
    {
        decide(injection, connection, buffer.received);
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
    match look(message, sock, injection, connection, decided_by) {
        Ok(None) => true,
        Ok(Some(addition)) => add(message, addition, injection, connection),
        Err(loss) => {
            injection.set_phase(phase::DONE);
            connection.stream().clear(bit::SENDS_CONTEXT);
            count(loss);
            true
        }
    }
}

/// Follows the request. Returns where the lines are to be added in this message, if it ends the header block.
#[inline(always)]
fn look(
    message: *mut sk_msg_md,
    sock: Sock,
    injection: Injection,
    connection: Connection,
    decided_by: DecidedBy,
) -> Result<Option<Addition>, Loss> {
    // SAFETY: a member of the context.
    let size = unsafe { (*message).size };
    let Some(buffer) = sock.send_buffer() else { return Err(Loss::TraceparentOpaque) };
    // Bytes that were sent past this program, or that it has seen although they were not sent, make the rest uncertain.
    if buffer.next != injection.sequence() || (injection.length() == 0 && buffer.sent != 0) {
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
    let decides = decided_by == DecidedBy::Message;
    if injection.is_decided() == 0 && !(decides && decide(injection, connection, buffer.received)) {
        return Err(Loss::TraceparentOpaque);
    }
    if !trace::is_known(connection.stream()) {
        return Err(Loss::TraceparentUnknown);
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
    if injection.has_own() != 0 {
        return Err(Loss::TraceparentOwn);
    }
    let length = before.saturating_add(at) + END_BYTES;
    let state = State::of_call(connection.stream());
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
fn decide(injection: Injection, connection: Connection, received: u32) -> bool {
    let task = Task::current();
    let (tgid, tid) = (task.tgid(), task.pid());
    let Some(process) = Selected::find(tgid) else { return false };
    let stream = connection.stream();
    if stream.role() != role::CLIENT || stream.is(bit::IDENTIFIED) {
        return false;
    }
    // SAFETY: no arguments.
    let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    stream.set_id_mask(word());
    stream.set_id_seed(word());
    stream.set_next_received(u64::from(received));
    stream.set(bit::NUMBERED);
    units::note(process, tgid, tid, stream);
    owner::decide(process, stream, u64::from(injection.sequence()));
    injection.set_is_decided(1);
    stream.set(bit::DECIDED | bit::SENDS_CONTEXT);
    true
}

/// Adds the lines. Returns whether the message may be sent.
#[inline(always)]
fn add(message: *mut sk_msg_md, addition: Addition, injection: Injection, connection: Connection) -> bool {
    let (stream, Addition { at, bytes: added, state }) = (connection.stream(), addition);
    injection.set_phase(phase::DONE);
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
