//! The response side: finds the entry that a response answers, and takes it from the queue.

use std::collections::VecDeque;

use super::{Client, Entry, InOrder, Open, Sync, Unseen};
use crate::Moment;

/// An empty queue keeps room for this many entries. What a long pipeline took is given back.
const IDLE_CAPACITY: usize = 64;

/// What a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The open request at the front.
    Front,
    /// A request that was reported before.
    Reported,
    /// A request that was not seen. `reported`: it was counted nevertheless.
    Unseen { reported: bool },
    /// Nothing shows which.
    Unknown,
}

/// What the run of a response shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// The front answers it. `older`: requests from before it lost their responses. `several`: more requests of its
    /// run follow.
    Front { older: bool, several: bool },
    /// A request that was not seen is answered, or the queue is empty.
    Unseen,
    /// It may answer any of several.
    Unknown,
}

impl<R: Open> InOrder<R> {
    #[inline]
    pub fn response_run(&mut self, at: Moment) {
        if R::SHARED {
            self.pace.response(at.nanos);
        }
        self.turn.responses = 0;
    }

    /// Notes that a response passes. Unseen requests are answered, if no request follows them.
    #[inline]
    pub fn note_response(&mut self) {
        if let Some(Entry::Unseen { state: state @ Unseen::Unanswered, .. }) = self.entries.back_mut() {
            *state = Unseen::Answered;
        }
    }

    /// Whether a response is from an earlier run than the newest request. If one thread sends and another reads, a response
    /// may be recorded before the send of its request returns.
    pub fn is_overtaken(&self, response_run: u32) -> bool {
        self.request_run.is_some_and(|requested| response_run < requested)
    }

    /// Whether a response in this run answers an unseen run of requests. `continues`: the newest request has not ended, so
    /// one unseen run may be the rest of it.
    fn answers_unseen_run(&self, run: u32, continues: bool) -> bool {
        self.request_run.is_some_and(|requested| {
            let unseen = run.saturating_sub(requested) / 2;
            unseen > u32::from(continues)
        })
    }

    /// Matches the response that begins at `at` by its run. It answers the last run of requests before it. Older requests
    /// are lost. `continues`: the newest request has not ended.
    pub fn match_run(&mut self, at: Moment, continues: bool, lost: &mut impl FnMut(R)) -> Matched {
        self.note_response();
        if self.answers_unseen_run(at.run, continues) {
            // If the hole was seen already, it holds the request.
            let unseen = self.entries.pop_back_if(|newest| newest.is_unseen());
            self.lose_front(self.entries.len(), lost);
            let run = at.run.wrapping_sub(1);
            let inferred = Entry::Unseen { reported: 0, run, state: Unseen::Inferred };
            self.entries.push_back(unseen.unwrap_or(inferred));
            return Matched::Unseen;
        }
        let is_overtaken = self.is_overtaken(at.run);
        if is_overtaken && !self.has_one_candidate() {
            self.abandon(at.run, lost);
            return Matched::Unknown;
        }
        let is_before = |entry: &Entry<R>| is_overtaken || entry.run() < at.run;
        let Some(last) = self.entries.iter().rposition(is_before) else { return Matched::Unseen };
        if self.entries[last].is_unseen() {
            self.lose_front(last, lost);
            return Matched::Unseen;
        }
        let run = self.entries[last].run();
        let of_run = |&index: &usize| !self.entries[index].is_unseen() && self.entries[index].run() == run;
        let first = (0..=last).rev().take_while(of_run).last().unwrap_or(last);
        let before = first.checked_sub(1).and_then(|before| self.entries.get(before));
        if matches!(before, Some(Entry::Unseen { state: Unseen::Unanswered, .. })) {
            let reported = self.lose_front(last + 1, lost);
            let run = at.run.wrapping_sub(1);
            self.entries.push_front(Entry::Unseen { reported, run, state: Unseen::Answered });
            return Matched::Unknown;
        }
        self.lose_front(first, lost);
        Matched::Front { older: first > 0, several: last > first }
    }

    /// Finds what the next response answers. Counts it, if that is no open request.
    #[inline]
    pub fn answer(&mut self, at: Moment, lost: &mut impl FnMut(R)) -> Answer {
        // The only open request, as nearly always.
        if self.entries.len() == 1 && matches!(self.entries.front(), Some(Entry::Open(_))) {
            return Answer::Front;
        }
        self.answer_one_of_several(at, lost)
    }

