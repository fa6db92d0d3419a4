//! The trace context that the kernel programs add to requests.

/// Bytes of header lines that can be added to a request. All formats together have less.
pub const LINES: usize = 512;

/// Places for ids in these lines, with a 0 behind the last. All formats together have less.
pub const PLACES: usize = 48;

/// Which requests get lines: values of the kernel programs' global `INJECT`.
pub mod inject {
    pub const NONE: u32 = 0;
    /// The first one on each connection.
    pub const FIRST: u32 = 1;
    /// Every one, where the socket may stay enrolled. Elsewhere the first one.
    pub const EVERY: u32 = 2;
}

/// Names of header fields by which a request shows that it has a trace context of its own.
pub const OWN_NAMES: u32 = 6;

/// Names of header fields that are looked for: the own ones, and behind them [`FRAMING_NAMES`].
pub const FIELD_NAMES: u32 = OWN_NAMES + FRAMING_NAMES.len() as u32;

/// Names of header fields that say where a request ends. Only the length is understood: behind a request with one of the others no further one
/// is looked for.
pub const FRAMING_NAMES: [&str; 4] = ["content-length", "transfer-encoding", "upgrade", "expect"];

/// Bytes of such a name, with a 0 behind the last. Of longer names, the beginning counts.
pub const NAME_BYTES: usize = 16;

/// A place in the added lines: what is written there, and where.
pub mod place {
    /// Eight digits of the trace id: the first, second, third or last.
    pub const TRACE: u32 = 1;
    /// Eight digits of the span id: the first or last.
    pub const SPAN: u32 = TRACE + 4;
    /// The two digits of the flags.
    pub const FLAGS: u32 = SPAN + 2;
    /// `1` or `0`: whether the trace is sampled.
    pub const SAMPLED: u32 = FLAGS + 1;
    /// `true ` or `false`.
    pub const IS_SAMPLED: u32 = SAMPLED + 1;

    /// What is written at the byte `at`. Never 0.
    #[must_use]
    pub const fn at(what: u32, at: u32) -> u32 {
        what << 16 | at
    }

    /// What is written, and where.
    #[must_use]
    pub const fn parts(place: u32) -> (u32, u32) {
        (place >> 16, place & 0xffff)
    }
}

/// Rules about destinations.
pub const DESTINATIONS: usize = 128;

/// A rule about destinations: entry of the `DESTINATIONS` map. The first that a connection's remote end is among decides.
///
/// Addresses are those of IPv6, with IPv4 mapped into them, as two words in the order in which memory has them.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destination {
    pub network: [u64; 2],
    pub mask: [u64; 2],
    pub first_port: u16,
    pub last_port: u16,
    /// One of [`destination`]. Behind the last rule it is [`destination::NO_RULE`].
    pub verdict: u32,
}

/// Values of [`Destination::verdict`].
pub mod destination {
    /// Every other destination is allowed.
    pub const NO_RULE: u32 = 0;
    pub const ALLOWED: u32 = 1;
    pub const DENIED: u32 = 2;
}

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

/// Values of [`Received::lookup`]: how the trace of a request is found.
pub mod lookup {
    /// In the `SENT` map. If that has no entry, no traced process of this host has sent the request.
    pub const BY_NUMBERS: u32 = 0;
    /// It cannot be found, unless the request has a trace context: it came over a unix socket or TLS.
    pub const IMPOSSIBLE: u32 = 1;
    /// The request has a `traceparent`.
    pub const FOUND: u32 = 2;
    /// The request has a trace context in another format. If its trace is not known, only the agent can read it.
    pub const OTHER_FORMAT: u32 = 3;
    /// The request has a `traceparent` that only the agent can judge.
    pub const UNCLEAR: u32 = 4;
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

/// The most bytes of a `tracestate` that are passed on (W3C Trace Context 3.3.1.5).
pub const STATE_BYTES: usize = 512;

/// The `tracestate` of a request that was received: value of the `STATES` map, keyed by the cookie of the connection.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct TraceState {
    /// Position of the request.
    pub position: u64,
    /// Bytes of the value. 0 if it is not passed on.
    pub length: u32,
    /// How many fields the request has.
    pub fields: u32,
    pub value: [u8; STATE_BYTES],
}

/// A message as both ends of a TCP connection number it: its sequence number, and that of the next byte in the other direction.
pub type Numbers = [u32; 2];

const _: () = assert!(size_of::<Received>() == 40);
const _: () = assert!(size_of::<Sent>() == 24);
const _: () = assert!(size_of::<Destination>() == 40);
const _: () = assert!(size_of::<TraceState>() == 528);
