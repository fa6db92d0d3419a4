//! System calls in which event loops wait.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;

use crate::work::tick;

#[tracepoint]
pub fn sys_enter_epoll_wait(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), true);
    0
}

#[tracepoint]
pub fn sys_enter_epoll_pwait(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), true);
    0
}

#[tracepoint]
pub fn sys_enter_epoll_pwait2(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), true);
    0
}

#[tracepoint]
pub fn sys_enter_poll(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), false);
    0
}

#[tracepoint]
pub fn sys_enter_ppoll(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), false);
    0
}

#[tracepoint]
pub fn sys_enter_select(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), false);
    0
}

#[tracepoint]
pub fn sys_enter_pselect6(ctx: TracePointContext) -> u32 {
    tick::ends(ctx.tgid(), false);
    0
}
