//! How many bytes the kernel programs capture per run.

/// Bytes captured per run. Value of the `RAISED` map (keyed by cookie) and of the `RAISED_PROCESSES` map (keyed by tgid).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// On the request side.
    pub request: u32,
    /// On the response side.
    pub response: u32,
}

const _: () = assert!(size_of::<Capture>() == 8);

/// Bits of the `ANY_RAISED` word: which of the two maps has entries.
pub mod raised {
    pub const CONNECTIONS: u32 = 1;
    pub const PROCESSES: u32 = 1 << 1;
}
