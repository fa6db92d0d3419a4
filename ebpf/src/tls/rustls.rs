//! The records that rustls encrypts and decrypts.
//!
//! Programs give rustls plaintext in many ways, and the compiler inlines most of them. But every record is encrypted by
//! `MessageEncrypter::encrypt` and decrypted by `MessageDecrypter::decrypt`, which rustls calls through a table of functions:
//!
//! ```text
//! fn encrypt(&mut self, msg: OutboundPlainMessage<'_>, seq: u64) -> Result<OutboundOpaqueMessage, Error>
//! fn decrypt<'a>(&mut self, msg: InboundOpaqueMessage<'a>, seq: u64) -> Result<InboundPlainMessage<'a>, Error>
//! ```
//!
//! Both messages and results are passed by their addresses. `seq` is 0 for the first record of a key, so it shows that an address
//! is used again.
//!
//! The encrypter's address names the object. Which socket carries it, tags show: see `tags`. Which decrypter belongs to it, the
//! connection shows (`RecordLayer`): it has the addresses of both side by side. The caller of `decrypt` has the address of the
//! connection in a register, or on its stack. It is looked for once for each decrypter.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::connection::role;
use onlooker_common::losses::Loss;
use onlooker_common::selection::process_flag;
use onlooker_common::tls_function::{TlsFunction, what};

use super::call::{Arguments, Calls};
use super::connection_of_rustls::Search;
use super::message_of_rustls::{Sending, is_application_data};
use super::{objects, tags};
use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::{TLS_DECRYPTERS, count};
use crate::record::arguments::Bytes;
use crate::record::frames::begins_with_settings;
use crate::record::plaintext::{self, Call};
use crate::selected::Selected;
use crate::state::stream::{Direction, bit};
use crate::state::thread::Thread;
use crate::state::tls::{ObjectKey, Plaintext, key};
use crate::user;
use crate::work::owner::Worker;
use crate::work::units::thread;

/// The type of a record (RFC 8446 5.1).
const APPLICATION_DATA: u8 = 23;
/// No user memory is below this address, and no record is so long.
const LOWEST_ADDRESS: u64 = 1 << 16;
/// What encryption adds to a record: the tag, and up to 13 bytes of header, number and type.
const TAG_BYTES: u64 = 16;
const MOST_ADDED: u64 = TAG_BYTES + 13;
/// Words of a result in which the address and length of the record are.
const RESULT_WORDS: usize = 5;

/// In a call's `taken`: the length of the encrypted record, and whether it is the first of its key.
const FIRST_SHIFT: u32 = 32;

/// An encrypter begins to encrypt a record.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of the function.
#[inline(always)]
pub unsafe fn encrypts(registers: *const pt_regs, function: TlsFunction) {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    process.set(process_flag::TLS | process_flag::TLS_MEMORY);
    let Some(thread) = thread::state(Task::current()) else { return };
    // SAFETY: the caller's promise.
    let ([result_at, encrypter, message, sequence, _], stack_pointer) =
        unsafe { (arch::arguments(registers), arch::stack_pointer(registers)) };
    if sequence == 0 {
        begins(tgid, encrypter);
    }
    let Some(sending) = Sending::of(message) else { return };
    let Some(plaintext) = objects::of(tgid, encrypter, false) else { return };
    plaintext.set_keys(plaintext.keys() | key::ENCRYPTS);
    let arguments = Arguments {
        what: function.cookie() as u32,
        object: encrypter,
        buffer: sending.length,
        result_at,
        by_signature: function.is_by_signature(),
    };
    Calls::of_thread(thread, stack_pointer).begins(arguments);
    if is_proven(process, plaintext, function) {
        say_role(plaintext, Direction::Egress, sending.bytes, sending.length);
        let worker = Worker { process, task: Task::current(), tgid, tid };
        // SAFETY: no arguments.
        let began = unsafe { bpf_ktime_get_ns() };
        let Sending { bytes, length } = sending;
        let call =
            Call { direction: Direction::Egress, length: length as u32, bytes, began, position: None, record: 0 };
        plaintext::record(worker, plaintext, call);
    }
}

