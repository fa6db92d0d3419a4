//! Read-only globals: the agent writes them into the object before load, and the kernel freezes them.

use core::ptr;

use onlooker_common::injection::{self, NAME_BYTES, inject};
use onlooker_common::offsets::Offsets;

use crate::verifier::opaque;

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
static INJECT: u32 = inject::NONE;

/// The header lines that are added, without the ids, and their length.
#[unsafe(no_mangle)]
static LINES: [u8; injection::LINES] = [0; injection::LINES];
#[unsafe(no_mangle)]
static LINES_BYTES: u32 = 0;

/// 1 if a `tracestate` goes with them.
#[unsafe(no_mangle)]
static WRITES_STATE: u32 = 0;

/// Where the ids go in the lines: values of `onlooker_common::injection::place`, behind the last one 0.
#[unsafe(no_mangle)]
static PLACES: [u32; injection::PLACES] = [0; injection::PLACES];

/// Names of fields that are looked for, in lower case: those of a trace context, and those that say where a request ends.
#[unsafe(no_mangle)]
static FIELD_NAMES: [[u8; NAME_BYTES]; injection::FIELD_NAMES as usize] =
    [[0; NAME_BYTES]; injection::FIELD_NAMES as usize];

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
    constant(&raw const INJECT) != inject::NONE
}

/// Whether the later requests of a connection get a trace context too, where that is possible.
#[inline(always)]
pub fn injects_every() -> bool {
    constant(&raw const INJECT) == inject::EVERY
}

/// Whether the `tracestate` of the trace is added too, if it has one.
#[inline(always)]
pub fn writes_state() -> bool {
    constant(&raw const WRITES_STATE) != 0
}

/// How many bytes of header lines are added to a request, without a `tracestate`.
#[inline(always)]
pub fn lines_bytes() -> u32 {
    constant(&raw const LINES_BYTES)
}

/// One of [`lines_bytes`].
#[inline(always)]
pub fn line_byte(at: usize) -> u8 {
    // SAFETY: the caller's index is less than the length.
    constant(unsafe { (&raw const LINES).cast::<u8>().add(at) })
}

/// One of the places in the lines.
#[inline(always)]
pub fn place(index: usize) -> u32 {
    // SAFETY: the caller's index is less than the number of places.
    constant(unsafe { (&raw const PLACES).cast::<u32>().add(index) })
}

/// The byte at `at` in a name of a field; 0 behind its end.
#[inline(always)]
pub fn field_name_byte(name: u32, at: u32) -> u8 {
    let at = opaque(u64::from(at)) as usize & (NAME_BYTES - 1);
    // SAFETY: both are within the array.
    constant(unsafe { (&raw const FIELD_NAMES).cast::<u8>().add(name as usize * NAME_BYTES + at) })
}
