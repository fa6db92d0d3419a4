//! Functions of tokio.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::work::woken;

/// `tokio::runtime::task::waker::wake_by_val` and `wake_by_ref`
#[uprobe]
pub fn tokio_wake(ctx: ProbeContext) -> u32 {
    if let Some(header) = ctx.arg::<u64>(0) {
        woken::by_running_task(header);
    }
    0
}