/// A decrypter begins to decrypt a record.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of the function.
#[inline(always)]
pub unsafe fn decrypts(registers: *const pt_regs, function: TlsFunction) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    process.set(process_flag::TLS | process_flag::TLS_MEMORY);
    let Some(thread) = thread::state(Task::current()) else { return };
    // SAFETY: the caller's promise.
    let ([result_at, decrypter, message, sequence, _], stack_pointer) =
        unsafe { (arch::arguments(registers), arch::stack_pointer(registers)) };
    if sequence == 0 {
        let _ = TLS_DECRYPTERS.remove(ObjectKey { object: decrypter, tgid, pad: 0 });
    }
    let Some(message) = user::peek::<[u64; 4]>(message) else { return };
    // A slice, or (before 0.23) a vector, which begins with its capacity.
    let [buffer, length, kind] = match message {
        [capacity, buffer, length, kind] if capacity < LOWEST_ADDRESS => [buffer, length, kind],
        [buffer, length, kind, _] => [buffer, length, kind],
    };
    if !is_application_data(kind) || !(TAG_BYTES..=LOWEST_ADDRESS).contains(&length) {
        return;
    }
    let (what, by_signature) = (function.cookie() as u32, function.is_by_signature());
    let calls = Calls::of_thread(thread, stack_pointer);
    calls.begins(Arguments { what, object: decrypter, buffer, result_at, by_signature });
    calls.latest.set_taken(length | u64::from(sequence == 0) << FIRST_SHIFT);
}

/// Such a function returns.
///
/// # Safety
/// `registers` must be the context of a uprobe at the return.
#[inline(always)]
pub unsafe fn returns(registers: *const pt_regs) {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let task = Task::current();
    let Some(thread) = thread::known(task) else { return };
    // SAFETY: the caller's promise.
    let calls = Calls::of_thread(thread, unsafe { arch::stack_pointer(registers) });
    let call = calls.latest;
    if !call.returns_at(calls.stack_pointer) {
        return;
    }
    let function = TlsFunction::of_cookie(u64::from(call.what()));
    let (object, buffer, result_at, taken, began) =
        (call.object(), call.buffer(), call.result_at(), call.taken(), call.began());
    call.copy(calls.outer);
    calls.outer.set_stack_pointer(0);
    if function.what() == what::ENCRYPT {
        rustls_encrypted(tgid, object, buffer, result_at);
        return;
    }
    let is_tls_1_3 = u32::from(function.is_of_tls_1_3());
    let length = rustls_decrypted(result_at, buffer, taken & u64::from(u32::MAX), is_tls_1_3);
    if length == 0 {
        return;
    }
    let is_first = taken >> FIRST_SHIFT != 0;
    // SAFETY: the caller's promise.
    let Some(plaintext) = (unsafe { of_decrypter(registers, thread, tgid, object, is_first) }) else {
        return count(Loss::PlaintextUnlinked);
    };
    if !is_proven(process, plaintext, function) {
        return;
    }
    say_role(plaintext, Direction::Ingress, Bytes::buffer(buffer), u64::from(length));
    let worker = Worker { process, task, tgid, tid };
    let call =
        Call { direction: Direction::Ingress, length, bytes: Bytes::buffer(buffer), began, position: None, record: 0 };
    plaintext::record(worker, plaintext, call);
}

/// Notes the tag of a record that was made of `length` bytes of plaintext.
///
/// A global function, so that its stack is its own. The result means nothing: such a function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rustls_encrypted(tgid: u32, encrypter: u64, length: u64, result_at: u64) -> u32 {
    let Some(plaintext) = objects::known(tgid, encrypter) else { return 0 };
    let Some(result) = user::peek::<[u64; RESULT_WORDS]>(result_at) else { return 0 };
    if plaintext.socket_cookie() != 0 {
        return 0;
    }
    // A vector has its capacity, its address and its length.
    let (mut at, mut whole) = (0, 0);
    for index in 2..RESULT_WORDS {
        let [capacity, address, word] = [result[index - 2], result[index - 1], result[index]];
        let is_length = word >= length + TAG_BYTES && word <= length + MOST_ADDED;
        if at == 0 && is_length && capacity >= word && capacity < LOWEST_ADDRESS && address >= LOWEST_ADDRESS {
            (at, whole) = (address, word);
        }
    }
    tags::ends(tgid, plaintext, at, whole);
    0
}

