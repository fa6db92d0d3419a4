//! The response side: says which entry a response answers, and takes it from the queue.

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
    /// A request that was not seen. `reported`: it was reported all the same.
    Unseen { reported: bool },
    /// Nothing tells which.
    Unknown,
}

/// What the run of a response tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// The front answers it. `older`: requests from before it lost their responses. `several`: more requests of its
    /// run follow.
    Front { older: bool, several: bool },
    /// The front was not seen, or there is none.
    Unseen,
    /// It may be one of several.
    Unknown,
}

impl<R: Open> InOrder<R> {
    pub fn response_run(&mut self, at: Moment) {
        if R::SHARED {
            self.pace.answered(at.nanos);
        }
        self.turn.responses = 0;
    }

    /// A response passes: requests that were not seen have been answered, if no request followed them.
    #[inline]
    pub fn hear(&mut self) {
        if let Some(Entry::Unseen { state: state @ Unseen::Unanswered, .. }) = self.entries.back_mut() {
            *state = Unseen::Answered;
        }
    }

    /// Whether responses pass in a run from before that of the newest request. Where one thread reads what another asks,
    /// a response may be recorded before the send of its request has returned.
    pub fn is_overtaken(&self, response_run: u32) -> bool {
        self.request_run.is_some_and(|requested| response_run < requested)
    }

    /// Whether a response in this run answers a run of requests of which nothing was seen. `continues`: the newest
    /// request has not ended, so that an unseen run may be the rest of it.
    fn answers_unseen_run(&self, run: u32, continues: bool) -> bool {
        self.request_run.is_some_and(|requested| {
            let unseen = run.saturating_sub(requested) / 2;
            unseen > u32::from(continues)
        })
    }

    /// Matches the response that begins at `at` by its run. It answers the last run of requests before it, and what is
    /// older lost its response. `continues`: the newest request has not ended.
    pub fn match_run(&mut self, at: Moment, continues: bool, lost: &mut impl FnMut(R)) -> Matched {
        self.hear();
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
        if is_overtaken && !self.is_only_one_asked() {
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

    /// What the next response answers. It is taken off what is due to requests that are not open.
    pub fn answer(&mut self, at: Moment, lost: &mut impl FnMut(R)) -> Answer {
        self.hear();
        self.pass_unseen(at.run, lost);
        if R::SHARED && matches!(self.sync, Sync::Tentative { .. }) && !self.client_waits_for(at) {
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

    /// Whether the newest entry is the only one that a response can answer.
    fn is_only_one_asked(&self) -> bool {
        let mut before = self.entries.iter().rev().skip(1);
        before.all(|entry| matches!(entry, Entry::Unseen { state: Unseen::Answered, .. }))
    }

    /// Whether anything was asked before the response run `run`.
    pub fn is_asked_before(&self, run: u32) -> bool {
        self.entries.iter().any(|entry| entry.run() < run)
    }

    /// Whether the request behind the front was sent later, and before the response in `response_run` to the front.
    pub fn overlaps(&self, response_run: u32) -> bool {
        match (self.entries.front(), self.entries.get(1)) {
            (Some(Entry::Open(front)), Some(behind)) => front.last_run() < behind.run() && behind.run() < response_run,
            _ => false,
        }
    }

    /// Whether all that is open was sent before the response.
    fn client_waits_for(&self, at: Moment) -> bool {
        self.entries.len() == 1 || self.entries.back().is_none_or(|newest| newest.run() < at.run)
    }

    /// A response came to no request: one passed unseen.
    pub fn infer_unseen(&mut self, response_run: u32) {
        if self.entries.is_empty() {
            let run = response_run.wrapping_sub(1);
            if self.request_run == Some(run) {
                self.observe(Client::Batches);
            }
            self.entries.push_back(Entry::Unseen { reported: 0, run, state: Unseen::Inferred });
        }
    }

    /// A client that waits has had the responses to what was not seen when it is answered what it asked later.
    #[inline]
    pub fn pass_unseen(&mut self, response_run: u32, lost: &mut impl FnMut(R)) {
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
