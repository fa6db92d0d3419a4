//! What is in the queue: open requests, and what else responses may answer.

use super::Open;

/// One request that responses may answer, or several.
#[derive(Debug)]
pub enum Entry<R> {
    Open(R),
    /// Requests that were reported before they were answered, with the responses still to come.
    Reported {
        responses: u64,
        run: u32,
    },
    /// Requests that were not seen, any number of them.
    Unseen {
        /// How many responses belong to requests that were counted nevertheless.
        reported: u64,
        /// The run that the hole begins in.
        run: u32,
        state: Unseen,
    },
}

/// What is known of requests that were not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// Only a response without a request shows that there were any.
    Inferred,
    /// No response has passed since the hole, so they may be of the same run as the request behind it.
    Unanswered,
    /// Responses have passed since.
    Answered,
}

impl<R> Entry<R> {
    /// The request, if it is open.
    pub fn open(&self) -> Option<&R> {
        match self {
            Self::Open(request) => Some(request),
            Self::Reported { .. } | Self::Unseen { .. } => None,
        }
    }

    /// The same, by value.
    pub fn into_open(self) -> Option<R> {
        match self {
            Self::Open(request) => Some(request),
            Self::Reported { .. } | Self::Unseen { .. } => None,
        }
    }

    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::Unseen { .. })
    }
}

impl<R: Open> Entry<R> {
    /// The run of its first byte.
    pub(super) fn run(&self) -> u32 {
        match self {
            Self::Open(request) => request.start().run,
            Self::Reported { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }

    /// The run of its last byte.
    pub(super) fn last_run(&self) -> u32 {
        match self {
            Self::Open(request) => request.last_run(),
            Self::Reported { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }
}
