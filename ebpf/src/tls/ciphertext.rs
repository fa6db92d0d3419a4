//! What passes on a socket that carries TLS.
//!
//! Only lengths and the beginning of handshakes are recorded. Such operations concern no request: the plaintext does. An
//! operation also shows which object's plaintext the socket carries.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::limits::{HANDSHAKE_CAPTURE, TLS_BEGINS_WITHIN};
use onlooker_common::losses::Loss;
use onlooker_common::plaintext::{RecordNumbers, tied_by};
use onlooker_common::segment::{Segment, flag};
use onlooker_common::selection::{SelectedProcess, process_flag};

use super::records::{self, APPLICATION_DATA, HANDSHAKE, HEADER_BYTES, Header};
use super::{current, objects, tags};
use crate::kernel::sock::{Sock, SockAddress};
use crate::kernel::task::Task;
use crate::maps::count;
use crate::record::arguments::{self, Bytes};
use crate::record::capture;
use crate::record::form::Moved;
use crate::selected::Selected;
use crate::state::connection::{Connection, ConnectionState};
use crate::state::stream::{Direction, Stream, bit};
use crate::state::tls::{Call, RECORD_UNSEEN, call};
use crate::user;
use crate::work::owner::Worker;
use crate::work::units::thread;
use crate::work::waiting;

/// Buffers of a vectored send in which its end is looked for.
const BUFFERS: u64 = 16;

/// Records an operation of a process that uses a TLS library, if the socket carries TLS. Returns whether it does.
#[inline(always)]
pub fn record(process: Selected, connection: Connection, moved: &mut Moved, sock: Sock, direction: Direction) -> bool {
    let egress = u32::from(direction == Direction::Egress);
    if moved.length == 0 && connection.stream().is(bit::CIPHERTEXT) {
        failed(process, connection, direction);
    }
    // A global function takes no pointer to a socket.
    connection.set_address(sock.address());
    match look_at_ciphertext(process.as_ptr(), connection.as_ptr(), moved, egress) {
        CLEAR_TEXT => false,
        seen => {
            write_ciphertext(connection.as_ptr(), moved, egress, seen);
            true
        }
    }
}

/// An operation on a socket that carries TLS failed for good, or read the peer's FIN.
#[inline(always)]
pub fn failed(process: Selected, connection: Connection, direction: Direction) {
    ciphertext_failed(process.as_ptr(), connection.as_ptr(), u32::from(direction == Direction::Egress));
}

/// What was seen of an operation.
const CLEAR_TEXT: u32 = 0;
const ENCRYPTED: u32 = 1;
/// A message of a handshake, which may be encrypted or not.
const HANDSHAKE_MESSAGE: u32 = 2;

/// Finds out whether the socket carries TLS, and the plaintext of which object.
///
/// A global function, which the verifier checks once, by itself. It is apart from [`write_ciphertext`], so that neither needs
/// much stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_at_ciphertext(
    process: *mut SelectedProcess,
    connection: *mut ConnectionState,
    moved: *mut Moved,
    egress: u32,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    let (Some(process), Some(connection)) = (unsafe { (Selected::new(process), Connection::new(connection)) }) else {
        return CLEAR_TEXT;
    };
    if moved.is_null() {
        return CLEAR_TEXT;
    }
    // SAFETY: a live value of the caller.
    let (tgid, length) = unsafe { ((*moved).tgid, (*moved).length) };
    let stream = connection.stream();
    let task = Task::current();
    if length == 0 {
        return if stream.is(bit::CIPHERTEXT) { ENCRYPTED } else { CLEAR_TEXT };
    }
    let call = current::call(process, tgid, task);
    if !stream.is(bit::CIPHERTEXT) && call.is_none() && stream.run() >= TLS_BEGINS_WITHIN {
        return CLEAR_TEXT;
    }
    let bytes = arguments::look(task);
    let first = first_buffer(bytes, length);
    let header = records::header(first.at);
    if !stream.is(bit::CIPHERTEXT) {
        if header.is_none() {
            return CLEAR_TEXT;
        }
        becomes_ciphertext(stream, process, task);
    }
    if egress == 0
        && process.has(process_flag::TLS_MEMORY)
        && let Some(thread) = thread::known(task)
    {
        thread.set_tls_received(stream.cookie());
    }
    let is_handshake = header.is_some_and(|header| header.kind == HANDSHAKE);
    let continues_handshake = stream.is(bit::HANDSHAKE_FOLLOWS);
    stream.clear(bit::HANDSHAKE_FOLLOWS);
    if is_handshake && u64::from(length) == HEADER_BYTES {
        stream.set(bit::HANDSHAKE_FOLLOWS);
    }
    if let Some(call) = call {
        // SAFETY: a live value of the caller.
        note_record(call, header, unsafe { &*moved }, egress);
        tie_by_call(tgid, call.object(), connection, connection.address(), is_handshake);
    } else if egress != 0 && process.has(process_flag::TLS_MEMORY) && objects::carried(connection).is_none() {
        let last = last_buffer(bytes, length);
        if let Some(plaintext) = tags::writer(tgid, last.at, last.length)
            && (plaintext.received_on() == 0 || plaintext.received_on() == stream.cookie())
        {
            objects::tie(plaintext, connection, connection.address(), tied_by::TAG);
        }
    }
    if is_handshake || continues_handshake { HANDSHAKE_MESSAGE } else { ENCRYPTED }
}

