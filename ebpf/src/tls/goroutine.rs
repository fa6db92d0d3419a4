//! The calls of Go's crypto/tls. They belong to goroutines: a goroutine may leave its thread in a call, and others use the thread.

use aya_ebpf::bindings::pt_regs;
use onlooker_common::connection::role;
use onlooker_common::selection::process_flag;

use super::call::{Arguments, Calls};
use super::objects;
use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::{TLS_GOROUTINES, TLS_NEW_GOROUTINE};
use crate::record::arguments::Bytes;
use crate::record::plaintext as record;
use crate::selected::Selected;
use crate::state::stream::Direction;
use crate::state::tls::{Call, ObjectKey, Plaintext, call};
use crate::user;
use crate::work::owner::Worker;

/// The running goroutine begins a call that moves plaintext: `(*Conn).Read` or `(*Conn).Write`.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
pub unsafe fn begins(registers: *const pt_regs, what: u32) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    process.set(process_flag::TLS | process_flag::TLS_GOROUTINES);
    // SAFETY: the caller's promise.
    let (goroutine, [object, buffer, length, _]) =
        unsafe { (Goroutine::running(registers, tgid), arch::go_arguments(registers)) };
    let Some(calls) = goroutine.and_then(Goroutine::calls_or_new) else { return };
    let call = calls.latest;
    // Go executes the beginning of a function again after it has made the stack larger.
    if call.stack_pointer() == calls.stack_pointer && call.object() == object && call.buffer() == buffer {
        return;
    }
    calls.begins(Arguments { what, object, buffer, result_at: 0, by_signature: false });
    // The socket may become known within the call.
    let Some(plaintext) = objects::of(tgid, object, false) else { return };
    if what == call::WRITE && length > 0 && length <= i32::MAX as u64 {
        write_begins(process, call, plaintext, length as u32);
    }
}

/// Another goroutine may read the answer before this one returns from its write. So what may be a request is recorded as it begins.
/// A server's responses are not: the time at which their last write returns is their end. They take their place in the stream.
#[inline(always)]
fn write_begins(process: Selected, call: Call, plaintext: Plaintext, length: u32) {
    if plaintext.stream().role() == role::SERVER {
        call.set_taken(record::take_place(plaintext, length) + 1);
        return;
    }
    call.set_what(call::RECORDED);
    let (tgid, tid) = current_ids();
    let (direction, bytes, began) = (Direction::Egress, Bytes::buffer(call.buffer()), call.began());
    let worker = Worker { process, task: Task::current(), tgid, tid };
    record::record(worker, plaintext, record::Call { direction, length, bytes, began, position: None, record: 0 });
}

/// The running goroutine returns from such a call. The call may have begun before it was observed: a server waits in a read.
///
/// # Safety
/// `registers` must be the context of a uprobe at a return instruction of a Go function.
#[inline(always)]
pub unsafe fn returns(registers: *const pt_regs, what: u32) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    // SAFETY: the caller's promise.
    let (goroutine, result) = unsafe { (Goroutine::running(registers, tgid), arch::result(registers)) };
    let Some(goroutine) = goroutine else { return };
    if goroutine.calls().is_none() {
        // SAFETY: the caller's promise.
        let stack_pointer = unsafe { arch::stack_pointer(registers) };
        let _ = goroutine.began_before(stack_pointer, what, result);
    }
    if let Some(calls) = goroutine.calls() {
        calls.returns(process, result);
    }
}

/// The running goroutine begins the handshake of a connection, as a client or as a server. Whatever was known of a connection at
/// this address is over: Go gives memory of ended connections to others.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of a Go function.
#[inline(always)]
pub unsafe fn handshake(registers: *const pt_regs, role: u8) {
    let (tgid, _) = current_ids();
    if Selected::find(tgid).is_none() {
        return;
    }
    // SAFETY: the caller's promise.
    let [object, ..] = unsafe { arch::go_arguments(registers) };
    objects::create(tgid, object, true);
    objects::set_role(tgid, object, role);
}

/// The call that the running goroutine is in.
///
/// # Safety
/// `registers` must be what `bpf_task_pt_regs` returned in the running program.
#[inline(always)]
pub unsafe fn current_call(registers: *const pt_regs, tgid: u32) -> Option<Call> {
    // SAFETY: the caller's promise.
    let goroutine = unsafe { Goroutine::running(registers, tgid) };
    goroutine?.calls()?.current()
}

/// A goroutine that runs.
#[derive(Clone, Copy)]
struct Goroutine {
    key: ObjectKey,
    /// Relative to the end of its stack. The stack may be moved while the goroutine is in a call; the end moves with it.
    stack_pointer: u64,
}

impl Goroutine {
    /// # Safety
    /// `registers` must be the context of a uprobe, or what `bpf_task_pt_regs` returned in the running program.
    #[inline(always)]
    unsafe fn running(registers: *const pt_regs, tgid: u32) -> Option<Self> {
        // SAFETY: the caller's promise.
        let (g, stack_pointer) = unsafe { arch::goroutine(registers) };
        // C code uses the register of the goroutine for something else. The first two words of a `g` are the bounds of its stack.
        let [low, high] = user::peek::<[u64; 2]>(g)?;
        if stack_pointer <= low || stack_pointer >= high {
            return None;
        }
        let key = ObjectKey { object: g, tgid, pad: 0 };
        Some(Self { key, stack_pointer: stack_pointer.wrapping_sub(high) })
    }

    #[inline(always)]
    fn calls(self) -> Option<Calls> {
        let calls = TLS_GOROUTINES.get_ptr_mut(self.key)?.cast();
        // SAFETY: a live value of the map, which is two calls. Only the goroutine itself uses it. If the map is full, its place
        // may be given to another: see `objects::known`.
        let (latest, outer) = unsafe { (Call::within(calls), Call::within(calls.add(1))) };
        Some(Calls { latest, outer, stack_pointer: self.stack_pointer })
    }

    /// Notes a call whose beginning was not seen, as it returns. Its arguments are where Go keeps those that a function needs again
    /// after it called others: above the return address, in order (Go's ABI specification, spill area).
    #[inline(always)]
    fn began_before(self, stack_pointer: u64, what: u32, result: u64) -> Option<()> {
        const ARGUMENTS: u64 = 8;
        let [object, buffer, length] = user::peek::<[u64; 3]>(stack_pointer.wrapping_add(ARGUMENTS))?;
        let moved = result.cast_signed() > 0 && result <= length;
        if !moved || object == 0 || object % 8 != 0 {
            return None;
        }
        self.calls_or_new()?.begins(Arguments { what, object, buffer, result_at: 0, by_signature: false });
        let _ = objects::of(self.key.tgid, object, false);
        Some(())
    }

    #[inline(always)]
    fn calls_or_new(self) -> Option<Calls> {
        if let Some(calls) = self.calls() {
            return Some(calls);
        }
        // By reference: by value, the calls would go over the stack.
        // SAFETY: a live value of a map that no program writes.
        TLS_GOROUTINES.insert(self.key, unsafe { &*TLS_NEW_GOROUTINE.get_ptr(0)? }, 0).ok()?;
        self.calls()
    }
}
