//! Functions of Go programs.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::work::announced;

/// `net/http.(*persistConn).roundTrip`
#[uprobe]
pub fn go_round_trip(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of a uprobe at the beginning of a Go function.
    unsafe { announced::by_goroutine(ctx.regs) };
    0
}
