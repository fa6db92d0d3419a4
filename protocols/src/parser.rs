//! What a protocol parser promises.

use crate::exchange::Finding;

/// Which way bytes travel between the two ends of a connection, whichever of them is traced.
///
/// Requests usually travel to the server. A protocol may let the server ask too (a push, a delivery): then the request
/// travels to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// When and where in the stream a piece of bytes passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Kernel monotonic time, in nanoseconds, at which the socket operation returned.
    pub nanos: u64,
    /// Position, in its direction's stream, of the first byte of the piece this moment is given with.
    pub position: u64,
    /// How often the conversation had turned when the piece passed. All pieces of one direction between two turns
    /// share a run; what answers run `r` arrives in run `r + 1` or later. Lets a parser that lost bytes match a
    /// response to the right request: on a connection without pipelining a response in run `r` answers the last
    /// request bytes before it, and every earlier request that is still open lost its response.
    pub run: u32,
}

impl Moment {
    /// The moment of a byte `bytes` further on in the same piece.
    #[must_use]
    pub fn advanced(self, bytes: u64) -> Self {
        Self { position: self.position.wrapping_add(bytes), ..self }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Both sides closed in order, or this side called close.
    Normal,
    /// The peer sent a reset, or the kernel gave up on it; the value is the errno, e.g. ECONNRESET.
    Error(i32),
    /// The process that owned the connection ended.
    ProcessExit,
    /// Nothing was heard of it for longer than the age limit.
    Aged,
    /// Onlooker stops watching; the connection itself may go on.
    Shutdown,
}

/// The bytes can't be followed any further on this connection (not this protocol after all, or broken beyond finding
/// the next message). The caller must call [`Parser::close`] to have what is open accounted for, and drop the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{protocol:?} cannot be followed any further: {reason}")]
pub struct Unparsable {
    pub protocol: Protocol,
    /// A fixed phrase, used as the name of a counter: never holds bytes of the connection.
    pub reason: &'static str,
}

/// The protocols there are parsers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http1,
    Postgres,
    Redis,
}

/// Cuts one connection's bytes into exchanges.
///
/// Fed in stream order per direction; between the directions in the order of cause (a response never comes before the
/// request bytes its writer had read). Never blocks, never looks back, never panics on any input, and holds at most a
/// bounded, documented amount of memory: a message head that grows past its limit is `Unparsable`.
///
/// Accounting: every request that was `Begun` is later reported exactly once, as an [`Exchange`](crate::Exchange) or
/// as [`Lost`](crate::Lost). Nothing else is reported as an exchange.
pub trait Parser: Send + std::fmt::Debug {
    fn protocol(&self) -> Protocol;

    /// Takes the next bytes of `direction`; what they complete is appended to `found`. `at` is the moment of the first of
    /// them. Fails when the connection can't be followed any further, and from then on.
    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable>;

    /// The next `missing` bytes of `direction` were not captured; `at` is the moment of the operation that moved them.
    /// A hole that only positions betray (the operation's event itself was lost) has the time and the run of the piece
    /// before it in its direction (the connection's beginning, if there is none): the earliest its bytes can have passed.
    /// What follows it then begins its run.
    ///
    /// Bodies of known length are stepped over. Where the
    /// message boundary is lost, the parser waits for the next piece it can recognise as a message's beginning (the
    /// first piece of a later run) and reports as lost what can't be completed truthfully any more. Fails as
    /// [`bytes`](Self::bytes) does.
    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable>;

    /// No more bytes will come in `direction`: its FIN was read or sent, also by closing the connection in order. A hole
    /// before the end is told before, by `gap`.
    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>);

    /// The connection is over: every open request is reported, with the truth about how it ended. The caller tells before
    /// of holes, so that a response that was lost isn't taken for one that was never sent, and of directions that ended
    /// in order, so that a response that ends with its connection isn't taken for one that was cut off.
    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>);

    /// Requests that began before `oldest` (nanoseconds, as in [`Moment`]) are waited for no longer: those that were sent
    /// are reported, as closed because they are [aged](Close::Aged) at `at`. Their responses may come all the same, and are
    /// nobody's then; what else is open goes on.
    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>);

    /// How many requests are begun and not yet reported.
    fn open(&self) -> usize;
}
