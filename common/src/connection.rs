//! Changes of a connection: its beginning, its states and its end.

/// What the process is on a connection.
pub mod role {
    pub const UNKNOWN: u8 = 0;
    pub const CLIENT: u8 = 1;
    pub const SERVER: u8 = 2;
    /// Used in the kernel only: a listening socket. Sockets accepted from it inherit this and become servers.
    pub const LISTENER: u8 = 3;
}

/// Values of [`ConnectionChange::change`].
pub mod change {
    /// Seen for the first time, with its addresses. `time` is that of the first operation.
    pub const SEEN: u32 = 1;
    /// connect() was called.
    pub const CONNECTING: u32 = 2;
    /// The handshake is complete.
    pub const CONNECTED: u32 = 3;
    /// This end sent its FIN: it sends no more bytes.
    pub const FINISHED: u32 = 4;
    /// Both directions ended. `error` is set if the end was not orderly. The process may still read the bytes up to
    /// `arrived`.
    pub const CLOSED: u32 = 5;
    /// Follows `CLOSED` if bytes were unread then. The socket is gone, and those bytes will never be read. Of an MPTCP
    /// connection it has only the cookie.
    pub const DESTROYED: u32 = 6;
    /// As `FINISHED`, and this end receives no more bytes: its process closed the connection or shut it down both ways, or
    /// the peer had sent its FIN before.
    pub const FINISHED_BOTH: u32 = 7;
}

/// Added to [`ConnectionChange::arrived`] if bytes may have arrived that were not read, and their number is unknown. No
/// socket holds so many.
pub const UNKNOWN_ARRIVED: u64 = 1 << 40;

/// Longest unix socket path (`sockaddr_un.sun_path`).
pub const UNIX_PATH_BYTES: usize = 108;

/// A connection changed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnectionChange {
    pub kind: u32,
    /// One of the [`change`] constants.
    pub change: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    pub cookie: u64,
    pub tgid: u32,
    /// errno, for `CLOSED`.
    pub error: i32,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// One of the [`role`] constants.
    pub role: u8,
    /// 1 if the connection has been followed from its first byte.
    pub from_start: u8,
    /// Host byte order.
    pub local_port: u16,
    pub remote_port: u16,
    /// IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    pub remote_address: [u8; 16],
    /// For unix sockets: the server's path. A leading NUL marks an abstract address.
    pub path: [u8; UNIX_PATH_BYTES],
    pub path_length: u32,
    /// Position after the last byte that was received, and after the last byte that was sent. Both are 0 if there was none.
    pub next: [u64; 2],
    /// Position after the last byte that arrived, whether it was read or not. TCP and MPTCP only.
    pub arrived: u64,
}

const _: () = assert!(size_of::<ConnectionChange>() == 208);
