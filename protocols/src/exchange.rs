//! What a parser reports.

use std::num::NonZeroU64;

use compact_str::CompactString;

use crate::facts::Facts;
use crate::moment::{Close, Direction, Moment};
use crate::propagation::TraceContext;

/// One thing that a parser found out about a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A request is on its way and its head is known. Its place in a trace can be settled while it is in flight.
    Begun(Begun),
    /// A request is over.
    Exchange(Box<Exchange>),
    /// A request that had begun cannot be reported truthfully. The caller counts it.
    Lost(Lost),
    /// A response whose request was never seen: the agent came later, or the request's record was lost.
    Orphan(Moment),
    /// Too little of a message that travelled in this direction was captured. The parser asks the caller to capture more
    /// of later runs.
    CaptureMore(Direction),
    /// An encoder of header fields chose a dynamic table of which not all is kept. Some of its fields may be unknown.
    TableNotKept,
    /// The statement of a name was dropped, because its connection has too many. Requests that use the name have no text.
    StatementForgotten,
    /// From here on the connection speaks the protocol of this [name](crate::by_name), and the same parser follows it: HTTP
    /// 101 to HTTP/2.
    Upgraded(&'static str),
    /// From here on the connection speaks another protocol: HTTP 101 or CONNECT, PostgreSQL's accepted SSLRequest. The
    /// parser expects no more calls but [`Parser::close`](crate::Parser::close).
    SwitchedProtocol,
}

/// A request has begun. `direction` and `start.position` identify it within its connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// The direction in which the request travels.
    pub direction: Direction,
    /// The request's first byte.
    pub start: Moment,
    /// The trace context that the request carries, if it is well-formed.
    pub context: Option<Box<TraceContext>>,
    /// An id that services pass on from request to request, e.g. `x-request-id`.
    pub correlation: Option<CompactString>,
    /// A hash of what a proxy passes on from a request to the next server: method, target and host.
    pub passed_on: Option<NonZeroU64>,
    /// The path of an HTTP request. Empty if there is none.
    pub path: CompactString,
}

/// A request with its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The direction in which the request travels.
    pub direction: Direction,
    /// The request's first byte.
    pub request_start: Moment,
    /// When the request's last byte passed, as far as it was sent. The position is the one after that byte.
    pub request_end: Moment,
    /// The first byte of the final response: of a 200, not of the 100 before it.
    pub response_start: Option<Moment>,
    /// When the response's last byte passed, as far as it was seen. The position is the one after that byte.
    pub response_end: Option<Moment>,
    pub end: End,
    pub facts: Facts,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response was seen to its end.
    Complete,
    /// The response was complete, but its last bytes passed in operations that were not recorded (splice, or a lost
    /// record). Where they ended is known, by their length or the orderly end of the connection. When is not: `response_end`
    /// has the time of the bytes before them, which is the earliest possible.
    Unseen,
    /// One end gave the exchange up, and the connection goes on: RST_STREAM or GOAWAY of HTTP/2. The moment is that of the
    /// frame.
    Reset(Reset, Moment),
    /// The connection ended before the response did, or before it began: `response_start` says which. The moment is the
    /// connection's end.
    Closed(Close, Moment),
}

/// An exchange that one end gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The name of the error code, e.g. `CANCEL`; `_OTHER` if it is unknown.
    pub code: &'static str,
    /// The direction in which the reset travels: to the server if the client gave up.
    pub by: Direction,
}

/// A request that had begun and whose rest, or whose response, was not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The direction in which the request travels.
    pub direction: Direction,
    /// The request's first byte.
    pub start: Moment,
    pub reason: LossReason,
}

/// Why a request was lost. Each reason has a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// Bytes of its head were not captured.
    RequestHeadMissing,
    /// Its response was not captured.
    ResponseMissing,
    /// The connection became unparsable while the request was open.
    Unparsable,
    /// More requests were open on the connection than the parser keeps.
    TooManyOpen,
}

impl Begun {
    /// A request that carries neither a trace context nor a correlation id.
    #[must_use]
    pub fn plain(direction: Direction, start: Moment) -> Self {
        Self { direction, start, context: None, correlation: None, passed_on: None, path: CompactString::default() }
    }
}
