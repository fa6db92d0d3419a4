//! What the kernel tells the agent, one record of the ring each.
//!
//! Every record begins with its kind. A [`Segment`] is followed by its captured bytes; the other records are fixed.

use crate::context::{MessageIds, Owner};

/// The first word of a record.
pub mod kind {
    /// A socket operation moved bytes: [`Segment`](super::Segment).
    pub const SEGMENT: u32 = 1;
    /// A connection changed: [`Connection`](super::Connection).
    pub const CONNECTION: u32 = 2;
    /// A process changed: [`Process`](super::Process).
    pub const PROCESS: u32 = 3;
}

/// Bits of [`Segment::flags`].
pub mod flag {
    /// Sent; else received.
    pub const EGRESS: u32 = 1;
    /// The first operation of its run: the conversation turned here.
    pub const BEGINS: u32 = 1 << 1;
    /// The connection has been followed from its first byte.
    pub const FROM_START: u32 = 1 << 2;
    /// The system call's arguments gave no readable bytes (sendfile, splice, `io_uring`, sendmmsg, 32-bit): length only.
    pub const LENGTH_ONLY: u32 = 1 << 3;
    /// `length` is 0: the peer's FIN was read.
    pub const FIN: u32 = 1 << 4;
    /// The process runs an event loop: the thread is not the unit of its work.
    pub const LOOP: u32 = 1 << 5;
    /// A unix socket: positions count from its first operation that was seen, and say nothing to the other end.
    pub const UNIX: u32 = 1 << 6;
}

/// Values of [`Segment::role`] and [`Connection::role`]: what the process is on the connection.
pub mod role {
    pub const UNKNOWN: u8 = 0;
    pub const CLIENT: u8 = 1;
    pub const SERVER: u8 = 2;
    /// Only in the kernel: a listening socket, whose accepted children inherit this and become servers.
    pub const LISTENER: u8 = 3;
}

/// Bytes of the end of an operation that are always kept.
pub const TAIL_BYTES: usize = 16;

/// One socket operation of a selected process.
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
    /// `CLOCK_MONOTONIC`, nanoseconds, when the operation returned.
    pub time: u64,
    /// When its first byte was handed over, for a send that may have waited for room; 0 where that is not known.
    pub began: u64,
    pub cookie: u64,
    /// Stream position of the operation's first byte. For TCP the low 32 bits are the sequence number.
    pub position: u64,
    /// How far the other direction had come when this operation returned.
    pub opposite: u64,
    /// Bytes that the operation moved.
    pub length: u32,
    /// How often the conversation had turned.
    pub run: u32,
    pub flags: u32,
    pub role: u8,
    /// How many bytes of `tail` are meant: its last ones.
    pub tail_length: u8,
    pub _pad: [u8; 6],
    pub tgid: u32,
    pub tid: u32,
    /// One of the `context::unit` constants, and two words whose meaning it gives.
    pub unit_kind: u32,
    pub unit: [u64; 2],
    /// For a sent message: whose work it is.
    pub owner: Owner,
    /// The ids of the message that this operation belongs to.
    pub message: MessageIds,
    /// For a unix socket: the peer socket's cookie, 0 until that has been used once.
    pub peer: u64,
    pub tail: [u8; TAIL_BYTES],
}

const _: () = assert!(size_of::<Segment>() == 192);

/// What happened to a connection: values of [`Connection::change`].
pub mod change {
    /// Seen for the first time, with its addresses. `time` is that of the first operation.
    pub const SEEN: u32 = 1;
    /// connect() was called.
    pub const CONNECTING: u32 = 2;
    /// The handshake is done.
    pub const CONNECTED: u32 = 3;
    /// This side sent its FIN: no more bytes will be sent.
    pub const FINISHED: u32 = 4;
    /// Nothing more will be sent or come; `error` says why, if not in order. What has come may still be read, as far as
    /// `arrived`.
    pub const CLOSED: u32 = 5;
    /// After `CLOSED` with something unread: the socket is gone, and what was not read never will be.
    pub const DESTROYED: u32 = 6;
}

/// Longest unix socket path (`sockaddr_un.sun_path`).
pub const UNIX_PATH_BYTES: usize = 108;

/// A connection's birth, turn of state or end.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Connection {
    pub kind: u32,
    pub change: u32,
    pub time: u64,
    pub cookie: u64,
    pub tgid: u32,
    /// errno for `CLOSED`.
    pub error: i32,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    pub role: u8,
    /// 1 if followed from its first byte.
    pub from_start: u8,
    /// Host byte order.
    pub local_port: u16,
    pub remote_port: u16,
    /// IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    pub remote_address: [u8; 16],
    /// For unix sockets: the server's path (a leading NUL: abstract), and how long it is.
    pub path: [u8; UNIX_PATH_BYTES],
    pub path_length: u32,
    /// Position after the last byte that was received, and sent: both 0 if none was.
    pub next: [u64; 2],
    /// Position after the last byte that has come, read or not. TCP only.
    pub arrived: u64,
}

const _: () = assert!(size_of::<Connection>() == 208);

/// What happened to a process: values of [`Process::change`].
pub mod lifecycle {
    /// A process called execve: it may have to be selected. Reported for every process.
    pub const EXEC: u32 = 1;
    /// A selected process ended.
    pub const EXIT: u32 = 2;
    /// A selected process forked: `other` is the child, now selected too.
    pub const FORK: u32 = 3;
    /// A process began to listen on TCP port `other`. Reported for every process.
    pub const LISTEN: u32 = 4;
    /// A process was moved to another cgroup. Reported for every process.
    pub const MOVED: u32 = 5;
    /// A selected process was seen to make a call of its own (its first client connection).
    pub const CALLS: u32 = 6;
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Process {
    pub kind: u32,
    pub change: u32,
    pub time: u64,
    pub tgid: u32,
    pub other: u32,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Process>() == 40);
