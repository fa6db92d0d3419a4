//! What a protocol parser promises.

use crate::exchange::Finding;
use crate::moment::{Close, Direction, Moment};

/// The connection cannot be parsed any further: it is not this protocol, or the next message cannot be found.
///
/// The caller must call [`Parser::close`] to account for open requests, and then drop the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be parsed any further: {reason}")]
pub struct Unparsable {
    /// A fixed phrase that may name a counter. It never holds bytes of the connection.
    pub reason: &'static str,
}

/// Cuts one connection's bytes into exchanges.
///
/// The caller hands over the bytes of each direction in stream order. Between the directions it keeps the order of
/// cause: a response never comes before the request bytes that its writer had read.
///
/// A parser never blocks, never panics on any input, and holds a bounded, documented amount of memory. A message head
/// that grows beyond its limit is [`Unparsable`].
///
/// Accounting: every request that was reported as `Begun` is later reported exactly once, as an
/// [`Exchange`](crate::Exchange) or as [`Lost`](crate::Lost). A request is identified by its direction and the position
/// of its first byte. Several requests may be open at once, in both directions, and may finish in any order.
pub trait Parser: Send + std::fmt::Debug {
    /// Consumes the next bytes of `direction` and appends what they complete to `found`. `at` is the moment of the
    /// first byte.
    ///
    /// Fails when the connection cannot be parsed any further, and on every later call.
    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable>;

    /// Skips the next `missing` bytes of `direction`, which were not captured. `at` is the moment of the operation that
    /// moved them.
    ///
    /// If the operation's record was lost, only the positions show the hole. Such a hole has the time and run of the
    /// piece before it in its direction, or of the connection's beginning: the earliest that its bytes can have passed.
    /// The bytes behind it then begin a run.
    ///
    /// The parser steps over bodies of known length. If the message boundary is lost, it waits for the next piece that
    /// it recognises as the beginning of a message (the first piece of a later run), and reports as lost what cannot be
    /// reported truthfully. Fails as [`bytes`](Self::bytes) does.
    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable>;

    /// Consumes one datagram: `bytes` are its beginning, and `missing` more that were not captured follow them.
    ///
    /// Only called for protocols whose transport is [`Datagram`](crate::Transport::Datagram). A failure concerns this
    /// datagram alone: the next one may be parsed. The default treats the datagram as a piece of a stream.
    fn datagram(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        self.bytes(direction, bytes, at, found)?;
        if missing == 0 { Ok(()) } else { self.gap(direction, missing, at.advanced(bytes.len() as u64), found) }
    }

    /// No more bytes will come in `direction`: its FIN was read or sent, or the connection was closed in order. The
    /// caller reports a hole before the end with [`gap`](Self::gap) first.
    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>);

    /// The connection is over. Reports every open request, with the truth about how it ended.
    ///
    /// The caller first reports holes, so that a lost response is not taken for one that was never sent. It also first
    /// reports directions that ended in order, so that a response that ends with its connection is not taken for one
    /// that was cut off.
    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>);

    /// Stops waiting for requests that began before `oldest` (nanoseconds, as in [`Moment`]), and reports them as
    /// [aged](Close::Aged) at `at`. If their responses still come, they belong to no request. Other requests stay open.
    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>);

    /// Notes that it is `now` (nanoseconds, as in [`Moment`]), though nothing may have passed. A parser that waits for the
    /// next request before it reports the last one stops waiting after a time.
    fn pass_time(&mut self, _now: u64, _found: &mut Vec<Finding>) {}

    /// Whether a frame begins with the next byte in `direction`, for certain.
    ///
    /// Only asked of parsers of protocols that want [`Capture::Frames`](crate::Capture::Frames).
    fn begins_frame(&self, _direction: Direction) -> bool {
        false
    }

    /// The number of requests that have begun and are not yet reported.
    fn open(&self) -> usize;
}
