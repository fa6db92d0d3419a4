//! Functions that have the same arguments in several TLS libraries: the object, then the plaintext and its length.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::arch::processor as arch;
use crate::state::tls::call as what;
use crate::tls::call::{self, Arguments};

/// `result_at`: the argument that is an address for the length, if there is one.
#[inline(always)]
pub fn begins(ctx: &ProbeContext, what: u32, result_at: Option<usize>) {
    call_begins(ctx, what, result_at, false);
}

/// The same in a function that was found by its code, and may be another one.
#[inline(always)]
pub fn signed_begins(ctx: &ProbeContext, what: u32, result_at: Option<usize>) {
    call_begins(ctx, what, result_at, true);
}

#[inline(always)]
fn call_begins(ctx: &ProbeContext, what: u32, result_at: Option<usize>, by_signature: bool) {
    let argument = |n| ctx.arg(n).unwrap_or(0);
    let result_at = result_at.map_or(0, argument);
    let arguments = Arguments { what, object: argument(0), buffer: argument(1), result_at, by_signature };
    // SAFETY: the context of a uprobe at the beginning of a function.
    unsafe { call::begins(ctx.regs, arguments) };
}

/// `SSL_read`, `gnutls_record_recv`
#[uprobe]
pub fn tls_read(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::READ, None);
    0
}

/// `SSL_write`, `gnutls_record_send`
#[uprobe]
pub fn tls_write(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::WRITE, None);
    0
}

/// `SSL_read`
#[uprobe]
pub fn signed_tls_read(ctx: ProbeContext) -> u32 {
    signed_begins(&ctx, what::READ, None);
    0
}

/// `SSL_write`
#[uprobe]
pub fn signed_tls_write(ctx: ProbeContext) -> u32 {
    signed_begins(&ctx, what::WRITE, None);
    0
}

/// `SSL_do_handshake`, `gnutls_handshake`
#[uprobe]
pub fn tls_handshake(ctx: ProbeContext) -> u32 {
    begins(&ctx, what::HANDSHAKE, None);
    0
}

/// The return of a function whose beginning is observed.
#[uretprobe]
pub fn tls_returned(ctx: RetProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the return of a function.
    unsafe { call::returns(ctx.regs, ctx.ret::<u64>()) };
    0
}

/// The same at a return instruction, where a return cannot be observed.
#[uprobe]
pub fn tls_returning(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at a return instruction. The result is in its register then.
    unsafe { call::returns(ctx.regs, arch::result(ctx.regs)) };
    0
}
