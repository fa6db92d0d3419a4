//! Functions of Node and libuv that run callbacks of several requests in turn.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::work::tick;

/// `node::Environment::RunTimers`, `uv__async_io`
#[uprobe]
pub fn node_callbacks(_ctx: ProbeContext) -> u32 {
    tick::callbacks_begin();
    0
}

/// `node::Environment::ToggleImmediateRef(bool ref)`
#[uprobe]
pub fn node_immediates(ctx: ProbeContext) -> u32 {
    tick::immediates(ctx.arg::<u64>(1).is_some_and(|due| due & 0xff != 0));
    0
}
