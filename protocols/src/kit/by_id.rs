//! Open requests of a protocol whose responses carry the id of their request.
//!
//! HTTP/2 stream ids, Kafka correlation ids, memcached opaques and DNS ids are such ids. Responses may come in any
//! order, and a response that was not captured says nothing about the others. Each id is in one of these states:
//!
//! ```text
//!            open                  finish
//!   free ───────────► Waiting ──────────────► free
//!                       │  │
//!       give_up_before  │  │ open (the id is used twice at once)
//!                       ▼  ▼
//!             Abandoned   Ambiguous ── finish, once for each ──► free
//!                 │ finish
//!                 ▼
//!                free
//! ```
//!
//! - `Waiting`: the request is open.
//! - `Abandoned`: the request was reported as aged. Its late response answers nothing else.
//! - `Ambiguous`: two requests with this id were open at once. Nothing shows which of them a response answers. Both are
//!   lost, and so is every further request with this id until all responses have come.

use std::collections::HashMap;
use std::hash::Hash;

use crate::{LossReason, Moment};

/// A bounded table of open requests.
///
/// `I` is the id, and `R` is what the protocol keeps of a request. The table reports nothing itself. It hands back each
/// request exactly once, and the parser makes a finding of it.
///
/// ```
/// use onlooker_protocols::Moment;
/// use onlooker_protocols::kit::by_id::{Answered, ById, Opened};
///
/// let mut requests = ById::new(100);
/// assert!(matches!(requests.open(7, Moment::default(), "GET"), Opened::Waiting));
/// assert_eq!(requests.finish(7), Answered::Request("GET"));
/// assert_eq!(requests.finish(7), Answered::Unknown);
/// ```
#[derive(Debug)]
pub struct ById<I, R> {
    entries: HashMap<I, Entry<R>>,
    limit: usize,
    waiting: usize,
    /// Requests that found no room. As many responses with unknown ids are theirs.
    refused: u64,
    /// Requests opened so far: the serial number of the next.
    opened: u64,
    /// Requests with a lower serial number may have been answered by a response that was not captured.
    doubtful_before: u64,
}

#[derive(Debug)]
enum Entry<R> {
    Waiting { start: Moment, serial: u64, request: R },
    Abandoned,
    Ambiguous { responses_due: u32, newest: Moment },
}

/// What became of a request that was opened. Requests handed back are lost, for [`reason`](Self::reason).
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<R> {
    Waiting,
    /// It waits. The response to the earlier request with this id was not captured.
    Replaced {
        earlier: R,
    },
    /// An earlier request with this id is still open, and all its responses would have been seen.
    Ambiguous {
        earlier: Option<R>,
        this: R,
    },
    /// As many requests as may be are open.
    Full {
        this: R,
    },
}

/// What a response answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<R> {
    Request(R),
    /// A request that was reported before.
    Reported,
    /// No request with this id was seen.
    Unknown,
}

impl<R> Opened<R> {
    /// Why the requests handed back are lost.
    #[must_use]
    pub fn reason(&self) -> LossReason {
        match self {
            Self::Full { .. } => LossReason::TooManyOpen,
            Self::Waiting | Self::Replaced { .. } | Self::Ambiguous { .. } => LossReason::ResponseMissing,
        }
    }
}

