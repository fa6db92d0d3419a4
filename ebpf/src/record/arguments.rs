//! What the running system call was given, from the registers that the task saved when it entered the kernel.
//!
//! `system_call_bytes` is a global function: the verifier checks it once, by itself. It has so many outcomes that a program
//! into which it was inlined took three times as long to verify.

use onlooker_common::losses::Loss;
use onlooker_common::selection::{SelectedProcess, process_flag};

use crate::arch::processor as arch;
use crate::kernel::task::Task;
use crate::maps::count;
use crate::selected::Selected;
use crate::user;

/// Where the bytes of an operation are in user memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    /// Address of the buffer, or of the first iovec; 0 if unknown.
    pub at: u64,
    /// Number of iovecs; 0 for one buffer.
    pub buffers: u64,
}

impl Bytes {
    pub const NOWHERE: Self = Self { at: 0, buffers: 0 };

    #[inline(always)]
    pub fn is_nowhere(self) -> bool {
        self.at == 0
    }

    #[inline(always)]
    pub fn buffer(at: u64) -> Self {
        Self { at, buffers: 0 }
    }

    #[inline(always)]
    fn vector(at: u64, buffers: u64) -> Self {
        if buffers == 0 { Self::NOWHERE } else { Self { at, buffers } }
    }
}

/// Where an operation's bytes are found. That takes time, so it is done only if some are wanted.
pub trait Source: Copy {
    fn bytes(self) -> Bytes;

    /// The same, if it may be asked for once more. If the bytes are unknown, that is not counted.
    fn peek(self) -> Bytes {
        self.bytes()
    }
}

/// The system call that the current task is in.
#[derive(Clone, Copy)]
pub struct SystemCall {
    pub process: Selected,
    /// The operation discarded its bytes, as a read with MSG_TRUNC does.
    pub is_discarded: bool,
}

impl Source for SystemCall {
    #[inline(always)]
    fn bytes(self) -> Bytes {
        self.find(1)
    }

    #[inline(always)]
    fn peek(self) -> Bytes {
        self.find(0)
    }
}

impl SystemCall {
    #[inline(always)]
    fn find(self, counts: u32) -> Bytes {
        let mut bytes = Bytes::NOWHERE;
        if !self.is_discarded {
            system_call_bytes(self.process.as_ptr(), &raw mut bytes, counts);
        }
        bytes
    }
}

/// Writes to `into` where the bytes of the current task's system call are. `counts`: 1 if it counts that they are unknown. The result means nothing: a global function must
/// have one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn system_call_bytes(process: *mut SelectedProcess, into: *mut Bytes, counts: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    if let Some(process) = unsafe { Selected::new(process) }
        && !into.is_null()
    {
        // SAFETY: as above.
        unsafe { into.write(of_system_call(process, Task::current(), counts != 0)) };
    }
    0
}

/// Where the bytes of the current task's system call are. What does not show is not counted.
#[inline(always)]
pub fn look(task: Task) -> Bytes {
    if arch::is_compat(task.thread_info_status()) || task.is_io_worker() {
        return Bytes::NOWHERE;
    }
    // SAFETY: the registers are those of the current task.
    let Some((number, [_, second, third])) = (unsafe { arch::system_call(task.registers()) }) else {
        return Bytes::NOWHERE;
    };
    match number {
        arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => Bytes::buffer(second),
        arch::READV | arch::WRITEV | arch::PREADV2 | arch::PWRITEV2 => Bytes::vector(second, third),
        arch::SENDMSG | arch::RECVMSG => {
            user::peek_message_header(second).map_or(Bytes::NOWHERE, |(iovecs, count)| Bytes::vector(iovecs, count))
        }
        _ => Bytes::NOWHERE,
    }
}

#[inline(always)]
fn of_system_call(process: Selected, task: Task, counts: bool) -> Bytes {
    let unknown = |loss| {
        if counts {
            count(loss);
        }
        Bytes::NOWHERE
    };
    if arch::is_compat(task.thread_info_status()) {
        return unknown(Loss::CompatSyscall);
    }
    // SAFETY: the registers are those of the current task.
    let call = unsafe { arch::system_call(task.registers()) };
    let call = call.filter(|&(number, _)| number != arch::IO_URING_ENTER && !task.is_io_worker());
    let Some((number, [_, second, third])) = call else {
        // `io_uring` does what it was asked for earlier: in a worker, or when a task enters or leaves the kernel for
        // something else. Either way the thread is not the unit of work.
        process.set(process_flag::LOOP | process_flag::SCHEDULER);
        return unknown(Loss::LengthOnly);
    };
    match number {
        arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => Bytes::buffer(second),
        arch::READV | arch::WRITEV | arch::PREADV2 | arch::PWRITEV2 => Bytes::vector(second, third),
        arch::SENDMSG | arch::RECVMSG => match user::message_header(second) {
            Some((iovecs, count)) => Bytes::vector(iovecs, count),
            None => Bytes::NOWHERE,
        },
        arch::SENDMMSG | arch::RECVMMSG => {
            // The call's messages pass one by one, and nothing shows which one this is.
            unknown(Loss::MultipleMessages)
        }
        _ => unknown(Loss::LengthOnly),
    }
}
