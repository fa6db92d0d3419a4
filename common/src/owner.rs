//! Owners of messages: the request whose work a message is, and the evidence for it.

/// The ids that a message's span will have. The kernel chooses them when the message's first byte passes.
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

/// A request, named by the connection it was read from and the position of its run's first byte.
///
/// `cookie` 0 means that the owner is unknown.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Owner {
    pub cookie: u64,
    pub position: u64,
    pub ids: MessageIds,
    /// One of the [`evidence`] constants.
    pub evidence: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Owner>() == 48);

/// How an owner was found: the kernel's rungs of the ladder of evidence.
pub mod evidence {
    /// No owner was found.
    pub const NONE: u32 = 0;
    /// The thread read this request and has read no other since.
    pub const THREAD: u32 = 1;
    /// The connection was opened for this request, and this is the connection's first message.
    pub const CONNECT: u32 = 2;
    /// The event loop's current tick belongs to this request, and no other request of the process was runnable.
    pub const TICK: u32 = 3;
    /// The goroutine, or the one that started it, worked on this request.
    pub const GOROUTINE: u32 = 4;
    /// The virtual thread worked on this request.
    pub const VIRTUAL_THREAD: u32 = 5;
    /// The task (a context of Python, a task of tokio) worked on this request.
    pub const TASK: u32 = 6;
    /// The asynchronous operation of Node was born while this request was worked on.
    pub const ASYNC_ID: u32 = 7;
    /// The process was started by a thread that worked on this request, and that waits for it.
    pub const FORK: u32 = 8;
    /// A task of this request, and nothing else, woke the task that alone uses the connection. It applies to the first message
    /// of a run.
    pub const WOKEN: u32 = 9;
    /// A task of this request was the last that woke the task that uses the connection.
    pub const WAKE: u32 = 10;
}
