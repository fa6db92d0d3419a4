//! What connections report, and to whom.

use std::sync::Arc;

use onlooker_common::owner::{MessageIds, Owner};
use onlooker_protocols::{Begun, Capture, Direction, Exchange, Lost, Moment, Spec};

use crate::model::span::{Ends, Role};
use crate::origin::Origin;
use crate::unit::Unit;

/// Receives what connections report, in the order in which it happened on each.
pub trait Observer {
    fn observe(&mut self, place: Place, report: Report<'_>);
}

/// The connection and the process that a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub cookie: u64,
    pub tgid: u32,
    /// The process's part in the request that the report is about: the client sent it, the server received it. This is
    /// the process's role on the connection, unless the request travels to the connection's client.
    pub role: Role,
    /// Responses on the connection come in the order of their requests.
    pub in_order: bool,
}

/// Something that happened on a connection.
#[derive(Debug)]
pub enum Report<'a> {
    /// A request has begun. `origin` is the operation that it began with, if its record came.
    Begun { begun: &'a Begun, origin: Option<&'a Origin>, protocol: Option<&'static Spec> },
    /// More of the request that began at `start` comes in another run, with these ids.
    Continued { start: Moment, ids: &'a MessageIds },
    /// `unit` wrote the first byte of the response to the request that began at `start`. It may be reported twice: a unit
    /// may write `100 Continue` and another one the response.
    Responded { start: Moment, unit: Unit, nanos: u64 },
    /// The kernel programs found the owner of the call that began at `start` again, and better, when its response came. Unknown: the
    /// owner that they named first is doubtful.
    OwnerCorrected { start: Moment, owner: &'a Owner },
    /// A request is over. `open` others that travel in its direction are not.
    Ended { exchange: Box<Exchange>, ends: Arc<Ends>, open: usize },
    /// A request that had begun cannot be reported truthfully.
    Lost(Lost),
    /// A request is known only from the hole that its lost record left. The loss was counted where it happened.
    Discarded { start: Moment },
    /// More of later runs should be captured. With a direction: message heads in this direction are longer than what is
    /// captured, which is likely on all connections of the process. Without: the connection is pipelined, so its runs
    /// should be captured whole.
    CaptureMore(Option<Direction>),
    /// No more than this should be captured of later runs in the direction: messages are long, or are not parsed. Without a
    /// direction: in both, because the role is unknown.
    CaptureLess(Option<Direction>, Capture),
    /// The connection carries TLS, and its plaintext is not recorded so far.
    Encrypted,
    /// The kernel programs do not follow the connection's frames, and should.
    FollowFrames,
    /// The kernel programs proposed that a frame begins at this position of the sent or received bytes, and one does.
    FrameBegins { sent: bool, position: u64 },
    /// The connection is forgotten. This is its last report, unless it is used again.
    Forgotten,
}