impl<I: Copy + Eq + Hash, R> ById<I, R> {
    /// At most `limit` ids are remembered.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), limit, waiting: 0, refused: 0, opened: 0, doubtful_before: 0 }
    }

    /// Adds a request whose first byte passed at `start`.
    pub fn open(&mut self, id: I, start: Moment, request: R) -> Opened<R> {
        let serial = self.opened;
        self.opened += 1;
        match self.entries.remove(&id) {
            // The client may use the id again, because it waits for the earlier response no longer.
            Some(Entry::Abandoned) => {
                self.wait(id, Entry::Waiting { start, serial, request });
                Opened::Waiting
            }
            Some(Entry::Waiting { serial: before, request: earlier, .. }) => {
                self.waiting -= 1;
                if before < self.doubtful_before {
                    self.wait(id, Entry::Waiting { start, serial, request });
                    return Opened::Replaced { earlier };
                }
                self.entries.insert(id, Entry::Ambiguous { responses_due: 2, newest: start });
                Opened::Ambiguous { earlier: Some(earlier), this: request }
            }
            Some(Entry::Ambiguous { responses_due, .. }) => {
                let responses_due = responses_due.saturating_add(1);
                self.entries.insert(id, Entry::Ambiguous { responses_due, newest: start });
                Opened::Ambiguous { earlier: None, this: request }
            }
            None if self.is_full() => {
                self.refused += 1;
                Opened::Full { this: request }
            }
            None => {
                self.wait(id, Entry::Waiting { start, serial, request });
                Opened::Waiting
            }
        }
    }

    /// The open request with this id, for a response that has begun and not ended.
    pub fn get_mut(&mut self, id: I) -> Option<&mut R> {
        match self.entries.get_mut(&id) {
            Some(Entry::Waiting { request, .. }) => Some(request),
            Some(Entry::Abandoned | Entry::Ambiguous { .. }) | None => None,
        }
    }

    /// The ids of the open requests for which `is_wanted` holds, the oldest request first.
    #[must_use]
    pub fn ids(&self, is_wanted: impl Fn(I) -> bool) -> Vec<I> {
        let serial_and_id = |(&id, entry): (&I, &Entry<R>)| match entry {
            Entry::Waiting { serial, .. } if is_wanted(id) => Some((*serial, id)),
            _ => None,
        };
        let mut wanted: Vec<_> = self.entries.iter().filter_map(serial_and_id).collect();
        wanted.sort_unstable_by_key(|&(serial, _)| serial);
        wanted.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether a request with this id is open, or was handed back before its response came.
    pub fn is_known(&self, id: I) -> bool {
        self.entries.contains_key(&id)
    }

    /// Takes a request that is lost before its response is complete. The rest of its response will be
    /// [`Answered::Reported`].
    pub fn abandon(&mut self, id: I) -> Answered<R> {
        let answered = self.finish(id);
        if matches!(answered, Answered::Request(_)) {
            self.entries.insert(id, Entry::Abandoned);
        }
        answered
    }

    /// Takes the request whose response is complete.
    pub fn finish(&mut self, id: I) -> Answered<R> {
        match self.entries.remove(&id) {
            Some(Entry::Waiting { request, .. }) => {
                self.waiting -= 1;
                Answered::Request(request)
            }
            Some(Entry::Ambiguous { responses_due, newest }) if responses_due > 1 => {
                self.entries.insert(id, Entry::Ambiguous { responses_due: responses_due - 1, newest });
                Answered::Reported
            }
            Some(Entry::Abandoned | Entry::Ambiguous { .. }) => Answered::Reported,
            None if self.refused > 0 => {
                self.refused -= 1;
                Answered::Reported
            }
            None => Answered::Unknown,
        }
    }

    /// Notes that responses passed unseen. They may have answered any request that is open now.
    pub fn miss_responses(&mut self) {
        self.doubtful_before = self.opened;
    }

    /// How many requests are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes the requests that began before `oldest` (nanoseconds, as in [`Moment`]), oldest first.
    ///
    /// Each comes with whether its response may have passed unseen: if so it is lost, otherwise it is aged. Their late
    /// responses will be [`Answered::Reported`].
    pub fn give_up_before(&mut self, oldest: u64) -> Vec<(R, bool)> {
        self.entries.retain(|_, entry| !matches!(entry, Entry::Ambiguous { newest, .. } if newest.nanos < oldest));
        self.take(|start| start.nanos < oldest)
    }

    /// Takes all requests at the end of the connection, oldest first, each with whether its response may have passed
    /// unseen.
    pub fn close(&mut self) -> Vec<(R, bool)> {
        let open = self.take(|_| true);
        self.entries.clear();
        open
    }

    fn take(&mut self, is_taken: impl Fn(Moment) -> bool) -> Vec<(R, bool)> {
        let mut taken = Vec::new();
        for entry in self.entries.values_mut() {
            if matches!(entry, Entry::Waiting { start, .. } if is_taken(*start))
                && let Entry::Waiting { serial, request, .. } = std::mem::replace(entry, Entry::Abandoned)
            {
                taken.push((serial, request));
            }
        }
        self.waiting -= taken.len();
        taken.sort_unstable_by_key(|&(serial, _)| serial);
        taken.into_iter().map(|(serial, request)| (request, serial < self.doubtful_before)).collect()
    }

    fn wait(&mut self, id: I, entry: Entry<R>) {
        self.entries.insert(id, entry);
        self.waiting += 1;
    }

    /// Whether there is no room, also after the places of abandoned requests were freed.
    fn is_full(&mut self) -> bool {
        if self.entries.len() >= self.limit && self.entries.len() > self.waiting {
            self.entries.retain(|_, entry| !matches!(entry, Entry::Abandoned));
        }
        self.entries.len() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 3;

    fn at(nanos: u64) -> Moment {
        Moment { nanos, ..Moment::default() }
    }

    fn table(ids: &[u32]) -> ById<u32, u32> {
        let mut table = ById::new(LIMIT);
        for &id in ids {
            assert_eq!(table.open(id, at(id.into()), id), Opened::Waiting);
        }
        table
    }

    #[test]
    fn responses_answer_by_id_in_any_order() {
        let mut table = table(&[1, 2, 3]);
        assert_eq!(table.get_mut(3), Some(&mut 3));
        assert_eq!(
            [2, 3, 1, 1].map(|id| table.finish(id)),
            [Answered::Request(2), Answered::Request(3), Answered::Request(1), Answered::Unknown]
        );
        assert!(table.is_empty());
    }

    #[test]
    fn an_id_can_be_used_again_after_its_response() {
        let mut table = table(&[1]);
        table.finish(1);
        assert_eq!(table.open(1, at(2), 10), Opened::Waiting);
        assert_eq!(table.finish(1), Answered::Request(10));
    }

    #[test]
    fn of_two_open_requests_with_one_id_neither_is_answered() {
        let mut table = table(&[1, 2]);
        let opened = table.open(1, at(3), 10);
        assert_eq!(opened.reason(), LossReason::ResponseMissing);
        assert_eq!(opened, Opened::Ambiguous { earlier: Some(1), this: 10 });
        assert_eq!(table.open(1, at(4), 11), Opened::Ambiguous { earlier: None, this: 11 });
        assert_eq!((table.len(), table.get_mut(1)), (1, None));
        assert_eq!([1, 1, 1].map(|id| table.finish(id)), [Answered::Reported, Answered::Reported, Answered::Reported]);
        assert_eq!(table.finish(1), Answered::Unknown);
        assert_eq!(table.open(1, at(5), 12), Opened::Waiting);
    }

    #[test]
    fn after_missed_responses_an_id_that_is_used_again_is_the_new_requests() {
        let mut table = table(&[1]);
        table.miss_responses();
        assert_eq!(table.open(1, at(2), 10), Opened::Replaced { earlier: 1 });
        assert_eq!(table.finish(1), Answered::Request(10));
    }

    #[test]
    fn an_aged_request_is_handed_back_once_and_its_late_response_answers_nothing() {
        let mut table = table(&[1, 2]);
        assert_eq!(table.give_up_before(2), [(1, false)]);
        assert_eq!(table.give_up_before(2), []);
        assert_eq!((table.len(), table.finish(1), table.finish(1)), (1, Answered::Reported, Answered::Unknown));
        assert_eq!(table.close(), [(2, false)]);
    }

    #[test]
    fn a_request_that_is_abandoned_is_handed_back_once_and_stays_known() {
        let mut table = table(&[1]);
        assert_eq!((table.abandon(1), table.is_known(1), table.len()), (Answered::Request(1), true, 0));
        assert_eq!((table.abandon(1), table.is_known(1)), (Answered::Reported, false));
        assert_eq!(table.abandon(2), Answered::Unknown);
    }

    #[test]
    fn an_aged_id_can_be_used_again() {
        let mut table = table(&[1]);
        table.give_up_before(u64::MAX);
        assert_eq!(table.open(1, at(2), 10), Opened::Waiting);
        assert_eq!(table.finish(1), Answered::Request(10));
    }

    #[test]
    fn an_ambiguous_id_is_free_again_when_its_requests_are_aged() {
        let mut table = table(&[1]);
        table.open(1, at(2), 10);
        table.give_up_before(3);
        assert_eq!(table.open(1, at(4), 11), Opened::Waiting);
    }

    #[test]
    fn at_the_end_all_are_handed_back_in_order_and_only_earlier_ones_may_have_been_answered() {
        let mut table = table(&[3, 1]);
        table.miss_responses();
        table.open(2, at(9), 2);
        assert_eq!(table.close(), [(3, true), (1, true), (2, false)]);
        assert_eq!((table.len(), table.close()), (0, vec![]));
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_and_their_responses_are_known_as_theirs() {
        let mut table = table(&[1, 2, 3]);
        let refused = table.open(4, at(4), 4);
        assert_eq!((refused.reason(), table.len()), (LossReason::TooManyOpen, LIMIT));
        assert_eq!((table.finish(4), table.finish(4)), (Answered::Reported, Answered::Unknown));
        table.finish(2);
        assert_eq!(table.open(5, at(5), 5), Opened::Waiting);
    }

    #[test]
    fn abandoned_requests_make_room() {
        let mut table = table(&[1, 2, 3]);
        table.give_up_before(3);
        assert_eq!(table.open(4, at(4), 4), Opened::Waiting);
        assert_eq!((table.len(), table.finish(1)), (2, Answered::Unknown));
    }
}
