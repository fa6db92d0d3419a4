//! Streams of HTTP/2 that pass from one goroutine to another.
//!
//! A server has a goroutine for each connection. It reads the first bytes, and starts one that reads frames. net/http's also starts
//! one for each request, which handles it. So a request is noted with the number of its stream and the connection's goroutine, and
//! found again when its handler begins. A handler of grpc-go may run on a goroutine of a pool. But reader and handler both have the
//! connection's transport, so the request is noted with that when the reader begins the stream.
//!
//! grpc-go's client has a goroutine for each connection that writes all HEADERS frames. The goroutine that makes a call builds the
//! list of its header fields. The list names the call until the writer takes it. By then the stream has its number.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::owner::{Owner, evidence};
use onlooker_common::unit::{self, StreamKey, UnitKey};

use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::{STREAMS, UNITS};
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::stream::Stream;
use crate::state::unit::Unit;
use crate::user;
use crate::work::units::{self, go, thread};
use crate::work::waiting::is_open;

/// A goroutine of a selected process that runs a function.
struct Goroutine {
    tgid: u32,
    process: Selected,
    /// Address of its `g`.
    g: u64,
    id: u64,
}

impl Goroutine {
    /// # Safety
    /// `registers` must be the context of a uprobe in a Go function.
    #[inline(always)]
    unsafe fn running(registers: *const pt_regs) -> Option<Self> {
        let (tgid, _) = current_ids();
        let process = Selected::find(tgid)?;
        let source = process.unit_source(tgid);
        // SAFETY: a live value of the map, which other CPUs may write; the context of a uprobe.
        let (kind, words, (g, _)) = unsafe {
            (core::ptr::read_volatile(&raw const (*source).kind), &(*source).words, arch::goroutine(registers))
        };
        if kind != unit::GOROUTINE {
            return None;
        }
        let [id, _] = go::id(words, g)?;
        Some(Self { tgid, process, g, id })
    }

    /// The goroutine that started it. `None` before Go 1.21.
    #[inline(always)]
    fn starter(&self) -> Option<u64> {
        let source = self.process.unit_source(self.tgid);
        // SAFETY: a live value of the map.
        let offset = unsafe { (*source).words[unit::go::PARENT_GOID] };
        if offset == 0 { None } else { user::word::<u64>(self.g.wrapping_add(offset)) }
    }
}

/// Notes a request that `unit` reads as stream `number`: for the goroutine that will handle it, or for Node, which makes an object of the
/// stream later.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub fn request_read(process: Selected, stream: Stream, tgid: u32, number: u32, unit: Unit) {
    let Some(thread) = thread::state(Task::current()) else { return };
    let reader = match unit.kind {
        unit::GOROUTINE => connection_of(process, stream, tgid, unit.words[0]),
        unit::ASYNC_ID => u64::from(thread.event_loop().thread()),
        _ => return,
    };
    // The tick is only a place for the value, which the stack has no room for. In a Go program it is no evidence, and what reads
    // frames clears it.
    thread.tick().set(stream.cookie(), stream.message_position(), stream.message(), evidence::NONE);
    let key = StreamKey { tgid, number, unit: reader };
    // SAFETY: a live value. If the kernel has no room, it forgets another stream, whose calls then have no owner.
    let _ = unsafe { STREAMS.insert(key, &*thread.tick().as_ptr(), 0) };
}

/// The goroutine of a server's connection, from which `reader` reads. It reads the first bytes itself, and starts the one that reads
/// frames.
#[inline(always)]
fn connection_of(process: Selected, stream: Stream, tgid: u32, reader: u64) -> u64 {
    if stream.writer() == reader {
        return reader;
    }
    // Before Go 1.21 the starter is unknown. A reader of grpc-go finds its own requests.
    go::starter(process.unit_source(tgid), Task::current()).unwrap_or(reader)
}

