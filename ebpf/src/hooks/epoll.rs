//! System calls in which event loops wait.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;

use crate::work::tick;

/// Where the record of a system call's beginning has the fourth argument: behind the common fields, the call's number and
/// three arguments of 8 bytes each (kernel/trace/trace_syscalls.c).
const FOURTH_ARGUMENT: usize = 40;

/// Whether the timeout of `epoll_wait` or `epoll_pwait`, an int, is not 0.
#[inline(always)]
fn has_timeout(ctx: &TracePointContext) -> bool {
    // SAFETY: the record has six arguments' room.
    unsafe { ctx.read_at::<i32>(FOURTH_ARGUMENT) }.is_ok_and(|timeout| timeout != 0)
}

#[tracepoint]
pub fn sys_enter_epoll_wait(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), true, has_timeout(&ctx));
    0
}

#[tracepoint]
pub fn sys_enter_epoll_pwait(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), true, has_timeout(&ctx));
    0
}

#[tracepoint]
pub fn sys_enter_epoll_pwait2(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), true, false);
    0
}

#[tracepoint]
pub fn sys_enter_poll(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), false, false);
    0
}

#[tracepoint]
pub fn sys_enter_ppoll(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), false, false);
    0
}

#[tracepoint]
pub fn sys_enter_select(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), false, false);
    0
}

#[tracepoint]
pub fn sys_enter_pselect6(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), ctx.pid(), false, false);
    0
}
