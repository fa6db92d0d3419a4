//! Read-only globals: the agent writes them into the object before load, and the kernel freezes them.

use core::ptr;

use onlooker_common::offsets::Offsets;

/// Where this kernel has the struct members that the programs read.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::MISSING;

/// Bytes that may wait in the ring before the agent is woken.
#[unsafe(no_mangle)]
static WAKE_BYTES: u64 = 256 << 10;

/// Bytes captured of a run on a connection without a limit.
#[unsafe(no_mangle)]
static RUN_CAPTURE: u32 = onlooker_common::limits::RUN_CAPTURE;

/// 1 if `traceparent` is added to requests.
#[unsafe(no_mangle)]
static INJECT: u32 = 0;

/// Reads a global. The compiler does not know its value; the verifier does.
#[inline(always)]
pub fn constant<T: Copy>(of: *const T) -> T {
    // SAFETY: called with the address of a static of this object; volatile because the loader writes it later.
    unsafe { ptr::read_volatile(of) }
}

/// One of the `OFFSETS`.
macro_rules! offset {
    ($field:ident) => {
        crate::globals::constant(&raw const crate::globals::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// Bytes captured of a run on a connection without a limit.
#[inline(always)]
pub fn run_capture() -> u32 {
    constant(&raw const RUN_CAPTURE)
}

/// Bytes that may wait in the ring before the agent is woken.
#[inline(always)]
pub fn wake_bytes() -> u64 {
    constant(&raw const WAKE_BYTES)
}

/// Whether `traceparent` is added to requests. If not, the verifier removes all code for it.
#[inline(always)]
pub fn injects() -> bool {
    constant(&raw const INJECT) != 0
}