/// Records the length, and the beginning of a handshake's message. A global function, as [`look_at_ciphertext`]. The result
/// means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_ciphertext(connection: *mut ConnectionState, moved: *mut Moved, egress: u32, seen: u32) -> u32 {
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    let Some(connection) = (unsafe { Connection::new(connection) }) else { return 0 };
    if moved.is_null() {
        return 0;
    }
    let stream = connection.stream();
    // SAFETY: a live value of the caller.
    let length = unsafe { (*moved).length };
    let (direction, egress) = if egress != 0 { (Direction::Egress, flag::EGRESS) } else { (Direction::Ingress, 0) };
    let begins = if length == 0 { flag::FIN } else { u32::from(stream.turn(direction)) * flag::BEGINS };
    let from_start = u32::from(stream.is(bit::FROM_START)) * flag::FROM_START;
    let mut at = 0;
    let mut wanted = 0;
    if length > 0 {
        let first = first_buffer(arguments::look(Task::current()), length);
        wanted = if seen == HANDSHAKE_MESSAGE { HANDSHAKE_CAPTURE } else { HEADER_BYTES as u32 };
        if first.length < u64::from(wanted) {
            wanted = first.length as u32;
        }
        at = if wanted == 0 { 0 } else { first.at };
    }
    // SAFETY: a live value of the caller; the helper has no arguments.
    let captured = unsafe {
        (*moved).flags |= egress | begins | from_start;
        (*moved).time = bpf_ktime_get_ns();
        capture::here::<Segment, { HANDSHAKE_CAPTURE as usize }>(moved, stream, at, wanted)
    };
    if captured.is_none() {
        count(Loss::RingFullSegment);
    }
    0
}

/// TLS begins on the connection. What was taken for a request or a call before is none.
#[inline(always)]
fn becomes_ciphertext(stream: Stream, process: Selected, task: Task) {
    stream.set(bit::CIPHERTEXT);
    waiting::request_ends(stream);
    if stream.is(bit::SENT) {
        waiting::call_ends(stream, process);
    }
    if let Some(thread) = thread::known(task) {
        thread.forget(stream.cookie());
    }
}

/// Notes the record in which the call's plaintext begins: the first that passes in the call, if its beginning does. A library that has
/// plaintext left, or a part of a record, uses that first.
#[inline(always)]
fn note_record(call: Call, header: Option<Header>, moved: &Moved, egress: u32) {
    let moves_plaintext = call.what() == if egress != 0 { call::WRITE } else { call::READ };
    if !moves_plaintext || call.record() != 0 {
        return;
    }
    let begins =
        u64::from(moved.length) >= HEADER_BYTES && header.is_some_and(|header| header.kind == APPLICATION_DATA);
    let has_numbers = begins && moved.flags & flag::UNIX == 0;
    let numbers = RecordNumbers { sequence: moved.position as u32, opposite: moved.opposite as u32 };
    call.set_record(if has_numbers { numbers.to_word() } else { RECORD_UNSEEN });
}

#[inline(always)]
fn tie_by_call(tgid: u32, object: u64, connection: Connection, socket: SockAddress, is_handshake: bool) {
    let cookie = connection.stream().cookie();
    let Some(plaintext) = objects::known(tgid, object) else { return };
    if plaintext.socket_cookie() == cookie {
        return;
    }
    if plaintext.socket_cookie() != 0 {
        // Another connection begins with the same object. Whatever else uses two sockets is not known.
        if !is_handshake {
            return;
        }
        objects::begin_anew(plaintext);
    }
    objects::tie(plaintext, connection, socket, tied_by::CALL);
}

/// A buffer, and how many bytes of the operation are in it.
#[derive(Clone, Copy)]
struct Part {
    at: u64,
    length: u64,
}

#[inline(always)]
fn first_buffer(bytes: Bytes, length: u32) -> Part {
    let length = u64::from(length);
    if bytes.buffers == 0 {
        return Part { at: bytes.at, length };
    }
    match user::buffer(bytes.at, 0) {
        Some((at, size)) => Part { at, length: if size < length { size } else { length } },
        None => Part { at: 0, length: 0 },
    }
}

/// The buffer in which the operation's last byte is.
#[inline(always)]
fn last_buffer(bytes: Bytes, length: u32) -> Part {
    let mut left = u64::from(length);
    if bytes.buffers == 0 {
        return Part { at: bytes.at, length: left };
    }
    for index in 0..BUFFERS {
        if index >= bytes.buffers {
            break;
        }
        let Some((at, size)) = user::buffer(bytes.at, index) else { break };
        if left <= size {
            return Part { at, length: left };
        }
        left -= size;
    }
    Part { at: 0, length: 0 }
}

/// A global function, as [`look_at_ciphertext`]. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ciphertext_failed(process: *mut SelectedProcess, connection: *mut ConnectionState, egress: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    if let (Some(process), Some(connection)) = unsafe { (Selected::new(process), Connection::new(connection)) } {
        let task = Task::current();
        let messages = objects::messages_of(connection);
        if egress == 0 {
            Worker { process, task, tgid: task.tgid(), tid: task.pid() }.input_ended(messages);
        } else if let Some(thread) = thread::known(task) {
            thread.owes_nothing_on(messages.cookie());
        }
    }
    0
}
