//! One socket operation of a selected process.

use crate::owner::{MessageIds, Owner};

/// Bits of [`Segment::flags`].
pub mod flag {
    /// The bytes were sent. Without this bit they were received.
    pub const EGRESS: u32 = 1;
    /// The operation is the first of its run.
    pub const BEGINS: u32 = 1 << 1;
    /// The connection has been followed from its first byte.
    pub const FROM_START: u32 = 1 << 2;
    /// No bytes could be captured; only the length is known. Reasons: sendfile, splice, `io_uring`, sendmmsg, a 32-bit
    /// system call.
    pub const LENGTH_ONLY: u32 = 1 << 3;
    /// The process read the peer's FIN. `length` is 0.
    pub const FIN: u32 = 1 << 4;
    /// The process runs an event loop, so the thread is not the unit of work.
    pub const LOOP: u32 = 1 << 5;
    /// A unix socket. Its positions count from the first operation that was seen and mean nothing to the other end.
    pub const UNIX: u32 = 1 << 6;
    /// The process runs virtual threads, which are known. Before the first segment with this bit they were not.
    pub const VIRTUAL_THREADS: u32 = 1 << 7;
    /// The kernel programs follow the HTTP/2 frames of this direction: see [`frames`](crate::frames).
    pub const FRAMES: u32 = 1 << 8;
    /// The kernel programs count HTTP/2 frames from the operation's first byte on. They follow them if the agent confirms
    /// that a frame begins there.
    pub const PROPOSES: u32 = 1 << 9;
    /// The process is a proxy.
    pub const PROXY: u32 = 1 << 10;
    /// The ids of the message were sent with it in a `traceparent`, or will be: it must keep them.
    pub const SENDS_CONTEXT: u32 = 1 << 11;
}

/// Bytes of an operation's end that are always captured.
pub const TAIL_BYTES: usize = 16;

/// One operation that moved bytes of a stream. Its captured bytes follow it in the ring.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Segment {
    pub kind: u32,
    /// Bytes of the operation's beginning that follow this header.
    pub captured: u32,
    /// When the operation returned: `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// When the first byte was handed over, for a send that may have waited for buffer space; 0 if unknown.
    pub began: u64,
    /// The socket's cookie; 0 in a [`Plaintext`](crate::plaintext::Plaintext) record whose socket is unknown.
    pub cookie: u64,
    /// Stream position of the operation's first byte. For TCP the low 32 bits are the sequence number.
    pub position: u64,
    /// Position that the other direction had reached when this operation returned.
    pub opposite: u64,
    /// Bytes that the process moved.
    pub length: u32,
    /// Number of the run on this connection.
    pub run: u32,
    pub flags: u32,
    /// One of the [`role`](crate::connection::role) constants.
    pub role: u8,
    /// How many of the last bytes of `tail` are valid.
    pub tail_length: u8,
    /// Bytes that Onlooker inserted into the stream behind the operation's own bytes.
    pub added: u16,
    pub _pad: u32,
    pub tgid: u32,
    pub tid: u32,
    /// One of the [`unit`](crate::unit) constants.
    pub unit_kind: u32,
    pub unit: [u64; 2],
    /// For a message that was sent to a server: the request whose work it is. For a response that was received: the same, if
    /// it became known after the message was sent.
    pub owner: Owner,
    /// The ids of the message that this operation belongs to.
    pub message: MessageIds,
    /// By which the other end is found. 0 if unknown.
    ///
    /// - Of a unix socket: the peer socket's cookie, once the peer has been used.
    /// - Of plaintext: the [numbers](crate::plaintext::RecordNumbers) of the TLS record that has the operation's first byte. Only the first
    ///   of an operation's segments has that byte.
    pub peer: u64,
    pub tail: [u8; TAIL_BYTES],
}

const _: () = assert!(size_of::<Segment>() == 192);

impl Segment {
    /// Stream position of the byte that follows this operation.
    #[must_use]
    #[inline]
    pub const fn next_position(&self) -> u64 {
        self.position.wrapping_add(self.length as u64).wrapping_add(self.added as u64)
    }
}
