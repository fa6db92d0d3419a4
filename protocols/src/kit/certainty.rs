//! What is known about which open request the next response answers.
//!
//! ```text
//!   ┌──────────┐  a response was missed   ┌────────────┐
//!   │  Locked  │ ───────────────────────► │ Tentative  │
//!   │          │ ◄─────────────────────── │            │
//!   └──────────┘  a response is matched   └────────────┘
//!      ▲    ▲     by its run                    │ runs prove nothing,
//!      │    │                                   │ because the client pipelines
//!      │    │  one turn in which every          ▼
//!      │    │  request was answered,      ┌────────────┐
//!      │    │  or silence                 │    Lost    │
//!      │    └──────────────────────────── │            │
//!      │                                  └────────────┘
//!      │ all requests were answered,        │        ▲ a response too many,
//!      │ 16 times                           ▼        │ or one was missed
//!      │                                  ┌────────────┐
//!      └───────────────────────────────── │   Trial    │  after what was probably silence
//!                                         └────────────┘
//! ```
//!
//! Where callers share a connection without waiting for one another, a match by run is no proof. There `Tentative` and
//! `Lost` end with silence only.

use super::pace::Quiet;

/// The state, see the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// No response was missed. The next one answers the first entry of the queue.
    Locked,
    /// Responses were missed. As far as was seen, the client waits for its responses before it goes on: a response
    /// answers the last run of requests before it.
    Tentative {
        /// Requests that begin before this position of the stream may have been answered unseen.
        answered_before: u64,
    },
    /// Responses were missed, and nothing shows which request a response answers. Every request is lost.
    Lost,
    /// As `Locked`, but every request is lost until all were answered this many times. If responses are matched
    /// wrongly, there is one too many as soon as all requests are answered.
    Trial { left: u32 },
}

/// What the client does while its requests are open, as far as was seen. Each adds to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// It has one open request at a time.
    Waits,
    /// It sends several requests in a run, and waits for all responses before the next run.
    Batches,
    /// It sends requests while those of an earlier run are open. Runs do not show which responses are over.
    Pipelines,
    /// It sends in one thread and reads in another, so a response may be recorded before its request. Runs prove nothing.
    Overtakes,
}

/// How many requests and responses there were in the last run of each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    pub(super) requests: u32,
    pub(super) responses: u32,
}

const TRIAL: u32 = 16;

impl Sync {
    /// A run of requests begins after `turn`. `is_idle`: every request has its response.
    pub(super) fn request_run(&mut self, is_idle: bool, turn: Turn) {
        if *self == Self::Lost && is_idle && turn.requests > 0 && turn.requests == turn.responses {
            *self = Self::Locked;
        }
    }

    /// The same on a connection that callers share. `quiet`: whether the server had answered everything before.
    pub(super) fn shared_request_run(&mut self, is_idle: bool, quiet: Quiet) {
        *self = match (*self, quiet) {
            (Self::Lost, Quiet::Surely) => Self::Locked,
            (Self::Lost, Quiet::Seemingly) => Self::Trial { left: TRIAL },
            (Self::Tentative { .. } | Self::Trial { .. }, Quiet::Surely) if is_idle => Self::Locked,
            (Self::Trial { left: 0 | 1 }, _) if is_idle => Self::Locked,
            (Self::Trial { left }, _) if is_idle => Self::Trial { left: left - 1 },
            (unchanged, _) => unchanged,
        };
    }

    /// Requests passed unseen.
    pub(super) fn miss_requests(&mut self) {
        *self = match *self {
            Self::Locked => Self::Tentative { answered_before: 0 },
            Self::Trial { .. } => Self::Lost,
            unchanged => unchanged,
        };
    }

    /// A response was missed. `newest`: where the newest open request begins.
    pub(super) fn miss_response(&mut self, newest: Option<u64>) {
        let after = newest.map(|position| position.saturating_add(1));
        *self = match *self {
            Self::Locked => Self::Tentative { answered_before: after.unwrap_or_default() },
            Self::Tentative { answered_before } => {
                Self::Tentative { answered_before: after.unwrap_or(answered_before) }
            }
            Self::Trial { .. } => Self::Lost,
            Self::Lost => Self::Lost,
        };
    }

    /// Whether the request that begins at this position may have been answered unseen.
    pub(super) fn may_be_answered(self, position: u64) -> bool {
        match self {
            Self::Locked => false,
            Self::Tentative { answered_before } => position < answered_before,
            Self::Lost | Self::Trial { .. } => true,
        }
    }
}
