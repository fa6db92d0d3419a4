//! The calls of TLS libraries that threads and goroutines are in.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::losses::Loss;
use onlooker_common::selection::process_flag;

use super::objects;
use crate::arch::processor as arch;
use crate::kernel::task::{Task, current_ids};
use crate::maps::count;
use crate::record::arguments::Bytes;
use crate::record::plaintext;
use crate::selected::Selected;
use crate::state::stream::Direction;
use crate::state::thread::Thread;
use crate::state::tls::{Call, RECORD_UNSEEN, call};
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
    /// The function was found by its code, and may be another one.
    pub by_signature: bool,
}

/// The calls that a thread or goroutine is in: the latest, and the one around it.
#[derive(Clone, Copy)]
pub struct Calls {
    pub latest: Call,
    pub outer: Call,
    /// Its stack pointer, of the same kind as that of the calls.
    pub stack_pointer: u64,
}

impl Calls {
    #[inline(always)]
    pub fn of_thread(thread: Thread, stack_pointer: u64) -> Self {
        Self { latest: thread.tls_call(), outer: thread.tls_outer_call(), stack_pointer }
    }

    /// A call begins.
    #[inline(always)]
    pub fn begins(self, arguments: Arguments) {
        let Self { latest: call, outer, stack_pointer } = self;
        // A call that did not return in the usual way is over.
        if call.contains(stack_pointer) {
            outer.copy(call);
        } else {
            outer.set_stack_pointer(0);
        }
        call.set_object(arguments.object);
        call.set_buffer(arguments.buffer);
        call.set_result_at(arguments.result_at);
        call.set_taken(0);
        call.set_stack_pointer(stack_pointer);
        call.set_what(arguments.what);
        call.set_by_signature(u32::from(arguments.by_signature));
        call.set_record(0);
        // SAFETY: no arguments.
        call.set_began(unsafe { bpf_ktime_get_ns() });
    }

    /// The latest call returns with `result`. Records what it moved.
    #[inline(always)]
    pub fn returns(self, process: Selected, result: u64) {
        let (tgid, tid) = current_ids();
        let Self { latest: call, outer, stack_pointer } = self;
        if !call.returns_at(stack_pointer) {
            return;
        }
        let (what, object, buffer, result_at, began) =
            (call.what(), call.object(), call.buffer(), call.result_at(), call.began());
        let position = call.taken().checked_sub(1);
        let (by_signature, record) = (call.by_signature() != 0, call.record());
        // The function may have called itself under another name.
        let is_part = outer.contains(0) && outer.object() == object && outer.what() == what;
        call.copy(outer);
        outer.set_stack_pointer(0);
        if is_part {
            if call.record() == 0 {
                call.set_record(record);
            }
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
            if by_signature && !process.has(process_flag::TLS_PROVEN) {
                if plaintext.socket_cookie() == 0 {
                    return count(Loss::PlaintextUnproven);
                }
                process.set(process_flag::TLS_PROVEN);
            }
            let worker = Worker { process, task: Task::current(), tgid, tid };
            let length = length as u32;
            let record = if record == RECORD_UNSEEN { 0 } else { record };
            plaintext::record(
                worker,
                plaintext,
                plaintext::Call { direction, length, bytes: Bytes::buffer(buffer), began, position, record },
            );
        }
    }

    /// The latest call, if it has not returned.
    #[inline(always)]
    pub fn current(self) -> Option<Call> {
        self.latest.contains(self.stack_pointer).then_some(self.latest)
    }
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
    Calls::of_thread(thread, unsafe { arch::stack_pointer(registers) }).begins(arguments);
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
    let Some(process) = Selected::find(current_ids().0) else { return };
    let Some(thread) = thread::known(Task::current()) else { return };
    // SAFETY: the caller's promise.
    Calls::of_thread(thread, unsafe { arch::stack_pointer(registers) }).returns(process, result);
}