    fn answer_one_of_several(&mut self, at: Moment, lost: &mut impl FnMut(R)) -> Answer {
        self.note_response();
        self.settle_unseen(at.run, lost);
        if R::SHARED && matches!(self.sync, Sync::Tentative { .. }) && !self.is_newer_than_all(at) {
            self.lose_sync(lost);
            return Answer::Unknown;
        }
        match self.entries.front_mut() {
            Some(Entry::Open(_)) => Answer::Front,
            Some(Entry::Reported { responses, .. }) => {
                *responses = responses.saturating_sub(1);
                if *responses == 0 {
                    self.pop_front();
                }
                Answer::Reported
            }
            Some(Entry::Unseen { reported: reported @ 1.., .. }) => {
                *reported -= 1;
                Answer::Unseen { reported: true }
            }
            Some(Entry::Unseen { .. }) => Answer::Unseen { reported: false },
            None if matches!(self.sync, Sync::Trial { .. }) => {
                self.lose_sync(lost);
                Answer::Unknown
            }
            None => {
                self.infer_unseen(at.run);
                Answer::Unseen { reported: false }
            }
        }
    }

    /// Whether only the newest entry can be answered.
    fn has_one_candidate(&self) -> bool {
        let mut before = self.entries.iter().rev().skip(1);
        before.all(|entry| matches!(entry, Entry::Unseen { state: Unseen::Answered, .. }))
    }

    /// Whether a request was sent before the response run `run`.
    pub fn has_request_before(&self, run: u32) -> bool {
        self.entries.iter().any(|entry| entry.run() < run)
    }

    /// Whether the request behind the front was sent later, and before the response in `response_run` to the front.
    pub fn overlaps(&self, response_run: u32) -> bool {
        match (self.entries.front(), self.entries.get(1)) {
            (Some(Entry::Open(front)), Some(behind)) => front.last_run() < behind.run() && behind.run() < response_run,
            _ => false,
        }
    }

    /// Whether the response is newer than all open requests, or there is only one.
    fn is_newer_than_all(&self, at: Moment) -> bool {
        self.entries.len() == 1 || self.entries.back().is_none_or(|newest| newest.run() < at.run)
    }

    /// Notes that a request passed unseen, if a response comes while the queue is empty.
    pub fn infer_unseen(&mut self, response_run: u32) {
        if self.entries.is_empty() {
            let run = response_run.wrapping_sub(1);
            // A request that was read by a call without a record looks the same: it is in no run of its own.
            if R::BATCHED && self.request_run == Some(run) {
                self.observe(Client::Batches);
            }
            self.entries.push_back(Entry::Unseen { reported: 0, run, state: Unseen::Inferred });
        }
    }

    /// Removes unseen requests from the front once a later request is answered. A client that waits has their responses by
    /// then.
    #[inline]
    pub fn settle_unseen(&mut self, response_run: u32, lost: &mut impl FnMut(R)) {
        if self.entries.front().is_some_and(Entry::is_unseen) {
            self.settle_unseen_front(response_run, lost);
        }
    }

    #[cold]
    fn settle_unseen_front(&mut self, response_run: u32, lost: &mut impl FnMut(R)) {
        while let Some(&Entry::Unseen { state, reported, .. }) = self.entries.front()
            && self.entries.get(1).is_some_and(|behind| behind.run() < response_run)
        {
            if state != Unseen::Unanswered {
                self.entries.pop_front();
                continue;
            }
            let behind = self.entries.iter().take_while(|entry| entry.run() < response_run).count();
            let reported = reported.saturating_add(self.lose_front(behind, lost));
            let run = response_run.wrapping_sub(1);
            self.entries.push_front(Entry::Unseen { reported, run, state: Unseen::Answered });
        }
    }

    /// Takes the front, whose response ended in `run`.
    #[inline]
    pub fn finish(&mut self, run: u32) -> Option<Entry<R>> {
        self.turn.responses = self.turn.responses.saturating_add(1);
        if self.entries.len() > 1 && self.overlaps(run) {
            self.observe(Client::Pipelines);
        }
        self.pop_front()
    }

    #[inline]
    pub fn pop_front(&mut self) -> Option<Entry<R>> {
        let front = self.entries.pop_front();
        if self.entries.is_empty() && self.entries.capacity() > IDLE_CAPACITY {
            self.entries = VecDeque::new();
        }
        front
    }
}
