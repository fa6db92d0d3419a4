//! Functions of Go programs.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use onlooker_common::connection::role;

use crate::state::tls::call as what;
use crate::tls::goroutine;
use crate::work::announced;
use crate::work::go_streams;

/// `net/http.(*persistConn).roundTrip`
#[uprobe]
pub fn go_round_trip(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { announced::by_goroutine(ctx.regs) };
    0
}

/// `net/http.(*http2serverConn).runHandler(rw *http2responseWriter, req *Request, handler func(ResponseWriter, *Request))`
#[uprobe]
pub fn go_run_handler(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { go_streams::handled_by_net_http(ctx.regs) };
    0
}

/// `google.golang.org/grpc.(*Server).handleStream(t transport.ServerTransport, stream *transport.ServerStream)`
#[uprobe]
pub fn go_grpc_handle(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { go_streams::handled_by_grpc(ctx.regs) };
    0
}

/// `google.golang.org/grpc/internal/transport.(*http2Server).operateHeaders(ctx context.Context, frame *http2.MetaHeadersFrame, handle
/// func(*ServerStream)) error`
#[uprobe]
pub fn go_grpc_begin(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { go_streams::begun_by_grpc(ctx.regs) };
    0
}

/// A return instruction of `google.golang.org/grpc/internal/transport.(*http2Client).createHeaderFields`, which returns
/// `([]hpack.HeaderField, error)`.
#[uprobe]
pub fn go_grpc_call(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at a return instruction of a Go function.
    unsafe { go_streams::call_built(ctx.regs) };
    0
}

/// `google.golang.org/grpc/internal/transport.(*loopyWriter).clientHeaderHandler(hdr *clientHeaders) error`. In older
/// releases it is `headerHandler(h *headerFrame)`, which servers use too.
#[uprobe]
pub fn go_grpc_headers(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { go_streams::call_taken(ctx.regs) };
    0
}

/// `crypto/tls.(*Conn).Read(b []byte) (int, error)`
#[uprobe]
pub fn go_tls_read(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { goroutine::begins(ctx.regs, what::READ) };
    0
}

/// `crypto/tls.(*Conn).Write(b []byte) (int, error)`
#[uprobe]
pub fn go_tls_write(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { goroutine::begins(ctx.regs, what::WRITE) };
    0
}

/// A return instruction of `crypto/tls.(*Conn).Read`.
#[uprobe]
pub fn go_tls_read_returns(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at a return instruction of a Go function.
    unsafe { goroutine::returns(ctx.regs, what::READ) };
    0
}

/// A return instruction of `crypto/tls.(*Conn).Write`.
#[uprobe]
pub fn go_tls_write_returns(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at a return instruction of a Go function.
    unsafe { goroutine::returns(ctx.regs, what::WRITE) };
    0
}

/// `crypto/tls.(*Conn).clientHandshake(ctx context.Context) error`
#[uprobe]
pub fn go_tls_client_handshake(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { goroutine::handshake(ctx.regs, role::CLIENT) };
    0
}

/// `crypto/tls.(*Conn).serverHandshake(ctx context.Context) error`
#[uprobe]
pub fn go_tls_server_handshake(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { goroutine::handshake(ctx.regs, role::SERVER) };
    0
}
