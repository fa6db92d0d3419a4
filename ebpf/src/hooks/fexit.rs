//! Exits of the protocols' own functions, for kernels before 6.3, which have no tracepoints of socket operations.
//!
//! sendfile and splice into a socket pass a page at a time, through `sendpage`.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use core::ffi::c_void;

use crate::kernel::sock::Sock;
use crate::record::segment;
use crate::state::stream::Direction;

/// The first argument as a socket.
#[inline(always)]
fn sock(ctx: &FExitContext) -> Sock {
    // SAFETY: called where the first argument is a `struct sock *`.
    unsafe { Sock::new(ctx.arg::<*const c_void>(0)) }
}

/// The socket of the first argument, which is a `struct socket *`.
#[inline(always)]
fn unix_sock(ctx: &FExitContext) -> Option<Sock> {
    // SAFETY: called where the first argument is a `struct socket *`.
    unsafe { Sock::of_socket(ctx.arg::<*const c_void>(0)) }
}

/// Records an operation of `sock` with the function's result. Flags matter for receiving only.
#[inline(always)]
fn record(ctx: &FExitContext, sock: Sock, flags: i32, direction: Direction) {
    if let Ok(result) = ctx.ret() {
        segment::record(sock, result, flags, direction);
    }
}

/// (sk, msg, size)
#[fexit(function = "tcp_sendmsg")]
pub fn tcp_sendmsg(ctx: FExitContext) -> i32 {
    record(&ctx, sock(&ctx), 0, Direction::Egress);
    0
}

/// (sk, msg, size)
#[fexit(function = "mptcp_sendmsg")]
pub fn mptcp_sendmsg(ctx: FExitContext) -> i32 {
    record(&ctx, sock(&ctx), 0, Direction::Egress);
    0
}

/// (sk, page, offset, size, flags)
#[fexit(function = "tcp_sendpage")]
pub fn tcp_sendpage(ctx: FExitContext) -> i32 {
    record(&ctx, sock(&ctx), 0, Direction::Egress);
    0
}

/// (sk, msg, len, flags, addr_len)
#[fexit(function = "tcp_recvmsg")]
pub fn tcp_recvmsg(ctx: FExitContext) -> i32 {
    record(&ctx, sock(&ctx), ctx.arg(3), Direction::Ingress);
    0
}

/// (sk, msg, len, flags, addr_len)
#[fexit(function = "mptcp_recvmsg")]
pub fn mptcp_recvmsg(ctx: FExitContext) -> i32 {
    record(&ctx, sock(&ctx), ctx.arg(3), Direction::Ingress);
    0
}

/// (sock, msg, len)
#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_stream_sendmsg(ctx: FExitContext) -> i32 {
    if let Some(sock) = unix_sock(&ctx) {
        record(&ctx, sock, 0, Direction::Egress);
    }
    0
}

/// (sock, page, offset, size, flags)
#[fexit(function = "unix_stream_sendpage")]
pub fn unix_stream_sendpage(ctx: FExitContext) -> i32 {
    if let Some(sock) = unix_sock(&ctx) {
        record(&ctx, sock, 0, Direction::Egress);
    }
    0
}

/// (sock, msg, size, flags)
#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_stream_recvmsg(ctx: FExitContext) -> i32 {
    if let Some(sock) = unix_sock(&ctx) {
        record(&ctx, sock, ctx.arg(3), Direction::Ingress);
    }
    0
}
