//! Frames of HTTP/2 (RFC 9113 4.1), as far as the kernel programs know them, and how kernel and agent agree on where they begin.
//!
//! The kernel programs follow frames by their lengths. They capture headers and what a parser needs of the payloads, and step
//! over the rest. On a connection that they saw from its start they recognise the client's preface. On others the agent
//! recognises HTTP/2 first:
//!
//! 1. The agent adds the connection to the `FRAMES` map.
//! 2. The kernel programs propose the beginning of an operation as the beginning of a frame. They count frames from there. The
//!    segment has [`flag::PROPOSES`](crate::segment::flag::PROPOSES).
//! 3. The agent knows where frames begin. If one begins there, it confirms the position. If not, another operation is proposed
//!    after [`PROPOSAL_NANOS`].
//!
//! So nothing is lost while the agent decides, however many operations pass meanwhile.

/// What a client sends first (RFC 9113 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub const HEADER: u32 = 9;

/// Types of frames (RFC 9113 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// A flag of DATA and HEADERS: the payload begins with the number of bytes that pad its end.
const PADDED: u8 = 8;

/// A payload of DATA up to this size is captured whole. A record of its own would be larger.
pub const SMALL_DATA: u32 = 256;

/// Captured bytes of other DATA: the flag and the length that a gRPC message begins with, and the code at the beginning of an
/// error of Connect. The longest is `{"error":{"code":"failed_precondition"`.
const MESSAGE_PREFIX: u32 = 48;

/// The most captured bytes of one payload: the longest header block that is parsed.
pub const LARGEST_PAYLOAD: u32 = 64 << 10;

/// How many bytes of a payload's beginning are captured.
#[must_use]
#[inline]
pub const fn captured_of_payload(kind: u8, flags: u8, length: u32) -> u32 {
    if length <= SMALL_DATA {
        return length;
    }
    match kind {
        kind::DATA if flags & PADDED != 0 => MESSAGE_PREFIX + 1,
        kind::DATA => MESSAGE_PREFIX,
        kind::HEADERS | kind::SETTINGS | kind::PUSH_PROMISE | kind::GOAWAY | kind::CONTINUATION => {
            if length < LARGEST_PAYLOAD { length } else { LARGEST_PAYLOAD }
        }
        // PRIORITY, RST_STREAM, PING and WINDOW_UPDATE are small. Others are extensions.
        _ => 0,
    }
}

/// After so long the kernel programs propose another operation.
pub const PROPOSAL_NANOS: u64 = 100_000_000;

/// No position.
pub const NOWHERE: u64 = u64::MAX;

/// Positions at which frames begin: value of the `FRAMES` map, keyed by cookie.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// In the received and in the sent bytes: the position that was proposed last and is the beginning of a frame.
    pub positions: [u64; 2],
}

impl Default for Confirmed {
    fn default() -> Self {
        Self { positions: [NOWHERE; 2] }
    }
}

const _: () = assert!(size_of::<Confirmed>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_parser_needs_is_captured() {
        let long = 16_384;
        assert_eq!(captured_of_payload(kind::HEADERS, PADDED, long), long);
        assert_eq!(captured_of_payload(kind::CONTINUATION, 0, 1 << 24), LARGEST_PAYLOAD);
        assert_eq!(captured_of_payload(kind::DATA, 0, long), 48);
        assert_eq!(captured_of_payload(kind::DATA, PADDED, long), 49, "the length of the padding is before the prefix");
        assert_eq!(captured_of_payload(kind::DATA, 1, SMALL_DATA), SMALL_DATA);
        assert_eq!(captured_of_payload(0xbe, 0, long), 0, "a frame of an extension");
        for kind in 0..=255 {
            for length in [0, 1, SMALL_DATA, SMALL_DATA + 1, long, (1 << 24) - 1] {
                assert!(captured_of_payload(kind, PADDED, length) <= length);
            }
        }
    }
}
