//! When, where and in which direction bytes passed, and how a connection ended.

/// The direction in which bytes travel between the two ends of a connection, whichever of them is traced.
///
/// Requests usually travel to the server. A protocol may also have requests that travel to the client: pushes,
/// deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    ToServer,
    ToClient,
}

impl Direction {
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// When and where in the stream some bytes passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Kernel monotonic time in nanoseconds at which the socket operation returned.
    pub nanos: u64,
    /// Position of the first of the bytes in their direction's stream. Of datagrams: the bytes of all earlier
    /// datagrams in this direction.
    pub position: u64,
    /// How often the conversation had turned when the bytes passed.
    ///
    /// All bytes of one direction between two turns share a run. The response to a request in run `r` arrives in run
    /// `r + 1` or later. A parser that lost bytes matches responses with requests by it: without pipelining, a response
    /// in run `r` answers the last request before it, and every earlier open request has lost its response.
    pub run: u32,
}

impl Moment {
    /// The moment of a byte that lies `bytes` further in the same piece.
    #[must_use]
    pub fn advanced(self, bytes: u64) -> Self {
        Self { position: self.position.wrapping_add(bytes), ..self }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Both ends closed in order, or this end called close.
    Normal,
    /// The peer sent a reset, or the kernel gave up. The value is the errno, e.g. `ECONNRESET`.
    Error(i32),
    /// The process that owned the connection ended.
    ProcessExit,
    /// The request waited for longer than the age limit.
    Aged,
    /// Onlooker stops watching. The connection itself may go on.
    Shutdown,
    /// Onlooker stops watching the process that owns the connection.
    Deselected,
}