/// The length of the application data that was decrypted in `buffer`. 0 if it is something else, or failed. A global function, as
/// [`rustls_encrypted`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rustls_decrypted(result_at: u64, buffer: u64, encrypted: u64, is_tls_1_3: u32) -> u32 {
    let Some(result) = user::peek::<[u64; RESULT_WORDS]>(result_at) else { return 0 };
    let mut length = 0;
    for index in 1..RESULT_WORDS {
        let next = result[index];
        // What is behind the result may look like it.
        if length == 0 && result[index - 1] == buffer && next <= encrypted - TAG_BYTES {
            length = next;
        }
    }
    // The type was behind the plaintext, and is there still.
    let is_other = is_tls_1_3 != 0 && user::peek::<u8>(buffer.wrapping_add(length)) != Some(APPLICATION_DATA);
    if is_other { 0 } else { length as u32 }
}

/// Whether plaintext of the object may be recorded: the function is the right one, or a socket proved it.
#[inline(always)]
fn is_proven(process: Selected, plaintext: Plaintext, function: TlsFunction) -> bool {
    if !function.is_by_signature() || process.has(process_flag::TLS_PROVEN) {
        return true;
    }
    if plaintext.socket_cookie() == 0 {
        count(Loss::PlaintextUnproven);
        return false;
    }
    process.set(process_flag::TLS_PROVEN);
    true
}

/// Sets the role when the first plaintext of a connection moves. In all protocols that are parsed inside TLS the client speaks first,
/// except that a server of HTTP/2 may send its SETTINGS before it has the client's preface (RFC 9113 3.4).
#[inline(always)]
fn say_role(plaintext: Plaintext, direction: Direction, bytes: Bytes, length: u64) {
    let stream = plaintext.stream();
    let is_first = stream.next(Direction::Ingress) == 0 && stream.next(Direction::Egress) == 0;
    if stream.role() == role::UNKNOWN && is_first && stream.is(bit::FROM_START) {
        let is_from_client = !begins_with_settings(bytes, length);
        let is_client = is_from_client == (direction == Direction::Egress);
        stream.set_role(if is_client { role::CLIENT } else { role::SERVER });
    }
}

/// An encrypter has a new key. It is that of another connection than before, unless its connection has decrypted before: as a server's does.
#[inline(always)]
fn begins(tgid: u32, encrypter: u64) {
    if objects::known(tgid, encrypter).is_none_or(|plaintext| plaintext.keys() != key::DECRYPTS) {
        objects::create(tgid, encrypter, true);
    }
}

/// The object of a decrypter: that of the encrypter beside it.
///
/// # Safety
/// `registers` must be the context of a uprobe at the return of its function.
#[inline(always)]
unsafe fn of_decrypter(
    registers: *const pt_regs,
    thread: Thread,
    tgid: u32,
    decrypter: u64,
    is_first: bool,
) -> Option<Plaintext> {
    let known = ObjectKey { object: decrypter, tgid, pad: 0 };
    if let Some(encrypter) = TLS_DECRYPTERS.get_ptr(known) {
        // SAFETY: a live value of the map.
        return objects::of(tgid, unsafe { *encrypter }, false);
    }
    // SAFETY: the caller's promise.
    let encrypter = unsafe { Search::begin(registers, decrypter) }.encrypter()?;
    // The thread has just read the record from its socket.
    let received_on = thread.tls_received();
    let is_elsewhere = |plaintext: Plaintext| {
        let carrier = plaintext.socket_cookie();
        carrier != 0 && received_on != 0 && carrier != received_on
    };
    if is_first
        && objects::known(tgid, encrypter)
            .is_none_or(|plaintext| plaintext.keys() & key::DECRYPTS != 0 || is_elsewhere(plaintext))
    {
        objects::create(tgid, encrypter, true);
    }
    let plaintext = objects::of(tgid, encrypter, false)?;
    if is_elsewhere(plaintext) {
        return None;
    }
    plaintext.set_keys(plaintext.keys() | key::DECRYPTS);
    plaintext.set_received_on(received_on);
    let _ = TLS_DECRYPTERS.insert(known, encrypter, 0);
    Some(plaintext)
}
