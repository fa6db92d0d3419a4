//! Programs that add `traceparent` to requests.

use aya_ebpf::macros::{sk_msg, sock_ops};
use aya_ebpf::programs::{SkMsgContext, SockOpsContext};

use crate::inject::{enrolment, message};

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
    if message::sent(&ctx) { SK_PASS } else { SK_DROP }
}
