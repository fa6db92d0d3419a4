//! What a parser yields.

use crate::parser::{Close, Direction, Moment};
use crate::{http1, postgres, propagation::TraceContext, redis};

/// One thing learnt from a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A request is on its way and its head is known: its place in a trace can be settled while it is in flight.
    Begun(Begun),
    /// A request is over.
    Exchange(Box<Exchange>),
    /// A request that was begun and can't be told truthfully: to be counted.
    Lost(Lost),
    /// A response whose request was never seen (the agent came later, or the request's event was lost).
    Orphan(Moment),
    /// The head of a message going this way was not captured whole.
    HeadCut(Direction),
    /// From here on the connection speaks something else (HTTP 101 or CONNECT, PostgreSQL's accepted SSLRequest);
    /// the parser expects no more calls but [`Parser::close`](crate::Parser::close).
    SwitchedProtocol,
}

/// The identity of a request within its connection is the stream position of its first byte: `start.position`.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// The request's first byte.
    pub start: Moment,
    /// The trace context the request carries, if it is well-formed.
    pub context: Option<TraceContext>,
    /// An id that services pass on from request to request (x-request-id and the like), if it carries one.
    pub correlation: Option<compact_str::CompactString>,
}

/// One request with its response.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// The request's first byte.
    pub request_start: Moment,
    /// When the request's last byte passed, as far as it was sent; the position is the one just past it.
    pub request_end: Moment,
    /// The final response's first byte (of a 200, not of the 100 before it).
    pub response_start: Option<Moment>,
    /// When the response's last byte passed, as far as it was seen; the position is the one just past it.
    pub response_end: Option<Moment>,
    pub end: End,
    pub details: Details,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response was seen to its end.
    Complete,
    /// The connection ended before the response did (or began): `response_start` says which. The value's moment is the
    /// connection's end.
    Closed(Close, Moment),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Details {
    Http1(http1::Http),
    Postgres(postgres::Query),
    Redis(redis::Command),
}

/// A request that was seen to begin and whose rest was not captured. Its `Begun` came before, if only just before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub start: Moment,
    pub reason: LossReason,
}

/// Why an exchange is counted instead of told. Each is the name of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// Bytes of its head were not captured.
    RequestHeadMissing,
    /// Its response was not captured.
    ResponseMissing,
    /// The connection stopped making sense while it was open.
    Unparsable,
    /// More requests were open on the connection than are kept.
    TooManyOpen,
}
