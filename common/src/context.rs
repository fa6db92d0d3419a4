//! Whose work is being done: owners of messages and how they were found.

/// The identity of a message: the ids its span will have, given when its first byte passed.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct MessageIds {
    pub trace_id: [u64; 2],
    pub span_id: u64,
}

/// A request, named by where it stands: the connection it was read from and the position of its run's first byte.
/// `cookie` 0 is nobody.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Owner {
    pub cookie: u64,
    pub position: u64,
    pub context: MessageIds,
    /// One of the `evidence` constants.
    pub evidence: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Owner>() == 48);

/// How an owner was found; the kernel's rungs of the ladder of evidence.
pub mod evidence {
    /// Nobody: nothing could be proven.
    pub const NONE: u32 = 0;
    /// The thread read this request and has read no other since.
    pub const THREAD: u32 = 1;
    /// The connection was opened in this request's context, and this is its first message.
    pub const CONNECT: u32 = 2;
    /// The event loop's turn belongs to this request, and no other request of the process could be meant.
    pub const TICK: u32 = 3;
}

/// What kind of thing did the work, beside the thread: room for the units of other runtimes.
pub mod unit {
    pub const NONE: u32 = 0;
}
