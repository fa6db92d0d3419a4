//! BTF tracepoints.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use crate::connection::changes;
use crate::kernel::execution::Execution;
use crate::kernel::message;
use crate::kernel::sock::Sock;
use crate::kernel::task::{Cgroup, Task};
use crate::process;
use crate::record::segment;
use crate::state::stream::Direction;

/// The `n`th argument as a socket.
#[inline(always)]
fn sock(ctx: &BtfTracePointContext, n: usize) -> Sock {
    // SAFETY: called with the number of a `struct sock *` argument.
    unsafe { Sock::new(ctx.arg::<*const c_void>(n)) }
}

/// The `n`th argument as a task.
fn task(ctx: &BtfTracePointContext, n: usize) -> Task {
    // SAFETY: called with the number of a `struct task_struct *` argument.
    unsafe { Task::new(ctx.arg::<*const c_void>(n)) }
}

/// (sk, ret, flags), after every send on a socket. Since Linux 6.3.
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    segment::record(sock(&ctx, 0), ctx.arg(1), ctx.arg(2), Direction::Egress);
    0
}

/// (sk, ret, flags), after every receive on a socket. Since Linux 6.3.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    segment::record(sock(&ctx, 0), ctx.arg(1), ctx.arg(2), Direction::Ingress);
    0
}

/// (sk, msg, skb, size_goal), each time TCP takes bytes of a send. Since Linux 6.16.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn tcp_sendmsg_locked(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's second argument is a `struct msghdr *`.
    if let Some(left) = unsafe { message::bytes_left(ctx.arg::<*const c_void>(1)) } {
        changes::sending(sock(&ctx, 0), left);
    }
    0
}

/// (sk, oldstate, newstate)
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    changes::state_changed(sock(&ctx, 0), ctx.arg(1), ctx.arg(2));
    0
}

/// (sk), when a TCP socket is freed.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    changes::destroyed(sock(&ctx, 0));
    0
}

/// (task, old_pid, bprm)
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's third argument is a `struct linux_binprm *`.
    process::executed(&ctx, task(&ctx, 0), unsafe { Execution::new(ctx.arg::<*const c_void>(2)) });
    0
}

/// (parent, child)
#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    process::forked(&ctx, task(&ctx, 0), task(&ctx, 1));
    0
}

/// (task)
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    process::exited(&ctx, task(&ctx, 0));
    0
}

/// (dst_cgrp, path, task, threadgroup)
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    process::moved(&ctx, task(&ctx, 2), Cgroup::new(ctx.arg::<*const c_void>(0)));
    0
}
