//! How many bytes the kernel programs capture per run.
//!
//! Short messages are captured whole, however many a run holds: a client may send thousands of requests at once. A run of
//! one long message would be copied in vain, except for its head. So the agent limits the capture of a connection when a
//! message on it is long, and the kernel programs limit it while the ring fills up.

/// Bytes captured per run. Value of the `LIMITED` map (keyed by cookie) and of the `RAISED_PROCESSES` map (keyed by tgid).
///
/// In `LIMITED`, 0 is no limit. In `RAISED_PROCESSES`, it is the default.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// On the request side.
    pub request: u32,
    /// On the response side.
    pub response: u32,
}

const _: () = assert!(size_of::<Capture>() == 8);

/// A limit of [`Capture`] that leaves the process's budget: the usual header block.
pub const HEADS: u32 = 1;

/// Bits of the `ANY_CAPTURE` word: which maps have entries.
pub mod any {
    pub const LIMITED: u32 = 1;
    pub const RAISED_PROCESSES: u32 = 1 << 1;
    /// The `FRAMES` map has entries.
    pub const FRAMES: u32 = 1 << 2;
}
