//! Open requests of a protocol whose responses come in the order of their requests.
//!
//! The open requests are a queue, and a response answers its front:
//!
//! ```text
//!   requests ──► push                                                  finish ──► exchange
//!   holes ─────► push_unseen     back [ Open, Unseen, Open, Open ] front
//!                                                                      answer ◄── responses
//! ```
//!
//! Nothing in a response names its request. After a request or a response was missed, every later response would be
//! matched with the wrong request. So the queue also holds what was not seen, as far as that is known, and
//! [`certainty`](super::certainty) says whether the front may be trusted.
//!
//! After a loss the runs tell which request a response answers. A client that waits for its responses before it goes on
//! has all earlier responses when it sends the next run of requests. So:
//!
//! - A response in run `r` answers the last run of requests before `r`. Older requests lost their responses.
//! - The runs of the two directions alternate. If the newest request that was seen is from before run `r - 1`, then
//!   requests passed unseen in run `r - 1`, and the response answers one of those.
//! - Requests that passed unseen directly before a request may belong to its run. Then their responses come first, and
//!   nothing shows which response is the last of them.
//!
//! Protocol code decides what a request and a response are, and reports them. A method that loses requests hands each to
//! its argument `lost`.

mod entry;
mod losses;
mod requests;
mod responses;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::certainty::{Client, Sync, Turn};
use super::pace::Pace;
use crate::Moment;
pub use entry::{Entry, Unseen};
pub use responses::{Answer, Matched};

/// How many requests may be open on a connection. Some drivers send a batch of 10,000 before they read a response.
pub const DEEPEST_PIPELINE: usize = 16_384;

/// An open request.
pub trait Open {
    /// Whether callers that do not wait for one another commonly share a connection.
    const SHARED: bool;
    /// Whether clients commonly send several requests before they read the responses.
    const BATCHED: bool;
    /// How many entries are kept.
    const LIMIT: usize = DEEPEST_PIPELINE;

    /// Its first byte.
    fn start(&self) -> Moment;

    /// The run of its last byte that has passed.
    fn last_run(&self) -> u32;

    /// How many responses it will have, at least.
    fn responses(&self) -> u64 {
        1
    }
}

/// The queue of open requests of one connection. See the [module](self).
#[derive(Debug)]
pub struct InOrder<R> {
    entries: VecDeque<Entry<R>>,
    sync: Sync,
    client: Client,
    turn: Turn,
    /// The run of the newest bytes of requests.
    request_run: Option<u32>,
    pace: Pace,
}

impl<R: Open> InOrder<R> {
    /// `from_start`: nothing passed on the connection before.
    pub fn new(from_start: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            sync: if from_start { Sync::Locked } else { Sync::Tentative { answered_before: 0 } },
            client: Client::Waits,
            turn: Turn::default(),
            request_run: None,
            pace: Pace::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= R::LIMIT
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry<R>> {
        self.entries.iter()
    }

    pub fn entry(&self, index: usize) -> Option<&Entry<R>> {
        self.entries.get(index)
    }

    /// The open request that the next response answers.
    #[inline]
    pub fn front_mut(&mut self) -> Option<&mut R> {
        match self.entries.front_mut() {
            Some(Entry::Open(request)) => Some(request),
            _ => None,
        }
    }

    pub fn front(&self) -> Option<&R> {
        self.entries.front().and_then(Entry::open)
    }

    /// The newest request, if nothing was missed behind it.
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut R> {
        match self.entries.back_mut() {
            Some(Entry::Open(request)) => Some(request),
            _ => None,
        }
    }

    /// Whether every request that was seen has its response.
    pub fn is_idle(&self) -> bool {
        self.entries.iter().all(|entry| matches!(entry, Entry::Unseen { state: Unseen::Inferred, .. }))
    }
}

/// Requests without a response.
impl<R: Open> InOrder<R> {
    /// Reports the open requests that began before `oldest` (nanoseconds, as in [`Moment`]), each with whether it may have
    /// been answered unseen. They stay in the queue as `Reported`, or as the request that `report` returns.
    pub fn give_up_before(&mut self, oldest: u64, mut report: impl FnMut(R, bool) -> Option<R>) {
        for entry in &mut self.entries {
            let Some(request) = entry.open().filter(|request| request.start().nanos < oldest) else { continue };
            let reported = Entry::Reported { responses: request.responses(), run: request.start().run };
            let Entry::Open(request) = std::mem::replace(entry, reported) else { continue };
            let may_be_answered = self.sync.may_be_answered(request.start().position);
            if let Some(kept) = report(request, may_be_answered) {
                *entry = Entry::Open(kept);
            }
        }
    }

    /// Reports all open requests at the end of the connection, each with whether it may have been answered unseen.
    pub fn close(&mut self, mut report: impl FnMut(R, bool)) {
        while let Some(entry) = self.pop_front() {
            if let Entry::Open(request) = entry {
                let may_be_answered = self.sync.may_be_answered(request.start().position);
                report(request, may_be_answered);
            }
        }
    }
}
