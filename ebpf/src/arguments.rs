//! What the running system call was given, read from the registers that the task saved on entering the kernel.
//!
//! What differs between architectures is in `arch`: the numbers of system calls, the registers, and how a 32-bit call shows.

use onlooker_common::loss::Loss;
use onlooker_common::process::process_flag;

use crate::kernel::Task;
use crate::maps::count;
use crate::process::Selected;
use crate::user;

/// Where the bytes of an operation are in user memory.
#[derive(Clone, Copy)]
pub struct Bytes {
    /// Where the buffer is, or the first iovec; 0 if that is not to be known.
    pub at: u64,
    /// How many iovecs there are; 0 for one buffer.
    pub buffers: u64,
}

impl Bytes {
    pub const NOWHERE: Self = Self { at: 0, buffers: 0 };

    #[inline(always)]
    pub fn is_nowhere(self) -> bool {
        self.at == 0
    }

    #[inline(always)]
    fn buffer(at: u64) -> Self {
        Self { at, buffers: 0 }
    }

    #[inline(always)]
    fn vector(at: u64, buffers: u64) -> Self {
        if buffers == 0 { Self::NOWHERE } else { Self { at, buffers } }
    }
}

/// A system call: its number and first three arguments.
struct Call {
    number: u64,
    arguments: [u64; 3],
}

#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    use super::{Call, Task};

    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const READV: u64 = 19;
    pub const WRITEV: u64 = 20;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const RECVMMSG: u64 = 299;
    pub const SENDMMSG: u64 = 307;
    pub const PREADV2: u64 = 327;
    pub const PWRITEV2: u64 = 328;
    pub const IO_URING_ENTER: u64 = 426;

    /// arch/x86/include/asm/thread_info.h
    const TS_COMPAT: u32 = 2;

    /// Whether the system call was made in 32-bit mode.
    #[inline(always)]
    pub fn is_compat(task: Task) -> bool {
        task.thread_info_status().is_some_and(|status| status & TS_COMPAT != 0)
    }

    /// The system call that the task is in; none if it is on its way out of one, or in none.
    #[inline(always)]
    pub fn call(task: Task) -> Option<Call> {
        const ENOSYS: i64 = 38;
        let registers = task.registers();
        // SAFETY: typed by the helper; the members are those of the x86-64 pt_regs, which is part of the ABI.
        unsafe {
            // Where the result will be stands this until it is known.
            if (*registers).rax.cast_signed() != -ENOSYS {
                return None;
            }
            let arguments = [(*registers).rdi, (*registers).rsi, (*registers).rdx];
            Some(Call { number: (*registers).orig_rax, arguments })
        }
    }
}

/// Finds the bytes of the socket operation that the current task is in.
#[inline(always)]
pub fn bytes(process: Selected, task: Task) -> Bytes {
    if arch::is_compat(task) {
        count(Loss::CompatSyscall);
        return Bytes::NOWHERE;
    }
    let call = arch::call(task).filter(|call| call.number != arch::IO_URING_ENTER && !task.is_io_worker());
    let Some(call) = call else {
        // `io_uring` does what it was asked for before: by a worker of its own, or as the task enters or leaves the kernel for
        // whatever else. Whichever thread that is, none stays with its request.
        process.set(process_flag::LOOP | process_flag::SCHEDULER);
        count(Loss::LengthOnly);
        return Bytes::NOWHERE;
    };
    let [_, second, third] = call.arguments;
    match call.number {
        arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => Bytes::buffer(second),
        arch::READV | arch::WRITEV | arch::PREADV2 | arch::PWRITEV2 => Bytes::vector(second, third),
        arch::SENDMSG | arch::RECVMSG => match user::message_header(second) {
            Some((iovecs, count)) => Bytes::vector(iovecs, count),
            None => Bytes::NOWHERE,
        },
        arch::SENDMMSG | arch::RECVMMSG => {
            // The call's messages come one by one, and which one this is can't be told.
            count(Loss::MultipleMessages);
            Bytes::NOWHERE
        }
        _ => {
            count(Loss::LengthOnly);
            Bytes::NOWHERE
        }
    }
}
