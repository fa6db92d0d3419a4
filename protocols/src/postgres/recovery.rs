//! Responses and requests that were not captured: what can still be told, and what is lost.

use super::Query;
use super::message::{Message, Outcome, outcome};
use super::session::{Entry, Session};
use crate::exchange::{Finding, LossReason};
use crate::parser::Moment;

impl Session {
    /// Responses passed whose messages are not known: part of the answer to the first that is open, and perhaps all of the
    /// answers to all of them.
    pub(super) fn unknown_response(&mut self, start: Moment, end: Moment, found: &mut Vec<Finding>) {
        self.hear();
        if self.certainty.distrusts_runs() {
            self.lose_all(found);
        }
        let newest = self.queue.iter().rev().find_map(|entry| match entry {
            Entry::Open(open) => Some(open.start.position),
            Entry::Passed { .. } | Entry::Hole { .. } => None,
        });
        self.answered_unseen = newest.or(self.answered_unseen);
        if let Some(Entry::Open(open)) = self.queue.front_mut()
            && (open.response.is_some() || start.run > open.request_end.run)
        {
            open.touch(start, end);
        }
    }

    /// The thread was lost, and is taken up again at a `ReadyForQuery`, whose last bytes before it are these.
    pub(super) fn found_ready(&mut self, before: &[u8], ready: &Message<'_>, found: &mut Vec<Finding>) {
        self.resolve_hole(ready.start.run, found);
        if matches!(self.queue.front(), Some(Entry::Hole { .. })) {
            self.ready(ready, found);
            return self.settle(found);
        }
        match self.ready_due() {
            Ready::One(last) => {
                self.drop_unanswered(last, found);
                if self.guess_outcome(before) {
                    self.ready(ready, found);
                } else {
                    self.drop_front(1, found);
                    self.certainty.ready();
                }
            }
            Ready::None => self.ready(ready, found),
            // Any of them may be this one: which responses are over isn't known.
            Ready::Several(last) => {
                self.drop_front(last + 1, found);
                self.queue.push_front(Entry::Hole { orphans: false, answered: true });
            }
        }
        self.settle(found);
    }

    /// The thread was lost, and a new run of responses begins: it answers the last run of requests (this one), and
    /// what is open from before has lost its response. Whether there was anything from before.
    pub(super) fn found_run(&mut self, last_request_run: u32, found: &mut Vec<Finding>) -> bool {
        let is_older = |entry: &Entry| match entry {
            Entry::Open(open) => open.request_end.run < last_request_run,
            Entry::Passed { last, .. } => last.run < last_request_run,
            Entry::Hole { .. } => true,
        };
        let older = self.queue.iter().take_while(|entry| is_older(entry)).count();
        // Behind a hole that nothing follows there may be more of what it hides.
        let hides = older == self.queue.len() && matches!(self.queue.back(), Some(Entry::Hole { .. }));
        self.drop_front(older - usize::from(hides), found);
        older > 0
    }

    /// Responses pass in a run from before that of the newest request, which they may answer all the same: where one thread
    /// reads what another asks, an answer may be recorded before the send of its request has returned. So runs don't tell
    /// when requests that were not seen have been answered.
    pub(super) fn distrust_runs(&mut self, found: &mut Vec<Finding>) {
        self.certainty.distrust_runs();
        if matches!(self.queue.front(), Some(Entry::Hole { .. })) {
            self.lose_all(found);
        }
    }

    /// Which responses belong to what is open, nothing will say any more.
    pub(super) fn lose_all(&mut self, found: &mut Vec<Finding>) {
        if !matches!(self.queue.make_contiguous(), [] | [Entry::Hole { .. }]) {
            self.drop_front(self.queue.len(), found);
            self.queue.push_front(Entry::Hole { orphans: false, answered: true });
        }
    }

    /// Their responses were not captured.
    fn drop_front(&mut self, count: usize, found: &mut Vec<Finding>) {
        for _ in 0..count {
            self.pop(|open, session| session.lose(&open, LossReason::ResponseMissing, found));
        }
        if count > 0 {
            self.skipping = false;
            self.certainty.lose();
        }
    }

    /// Of a pipeline's commands before the last, the answers were not captured, and when they ended isn't known.
    fn drop_unanswered(&mut self, last: usize, found: &mut Vec<Finding>) {
        if !self.skipping {
            for _ in 0..last {
                self.pop(|open, session| session.lose(&open, LossReason::ResponseMissing, found));
            }
        }
    }

    /// The answer to the first of the queue, from what is left of it before a `ReadyForQuery`. Whether that is enough.
    fn guess_outcome(&mut self, before: &[u8]) -> bool {
        let skipping = self.skipping;
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return true };
        if open.answered || skipping {
            return true;
        }
        open.answered = true;
        match outcome(before) {
            Outcome::Hidden => return false,
            Outcome::Failed => open.fail(Query::UNKNOWN_ERROR),
            Outcome::Rows(rows) if open.is_one_statement() => open.rows = Some(rows),
            // Of several statements, some were not counted.
            Outcome::Rows(_) | Outcome::Unknown => open.rows = None,
        }
        true
    }

    /// A hole is over once an answer comes in a later run than the request behind it.
    pub(super) fn resolve_hole(&mut self, run: u32, found: &mut Vec<Finding>) {
        if let Some(&Entry::Hole { answered, .. }) = self.queue.front()
            && let Some(behind) = self.queue.get(1)
            && behind.first_run().is_some_and(|behind| behind < run)
        {
            if answered {
                self.queue.pop_front();
            } else {
                self.lose_all(found);
            }
        }
    }

    /// Responses pass: requests that were not seen have been answered, if nothing was asked since.
    pub(super) fn hear(&mut self) {
        if let Some(Entry::Hole { answered, .. }) = self.queue.back_mut() {
            *answered = true;
        }
    }

    /// How many of the queue a `ReadyForQuery` can be for, and the last of them.
    fn ready_due(&self) -> Ready {
        let mut due = Ready::None;
        for (index, entry) in self.queue.iter().enumerate() {
            due = match (due, entry.ready_due(self.skipping)) {
                (due, 0) => due,
                (Ready::None, 1) => Ready::One(index),
                _ => Ready::Several(index),
            };
        }
        due
    }
}

/// How many `ReadyForQuery` are due, and where in the queue the last.
enum Ready {
    None,
    One(usize),
    Several(usize),
}
