//! What every protocol provides: a row of the table.

use std::fmt;

pub use crate::kit::looks::Looks;
use crate::moment::Direction;
use crate::parser::Parser;

/// What there is to know of a protocol: a row of [`PROTOCOLS`](crate::PROTOCOLS).
///
/// A protocol's identity is the address of its row. Two rows are equal if they are the same row.
pub struct Spec {
    /// A word of lower-case letters and digits. Names the protocol's counters, fuzz target and recorded conversations.
    pub name: &'static str,
    /// The name that people use.
    pub title: &'static str,
    pub transport: Transport,
    /// Whether bytes can be this protocol's. See [`Detect`].
    pub detect: Detect,
    /// Makes the parser of a connection. `None` for a protocol that is only recognised.
    pub parser: Option<NewParser>,
    /// How much of each run the parser needs.
    pub capture: Capture,
    /// Responses may come in any order, and both ends may send requests. Otherwise requests travel to the server, and
    /// responses come in the order of their requests.
    pub concurrent: bool,
    /// No other protocol's bytes look like this protocol's requests. If they are seen, their reader is the server,
    /// whatever is known of the connection.
    pub proves_roles: bool,
}

/// Judges the first bytes of a run (or of a datagram) as bytes of one protocol that travel in the given direction.
///
/// The function must answer [`Looks::Right`] or [`Looks::Wrong`] once it has [`ENOUGH`] bytes.
pub type Detect = fn(Direction, &Sample<'_>) -> Looks;

/// Makes a parser. The argument says whether the first bytes that it receives are the first of the connection.
pub type NewParser = fn(from_start: bool) -> Box<dyn Parser>;

/// What carries a protocol's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Bytes in order, in both directions: TCP, Unix stream sockets, TLS plaintext.
    Stream,
    /// Whole messages: UDP, Unix datagram sockets.
    Datagram,
}

/// How much of each run a parser needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capture {
    /// The beginning of each run, as long as the head of a usual message.
    Heads,
    /// As much as can be captured, because messages begin anywhere in a run.
    Most,
    /// The frames of HTTP/2, without what long payloads of DATA have behind their beginning.
    Frames,
}

impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Spec {}

impl fmt::Debug for Spec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// With this many bytes there is an answer, never [`Guess::NeedMore`](crate::detect::Guess::NeedMore).
pub const ENOUGH: usize = 256;

/// The first bytes of a run or datagram, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub transport: Transport,
    /// The direction in which the bytes travel. Known if it is known which end is the server.
    pub direction: Option<Direction>,
    /// Nothing passed on the connection before these bytes. Otherwise they may begin in the middle of a message.
    pub from_start: bool,
    pub bytes: &'a [u8],
}
