//! What the running system call was given, read from the registers that the task saved on entering the kernel.
//!
//! One accessor per architecture: everything else is the same.

use onlooker_common::loss::Loss;

use crate::kernel::Task;
use crate::maps::count;
use crate::user;

/// Where the bytes of an operation are in user memory.
#[derive(Clone, Copy)]
pub enum Bytes {
    /// Not to be known.
    Nowhere,
    /// One buffer.
    Buffer(u64),
    /// `count` iovecs.
    Vector { iovecs: u64, count: u64 },
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

    #[inline(always)]
    pub fn call(task: Task) -> Call {
        let registers = task.registers();
        // SAFETY: typed by the helper; the members are those of the x86-64 pt_regs, which is part of the ABI.
        unsafe {
            Call { number: (*registers).orig_rax, arguments: [(*registers).rdi, (*registers).rsi, (*registers).rdx] }
        }
    }
}

/// Finds the bytes of the socket operation that the current task is in.
#[inline(always)]
pub fn bytes(task: Task) -> Bytes {
    if task.in_compat_syscall() {
        count(Loss::CompatSyscall);
        return Bytes::Nowhere;
    }
    if task.is_io_worker() {
        count(Loss::LengthOnly);
        return Bytes::Nowhere;
    }
    let call = arch::call(task);
    let [_, second, third] = call.arguments;
    match call.number {
        arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => Bytes::Buffer(second),
        arch::READV | arch::WRITEV | arch::PREADV2 | arch::PWRITEV2 => Bytes::Vector { iovecs: second, count: third },
        arch::SENDMSG | arch::RECVMSG => match user::message_header(second) {
            Some((iovecs, count)) => Bytes::Vector { iovecs, count },
            None => Bytes::Nowhere,
        },
        arch::SENDMMSG | arch::RECVMMSG => {
            // The call's messages come one by one, and which one this is can't be told.
            count(Loss::MultipleMessages);
            Bytes::Nowhere
        }
        _ => {
            count(Loss::LengthOnly);
            Bytes::Nowhere
        }
    }
}
