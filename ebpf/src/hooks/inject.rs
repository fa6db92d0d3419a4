//! Programs that add a trace context to requests.

use aya_ebpf::macros::{fentry, sk_msg, sock_ops};
use aya_ebpf::programs::{FEntryContext, SkMsgContext, SockOpsContext};
use core::ffi::c_void;

use crate::inject::enrolment;
use crate::inject::message::{self, DecidedBy};
use crate::kernel::sock::Sock;

/// include/uapi/linux/bpf.h: `enum sk_action`
const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;

/// Events of the TCP sockets of a cgroup.
#[sock_ops]
pub fn onlooker_enrol(ctx: SockOpsContext) -> u32 {
    enrolment::event(&ctx);
    1
}

/// Data that a process sends on an enrolled socket.
#[sk_msg]
pub fn onlooker_inject(ctx: SkMsgContext) -> u32 {
    if message::sent(&ctx, DecidedBy::Message) { SK_PASS } else { SK_DROP }
}

/// The same, on kernels where such a program cannot use the storage of threads.
#[sk_msg]
pub fn onlooker_inject_decided(ctx: SkMsgContext) -> u32 {
    if message::sent(&ctx, DecidedBy::Call) { SK_PASS } else { SK_DROP }
}

/// (sk, msg, size): data that is about to be sent on an enrolled socket.
#[fentry(function = "tcp_bpf_sendmsg")]
pub fn tcp_bpf_sendmsg(ctx: FEntryContext) -> i32 {
    // SAFETY: the first argument is a `struct sock *`.
    message::called(unsafe { Sock::new(ctx.arg::<*const c_void>(0)) });
    0
}