/// A goroutine begins to handle the request of the stream of the `responseWriter` of net/http that is the function's second
/// argument.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
pub unsafe fn handled_by_net_http(registers: *const pt_regs) {
    // SAFETY: the context of a uprobe.
    let (goroutine, [_, writer, ..]) = unsafe { (Goroutine::running(registers), arch::go_arguments(registers)) };
    let Some(goroutine) = goroutine else { return };
    if let (Some(number), Some(starter)) = (number_in_net_http(writer), goroutine.starter()) {
        begins_to_handle(&goroutine, number, starter);
    }
}

/// The same for the `Stream` or `ServerStream` of grpc-go that is the fourth word of the function's arguments. The third is the
/// address of the transport.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
pub unsafe fn handled_by_grpc(registers: *const pt_regs) {
    // SAFETY: the context of a uprobe.
    let (goroutine, [_, _, transport, stream]) =
        unsafe { (Goroutine::running(registers), arch::go_arguments(registers)) };
    let Some(goroutine) = goroutine else { return };
    if let Some(number) = number_in_grpc(stream) {
        begins_to_handle(&goroutine, number, transport);
    }
}

/// The request was noted with `unit`.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
fn begins_to_handle(goroutine: &Goroutine, number: u32, unit: u64) {
    let tgid = goroutine.tgid;
    let key = StreamKey { tgid, number, unit };
    let Some(request) = STREAMS.get_ptr_mut(key) else { return };
    // SAFETY: a live value of the map. The goroutine reads no other request.
    let _ = unsafe { UNITS.insert(UnitKey { tgid, kind: unit::GOROUTINE, id: goroutine.id }, &*request, 0) };
    let _ = STREAMS.remove(key);
}

/// The goroutine that reads from a connection of grpc-go's server begins a stream. The function's first argument is the transport. The
/// frame with the header fields is the second, and since 1.61 the third, behind a context, which has two words.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub unsafe fn begun_by_grpc(registers: *const pt_regs) {
    // SAFETY: the context of a uprobe.
    let (goroutine, [transport, frame, _, later]) =
        unsafe { (Goroutine::running(registers), arch::go_arguments(registers)) };
    let Some(goroutine) = goroutine else { return };
    let Some(number) = number_in_frame(frame).or_else(|| number_in_frame(later)) else { return };
    let Some(thread) = thread::state(Task::current()) else { return };
    let key = StreamKey { tgid: goroutine.tgid, number, unit: goroutine.id };
    // The goroutine that accepted the connection, and started this one, reads the preface and what comes with it.
    let accepted = StreamKey { unit: goroutine.starter().unwrap_or(0), ..key };
    let Some(request) = STREAMS.get_ptr_mut(key).or_else(|| STREAMS.get_ptr_mut(accepted)) else { return };
    // SAFETY: live values. The tick is only a place for the value, as in `request_read`: the kernel may reuse that of the map.
    let _ = unsafe {
        thread.tick().copy(SharedOwner::within(request));
        STREAMS.insert(StreamKey { unit: transport, ..key }, &*thread.tick().as_ptr(), 0)
    };
    thread.tick().clear();
    let _ = STREAMS.remove(key);
    let _ = STREAMS.remove(accepted);
}

/// The number of the stream of a `MetaHeadersFrame` of golang.org/x/net. Its first member points to a `HeadersFrame`, which begins with
/// a `FrameHeader`: whether its bytes may be read (a boolean), its type, flags, length, and the stream.
#[inline(always)]
fn number_in_frame(frame: u64) -> Option<u32> {
    /// The type, and the boolean without its value.
    const HEADERS: u32 = 0x0100;
    let [begin, _, number] = user::peek::<[u32; 3]>(user::peek::<u64>(frame)?)?;
    if begin & 0xfffe == HEADERS && number & 1 == 1 { Some(number) } else { None }
}

/// The number of the stream of a `responseWriter`. Its first member points to a `responseWriterState`, whose first member points to
/// the `stream`. That has its number behind a pointer. So it has been since Go 1.6.
#[inline(always)]
fn number_in_net_http(writer: u64) -> Option<u32> {
    let state = user::peek::<u64>(writer)?;
    let stream = user::peek::<u64>(state)?;
    user::peek::<u32>(stream.wrapping_add(8))
}

