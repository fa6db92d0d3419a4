//! The calls of TLS libraries that threads are in.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::selection::process_flag;

use super::objects;
use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::record::plaintext;
use crate::selected::Selected;
use crate::state::stream::Direction;
use crate::state::tls::{Call, call};
use crate::user;
use crate::work::owner::Worker;
use crate::work::units::thread;

/// The arguments of a call, as far as they matter. See [`Call`].
#[derive(Clone, Copy)]
pub struct Arguments {
    pub what: u32,
    pub object: u64,
    pub buffer: u64,
    pub result_at: u64,
}

/// The current thread begins a call.
///
/// # Safety
/// `registers` must be the context of a uprobe at the beginning of the function.
#[inline(always)]
pub unsafe fn begins(registers: *const pt_regs, arguments: Arguments) {
    let (tgid, _) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    process.set(process_flag::TLS);
    let Some(thread) = thread::state(Task::current()) else { return };
    // SAFETY: the caller's promise.
    let stack_pointer = unsafe { arch::stack_pointer(registers) };
    let call = thread.tls_call();
    // A call that the thread is no longer in did not return in the usual way.
    if call.contains(stack_pointer) {
        thread.tls_outer_call().copy(call);
    } else {
        thread.tls_outer_call().set_stack_pointer(0);
    }
    call.set_object(arguments.object);
    call.set_buffer(arguments.buffer);
    call.set_result_at(arguments.result_at);
    call.set_stack_pointer(stack_pointer);
    call.set_what(arguments.what);
    // SAFETY: no arguments.
    call.set_began(unsafe { bpf_ktime_get_ns() });
    if arguments.what != call::CREATE {
        // A handshake comes before all plaintext. The socket may become known within the call.
        let _ = objects::of(tgid, arguments.object, arguments.what == call::HANDSHAKE);
    }
}

/// The current thread returns from a call with `result`.
///
/// # Safety
/// `registers` must be the context of a uprobe at the return instruction, or at the return, of the function.
#[inline(always)]
pub unsafe fn returns(registers: *const pt_regs, result: u64) {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let task = Task::current();
    let Some(thread) = thread::known(task) else { return };
    // SAFETY: the caller's promise.
    let stack_pointer = unsafe { arch::stack_pointer(registers) };
    let (call, outer) = (thread.tls_call(), thread.tls_outer_call());
    if !call.returns_at(stack_pointer) {
        return;
    }
    let (what, object, buffer, result_at, began) =
        (call.what(), call.object(), call.buffer(), call.result_at(), call.began());
    // The function may have called itself under another name.
    let is_part = outer.contains(0) && outer.object() == object && outer.what() == what;
    call.copy(outer);
    outer.set_stack_pointer(0);
    if is_part {
        return;
    }
    let direction = match what {
        call::READ => Direction::Ingress,
        call::WRITE => Direction::Egress,
        call::CREATE => {
            let object = if result_at == 0 { Some(result) } else { user::peek::<u64>(result_at) };
            if let Some(object) = object.filter(|&object| object != 0) {
                objects::create(tgid, object, true);
            }
            return;
        }
        _ => return,
    };
    let length = match result_at {
        0 => i64::from(result as i32),
        _ if result as i32 == 1 => user::peek::<u64>(result_at).unwrap_or(0).cast_signed(),
        _ => 0,
    };
    if length <= 0 || length > i64::from(i32::MAX) {
        return;
    }
    if let Some(plaintext) = objects::known(tgid, object) {
        let worker = Worker { process, task, tgid, tid };
        plaintext::record(worker, plaintext, direction, length as u32, buffer, began);
    }
}

/// The object of the call that the current thread is in while it executes a system call.
#[inline(always)]
pub fn current_object(task: Task) -> Option<u64> {
    let thread = thread::known(task)?;
    // SAFETY: the registers are those of the current task.
    let stack_pointer = unsafe { arch::stack_pointer(task.registers()) };
    let call: Call = thread.tls_call();
    call.contains(stack_pointer).then(|| call.object())
}
