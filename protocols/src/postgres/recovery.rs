//! Responses that were not captured: which requests can still be reported, and which are lost.

use super::UNKNOWN_ERROR;
use super::message::{Message, Outcome, outcome};
use super::open::{Answer, Request};
use super::session::Session;
use crate::exchange::Finding;
use crate::kit::certainty::Client;
use crate::kit::in_order::{Entry, Matched};
use crate::moment::Moment;
use crate::sql::Dialect;

impl Session {
    /// Responses passed whose messages are unknown. They are part of the answer to the first open request, and may be
    /// all of the answers to all open requests.
    pub(super) fn unknown_response(&mut self, start: Moment, end: Moment, found: &mut Vec<Finding>) {
        if self.requests.is_empty() {
            self.release_preparation(found);
        }
        // A ParameterStatus may be among them.
        self.dialect = Dialect::PostgresUnknown;
        self.requests.note_response();
        if self.requests.client() == Client::Overtakes {
            self.abandon(start.run, found);
        }
        self.requests.miss_response();
        if let Some(open) = self.requests.front_mut()
            && (open.response.is_some() || start.run > open.request_end.run)
        {
            open.touch(start, end);
        }
    }

    /// The framing is lost, and a run of responses begins at `at`. Returns whether its first bytes begin a response.
    /// `follows_unrecorded`: bytes directly before were not recorded.
    pub(super) fn match_run(&mut self, at: Moment, follows_unrecorded: bool, found: &mut Vec<Finding>) -> bool {
        let is_startup = self.requests.back_mut().is_some_and(|open| open.request == Request::Startup);
        let continues = self.copying || is_startup;
        let before = self.requests.len();
        let (requests, mut lost) = self.losing(found);
        let matched = requests.match_run(at, continues, &mut lost);
        drop(lost);
        if self.requests.len() < before {
            self.skipping = false;
        }
        match matched {
            // If nothing older is open, the bytes before are the beginning of this response.
            Matched::Front { older, .. } => !follows_unrecorded || older,
            Matched::Unseen => !follows_unrecorded || !self.requests.is_empty(),
            Matched::Unknown => true,
        }
    }

    /// The framing was lost, and `ready` ends the lost part. `before` are the last bytes before it.
    pub(super) fn found_ready(&mut self, before: &[u8], ready: &Message<'_>, found: &mut Vec<Finding>) {
        self.settle_unseen(ready.start.run, found);
        self.requests.infer_unseen(ready.start.run);
        if self.requests.entry(0).is_some_and(Entry::is_unseen) {
            self.ready(ready, found);
            return self.settle(found);
        }
        match self.ready_due() {
            Ready::One(last) => {
                self.lose_unanswered(last, found);
                if self.guess_outcome(before) {
                    self.ready(ready, found);
                } else {
                    self.lose_front(1, found);
                }
            }
            Ready::None => self.ready(ready, found),
            // It may belong to any of them, so it is unknown which responses are over.
            Ready::Several(last) => {
                self.skipping = false;
                let (requests, mut lost) = self.losing(found);
                requests.abandon_front(last + 1, ready.start.run, &mut lost);
            }
        }
        self.settle(found);
    }

    /// A response passes in a run from before that of the newest request. From now on runs prove nothing.
    pub(super) fn observe_overtaking(&mut self, run: u32, found: &mut Vec<Finding>) {
        self.requests.observe(Client::Overtakes);
        if self.requests.entry(0).is_some_and(Entry::is_unseen) {
            self.abandon(run, found);
        }
    }

    /// Loses the open requests, because nothing shows which responses are theirs.
    fn abandon(&mut self, run: u32, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.abandon(run, &mut lost);
        drop(lost);
        self.skipping = false;
    }

    pub(super) fn settle_unseen(&mut self, run: u32, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.settle_unseen(run, &mut lost);
    }

    fn lose_front(&mut self, count: usize, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.lose_front(count, &mut lost);
        drop(lost);
        self.skipping &= count == 0;
    }

    /// Loses a pipeline's commands before the last. Their answers were not captured.
    fn lose_unanswered(&mut self, last: usize, found: &mut Vec<Finding>) {
        if !self.skipping {
            let (requests, mut lost) = self.losing(found);
            requests.drop_front(last, &mut lost);
        }
    }

    /// Completes the first request from the last bytes of its answer. Returns whether they are enough.
    fn guess_outcome(&mut self, before: &[u8]) -> bool {
        let skipping = self.skipping;
        let Some(open) = self.requests.front_mut() else { return true };
        if open.answer == Answer::Whole || skipping {
            return true;
        }
        open.answer = Answer::Whole;
        match outcome(before) {
            Outcome::Hidden => return false,
            Outcome::Failed => open.fail(UNKNOWN_ERROR),
            Outcome::Rows(rows) if open.is_one_statement() => open.rows = Some(rows),
            // The rows of the other statements are unknown.
            Outcome::Rows(_) | Outcome::Unknown => open.rows = None,
        }
        true
    }

    /// How many requests a `ReadyForQuery` can belong to, and the last of them.
    fn ready_due(&self) -> Ready {
        let mut due = Ready::None;
        for (index, entry) in self.requests.entries().enumerate() {
            due = match (due, entry.ready_due(self.skipping)) {
                (due, 0) => due,
                (Ready::None, 1) => Ready::One(index),
                _ => Ready::Several(index),
            };
        }
        due
    }
}

/// How many requests wait for a `ReadyForQuery`, and the index of the last.
enum Ready {
    None,
    One(usize),
    Several(usize),
}
