//! The `traceparent` that the kernel programs add to requests.

/// Bytes of the added line: `traceparent: 00-TRACE-SPAN-FLAGS` and its end.
pub const LINE_BYTES: u32 = 70;

/// Bits of the flags of a `traceparent` (W3C Trace Context, level 2).
pub mod trace_flag {
    /// The caller may have recorded the trace.
    pub const SAMPLED: u32 = 1;
    /// The trace id is random in its lower 56 bits.
    pub const RANDOM: u32 = 2;
}

/// The trace that a request belongs to, as its receiver knows it: value of the `RECEIVED` map, keyed by the cookie of the connection.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Position of the request, and how far the other direction had come.
    pub position: u64,
    pub opposite: u64,
    /// Zeros while unknown.
    pub trace_id: [u64; 2],
    /// Bits of [`trace_flag`].
    pub flags: u32,
    /// One of [`lookup`].
    pub lookup: u32,
}

/// Values of [`Received::lookup`]: how the trace of a request without a `traceparent` is found.
pub mod lookup {
    /// In the `SENT` map. If that has no entry, no traced process of this host has sent the request.
    pub const BY_NUMBERS: u32 = 0;
    /// It cannot be found: a unix socket, TLS, or a `traceparent` that only the agent can judge.
    pub const IMPOSSIBLE: u32 = 1;
}

/// The trace of a request that was sent on this host: value of the `SENT` map, keyed by [`Numbers`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub trace_id: [u64; 2],
    /// Bits of [`trace_flag`].
    pub flags: u32,
    pub _pad: u32,
}

/// A message as both ends of a TCP connection number it: its sequence number, and that of the next byte in the other direction.
pub type Numbers = [u32; 2];

const _: () = assert!(size_of::<Received>() == 40);
const _: () = assert!(size_of::<Sent>() == 24);