/// The number of a stream of grpc-go. It is
/// - the first member of a `Stream` (1.50 to 1.68),
/// - the first member of the `Stream` that the first member of a `ServerStream` points to (1.71 to 1.76), or
/// - behind other members of the `Stream` that a `ServerStream` begins with (1.78 to 1.83). Its first word then points to a table
///   whose first word is an aligned address.
///
/// A client's streams have odd numbers (RFC 9113 5.1.1), and pointers are even.
#[inline(always)]
fn number_in_grpc(stream: u64) -> Option<u32> {
    const NUMBER: u64 = 108;
    let is_number = |number: u64| number & 1 == 1 && number <= u64::from(u32::MAX);
    let mut number = user::peek::<u64>(stream)?;
    if !is_number(number) {
        number = u64::from(user::peek::<u32>(number)?);
    }
    if !is_number(number) {
        number = u64::from(user::peek::<u32>(stream.wrapping_add(NUMBER))?);
    }
    if is_number(number) { Some(number as u32) } else { None }
}

/// The running goroutine has built the list of header fields of a call of grpc-go. The list is the function's result.
///
/// # Safety
/// `registers` must be the context of a uprobe at a return instruction of a Go function.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub unsafe fn call_built(registers: *const pt_regs) {
    // SAFETY: the context of a uprobe.
    let (goroutine, fields) = unsafe { (Goroutine::running(registers), arch::result(registers)) };
    let Some(Goroutine { tgid, id, .. }) = goroutine else { return };
    if fields == 0 {
        // It failed.
        return;
    }
    let key = UnitKey { tgid, kind: unit::GRPC_CALL, id: fields };
    let owner = units::open_request_of(tgid, Unit { kind: unit::GOROUTINE, words: [id, 0] });
    let _ = match owner {
        // SAFETY: a live value of the map.
        Some((owner, _)) => UNITS.insert(key, unsafe { &*owner.as_ptr() }, 0),
        // The call is for no request, even if the connection was opened for one.
        None => UNITS.insert(key, Owner::default(), 0),
    };
}

/// The goroutine that writes for a connection of grpc-go takes header fields of a stream. The second argument of the function
/// begins with the number of the stream and the list.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub unsafe fn call_taken(registers: *const pt_regs) {
    // SAFETY: the context of a uprobe.
    let (goroutine, [_, headers, ..]) = unsafe { (Goroutine::running(registers), arch::go_arguments(registers)) };
    let Some(Goroutine { tgid, id, .. }) = goroutine else { return };
    let Some([number, fields]) = user::peek::<[u64; 2]>(headers) else { return };
    let key = UnitKey { tgid, kind: unit::GRPC_CALL, id: fields };
    // A server's response is in no list of a call.
    let Some(owner) = UNITS.get_ptr_mut(key) else { return };
    let stream = StreamKey { tgid, number: number as u32, unit: id };
    // SAFETY: a live value of the map.
    let _ = unsafe { STREAMS.insert(stream, &*owner, 0) };
    let _ = UNITS.remove(key);
}

/// A goroutine, or a session of Node, sends a request as stream `number`. `None` unless it took that from another unit of work.
/// Otherwise whether the call has an owner, which is copied to `into`.
#[inline(always)]
pub fn take_call(tgid: u32, number: u32, sender: Unit, into: SharedOwner) -> Option<bool> {
    let key = StreamKey { tgid, number, unit: sender.words[0] };
    // SAFETY: a live value of the map. Only this unit sends the stream.
    let owner = unsafe { SharedOwner::within(STREAMS.get_ptr_mut(key)?) };
    let open = is_open(owner);
    if open {
        into.copy_with_evidence(
            owner,
            if sender.kind == unit::GOROUTINE { evidence::GOROUTINE } else { owner.evidence() },
        );
    }
    // Node asks again, when frames of the stream are read.
    if sender.kind == unit::GOROUTINE {
        let _ = STREAMS.remove(key);
    }
    Some(open)
}
