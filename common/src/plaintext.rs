//! Plaintext of TLS libraries: a stream beside the socket that carries it encrypted.
//!
//! A plaintext stream is named by the library's object (`SSL *`, `*tls.Conn`). Its socket may become known later:
//! a [`Tie`] then names the socket. Positions are the stream's own and start at 0.
//!
//! Owners, completions and capture limits name a stream by its [id](StreamKey::id), before and after the tie.

use crate::segment::Segment;

/// The name of a plaintext stream.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct StreamKey {
    /// Address of the library's object in the process.
    pub object: u64,
    /// The number of the object among all objects of all processes. A later object at the same address has a higher one.
    pub generation: u32,
    /// The process whose address it is.
    pub tgid: u32,
}

/// Ids of plaintext streams have this bit. No socket cookie has it: the kernel counts them from 1.
const STREAM_BIT: u64 = 1 << 63;

impl StreamKey {
    /// What stands for the stream where a connection is named by the cookie of its socket.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> u64 {
        STREAM_BIT | self.generation as u64
    }
}

/// One read or write of plaintext. Its captured bytes follow it in the ring.
///
/// `segment.kind` is [`kind::PLAINTEXT`](crate::kind::PLAINTEXT), and `segment.cookie` is 0 while the socket is
/// unknown.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Plaintext {
    pub segment: Segment,
    pub stream: StreamKey,
}

/// By which both ends of a TCP connection know a TLS record: the sequence number of its first byte, and how far the other way had come
/// when it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordNumbers {
    pub sequence: u32,
    pub opposite: u32,
}

impl RecordNumbers {
    /// As [`Segment::peer`](crate::segment::Segment::peer).
    #[must_use]
    #[inline]
    pub const fn to_word(self) -> u64 {
        (self.opposite as u64) << 32 | self.sequence as u64
    }

    /// `None` if they are unknown. Both are 0 once in 2^64 records, which then counts as unknown.
    #[must_use]
    #[inline]
    pub const fn of_word(word: u64) -> Option<Self> {
        if word == 0 { None } else { Some(Self { sequence: word as u32, opposite: (word >> 32) as u32 }) }
    }
}

/// From `time` on, a plaintext stream belongs to a socket.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Tie {
    pub kind: u32,
    /// One of the [`tied_by`] constants.
    pub tied_by: u32,
    pub stream: StreamKey,
    /// The socket's cookie.
    pub cookie: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
}

/// How the socket of a plaintext stream was found.
pub mod tied_by {
    /// A call of the library used the socket.
    pub const CALL: u32 = 0;
    /// What the library wrote to memory was sent on the socket.
    pub const TAG: u32 = 1;
}

const _: () = assert!(size_of::<StreamKey>() == 16);
const _: () = assert!(size_of::<Plaintext>() == size_of::<Segment>() + size_of::<StreamKey>());
const _: () = assert!(size_of::<Tie>() == 40);
