//! x86-64.

use aya_ebpf::bindings::pt_regs;
use core::ptr;

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

/// Whether a system call was made in 32-bit mode, by the task's `thread_info.status`.
#[inline(always)]
pub fn is_compat(thread_info_status: Option<u32>) -> bool {
    thread_info_status.is_some_and(|status| status & TS_COMPAT != 0)
}

/// Number and first three arguments of the system call that a task is in. `None` if it is leaving one, or in none.
///
/// # Safety
/// `registers` must be what `bpf_task_pt_regs` returned in the running program.
#[inline(always)]
pub unsafe fn system_call(registers: *const pt_regs) -> Option<(u64, [u64; 3])> {
    const ENOSYS: i64 = 38;
    // SAFETY: the members of x86-64's pt_regs, which is part of the ABI.
    unsafe {
        // The register for the result holds this value until the result is known.
        if (*registers).rax.cast_signed() != -ENOSYS {
            return None;
        }
        Some(((*registers).orig_rax, [(*registers).rdi, (*registers).rsi, (*registers).rdx]))
    }
}

/// What holds the running `g` in Go's code (`REGISTER_ABI` in Go's ABI specification), and the stack pointer.
///
/// # Safety
/// `registers` must be what `bpf_task_pt_regs` returned in the running program, or the context of a uprobe.
#[inline(always)]
pub unsafe fn goroutine(registers: *const pt_regs) -> (u64, u64) {
    // SAFETY: members of x86-64's pt_regs, which is part of the ABI.
    unsafe { ((*registers).r14, (*registers).rsp) }
}

/// The result of a function that returns.
///
/// # Safety
/// `registers` must be the context of a uprobe.
#[inline(always)]
pub unsafe fn result(registers: *const pt_regs) -> u64 {
    // SAFETY: a member of x86-64's pt_regs, which is part of the ABI.
    unsafe { (*registers).rax }
}

/// The stack pointer.
///
/// # Safety
/// `registers` must be what `bpf_task_pt_regs` returned in the running program, or the context of a uprobe.
#[inline(always)]
pub unsafe fn stack_pointer(registers: *const pt_regs) -> u64 {
    // SAFETY: a member of x86-64's pt_regs, which is part of the ABI.
    unsafe { (*registers).rsp }
}

/// The first five integer arguments of a C function that begins. All are read: the verifier does not allow a choice of which.
///
/// # Safety
/// `registers` must be the context of a uprobe.
#[inline(always)]
pub unsafe fn arguments(registers: *const pt_regs) -> [u64; 5] {
    // SAFETY: members of x86-64's pt_regs, which is part of the ABI.
    unsafe {
        [
            ptr::read_volatile(&raw const (*registers).rdi),
            ptr::read_volatile(&raw const (*registers).rsi),
            ptr::read_volatile(&raw const (*registers).rdx),
            ptr::read_volatile(&raw const (*registers).rcx),
            ptr::read_volatile(&raw const (*registers).r8),
        ]
    }
}

/// The registers that a function preserves for its caller.
///
/// # Safety
/// `registers` must be the context of a uprobe.
#[inline(always)]
pub unsafe fn preserved(registers: *const pt_regs) -> [u64; 6] {
    // SAFETY: members of x86-64's pt_regs, which is part of the ABI.
    unsafe {
        [
            ptr::read_volatile(&raw const (*registers).rbx),
            ptr::read_volatile(&raw const (*registers).rbp),
            ptr::read_volatile(&raw const (*registers).r12),
            ptr::read_volatile(&raw const (*registers).r13),
            ptr::read_volatile(&raw const (*registers).r14),
            ptr::read_volatile(&raw const (*registers).r15),
        ]
    }
}

/// The first integer argument of a Go function that begins.
///
/// # Safety
/// `registers` must be the context of a uprobe.
#[inline(always)]
pub unsafe fn first_go_argument(registers: *const pt_regs) -> u64 {
    // SAFETY: a member of x86-64's pt_regs, which is part of the ABI.
    unsafe { (*registers).rax }
}

/// The first four words of the arguments of a Go function that begins.
///
/// # Safety
/// `registers` must be the context of a uprobe.
#[inline(always)]
pub unsafe fn go_arguments(registers: *const pt_regs) -> [u64; 4] {
    // SAFETY: members of x86-64's pt_regs, which is part of the ABI.
    unsafe { [(*registers).rax, (*registers).rbx, (*registers).rcx, (*registers).rdi] }
}

/// The register in which HotSpot's code keeps its current `JavaThread` (`r15_thread` in assembler_x86.hpp). The native code of
/// the JDK that makes system calls does not use it.
///
/// # Safety
/// `registers` must be what `bpf_task_pt_regs` returned in the running program.
#[inline(always)]
pub unsafe fn java_thread(registers: *const pt_regs) -> u64 {
    // SAFETY: a member of x86-64's pt_regs, which is part of the ABI.
    unsafe { (*registers).r15 }
}
