//! The objects of TLS libraries, each with the stream of its plaintext.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use onlooker_common::connection::role;
use onlooker_common::kind;
use onlooker_common::losses::Loss;
use onlooker_common::plaintext::{StreamKey, Tie};

use crate::atomic;
use crate::emit;
use crate::kernel::sock::SockAddress;
use crate::maps::{TLS_GENERATION, TLS_NEW_OBJECT, TLS_OBJECTS, count};
use crate::selected::Selected;
use crate::state::connection::Connection;
use crate::state::stream::{Stream, bit};
use crate::state::tls::{ObjectKey, Plaintext};

/// The object at this address, if it is known.
#[inline(always)]
pub fn known(tgid: u32, object: u64) -> Option<Plaintext> {
    let state = TLS_OBJECTS.get_ptr_mut(ObjectKey { object, tgid, pad: 0 })?;
    // SAFETY: a live value of the map. When the map is full, the kernel may give its place to another object that is then
    // recorded wrongly: the map has room for more objects than are in use between two steps of a program.
    unsafe { Plaintext::new(state) }
}

/// The object at this address. A new one is made if none is known. `from_start`: nothing passed on it before.
#[inline(always)]
pub fn of(tgid: u32, object: u64, from_start: bool) -> Option<Plaintext> {
    if known(tgid, object).is_none() {
        create(tgid, object, from_start);
    }
    known(tgid, object)
}

/// A new object begins at this address, in place of one that may have been there.
#[inline(always)]
pub fn create(tgid: u32, object: u64, from_start: bool) {
    new_tls_object(tgid, object, u32::from(from_start));
}

/// A global function, which the verifier checks once, by itself. The result means nothing: such a function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn new_tls_object(tgid: u32, object: u64, from_start: u32) -> u32 {
    let Some(template) = TLS_NEW_OBJECT.get_ptr(0) else { return 0 };
    let key = ObjectKey { object, tgid, pad: 0 };
    // By reference: by value, the state would go over the stack.
    // SAFETY: a live value of a map that no program writes.
    if TLS_OBJECTS.insert(key, unsafe { &*template }, 0).is_err() {
        return 0;
    }
    if let Some(plaintext) = known(tgid, object) {
        plaintext.set_object(object);
        plaintext.set_tgid(tgid);
        begin(plaintext, from_start != 0);
    }
    0
}

/// The object is used for another connection.
#[inline(always)]
pub fn begin_anew(plaintext: Plaintext) {
    let role = plaintext.stream().role();
    // SAFETY: a live value, of which zeros are one.
    unsafe { plaintext.stream().as_ptr().write_bytes(0, 1) };
    begin(plaintext, true);
    plaintext.stream().set_role(role);
}

#[inline(always)]
fn begin(plaintext: Plaintext, from_start: bool) {
    let Some(counter) = TLS_GENERATION.get_ptr_mut(0) else { return };
    // SAFETY: no arguments.
    let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    // SAFETY: a live, aligned word of a map.
    let generation = unsafe { atomic::fetch_add(counter, 1) } as u32;
    plaintext.set_generation(generation);
    let stream = plaintext.stream();
    stream.set_cookie(StreamKey { generation, ..StreamKey::default() }.id());
    stream.set_tgid(plaintext.tgid());
    stream.set_id_mask(word());
    stream.set_id_seed(word());
    stream.set_flags(if from_start { bit::IDENTIFIED | bit::FROM_START } else { bit::IDENTIFIED });
}

/// The program says which role the object has.
#[inline(always)]
pub fn set_role(tgid: u32, object: u64, role: u8) {
    // It is said before the handshake.
    if Selected::find(tgid).is_some()
        && let Some(plaintext) = of(tgid, object, true)
    {
        plaintext.stream().set_role(role);
    }
}

/// The stream whose messages a connection carries: its own, or the plaintext of an object.
#[inline(always)]
pub fn messages_of(connection: Connection) -> Stream {
    let own = connection.stream();
    if connection.object() == 0 {
        return own;
    }
    carried(connection).map_or(own, Plaintext::stream)
}

/// The object whose plaintext a connection carries.
#[inline(always)]
pub fn carried(connection: Connection) -> Option<Plaintext> {
    let stream = connection.stream();
    let plaintext = known(stream.tgid(), connection.object())?;
    if plaintext.socket_cookie() == stream.cookie() { Some(plaintext) } else { None }
}

/// From now on the connection carries the plaintext of the object. `by`: one of `common::plaintext::tied_by`.
#[inline(always)]
pub fn tie(plaintext: Plaintext, connection: Connection, socket: SockAddress, by: u32) {
    let (ciphertext, stream) = (connection.stream(), plaintext.stream());
    plaintext.set_socket(socket);
    plaintext.set_socket_cookie(ciphertext.cookie());
    connection.set_object(plaintext.object());
    if stream.role() == role::UNKNOWN {
        stream.set_role(ciphertext.role());
        if ciphertext.is(bit::GUESSED) {
            stream.set(bit::GUESSED);
        }
    }
    if stream.role() == role::CLIENT && !stream.is(bit::SENT) {
        // The connection was opened for this request, which waits for it.
        stream.owner().copy(ciphertext.owner());
        stream.set_awaited(ciphertext.awaited());
        ciphertext.set_awaited(0);
    }
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let cookie = ciphertext.cookie();
    let Some(mut entry) = emit::reserve::<Tie>() else { return count(Loss::RingFullConnection) };
    // SAFETY: every field of the record is written. It is plain old data.
    unsafe {
        let record = entry.as_mut_ptr();
        (*record).kind = kind::TIE;
        (*record).tied_by = by;
        (*record).stream.object = plaintext.object();
        (*record).stream.generation = plaintext.generation();
        (*record).stream.tgid = plaintext.tgid();
        (*record).cookie = cookie;
        (*record).time = time;
    }
    emit::submit(entry, true);
}
