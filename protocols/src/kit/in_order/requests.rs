//! The request side: adds to the queue.

use super::{Client, Entry, InOrder, Open, Sync, Unseen};
use crate::Moment;

impl<R: Open> InOrder<R> {
    /// Begins a run of requests at `at`. Nothing had passed since `silent_since` (nanoseconds, 0 if nothing ever had).
    #[inline]
    pub fn request_run(&mut self, at: Moment, silent_since: u64) {
        self.request_run = Some(at.run);
        if self.sync != Sync::Locked {
            self.recover(at, silent_since);
        }
        if R::SHARED {
            self.pace.request(at.nanos);
        }
        self.turn.requests = 0;
    }

    /// Synchronization may have come back before the run of requests that begins at `at`.
    #[cold]
    fn recover(&mut self, at: Moment, silent_since: u64) {
        let is_idle = self.is_idle();
        if R::SHARED {
            let was_lost = self.is_lost();
            self.sync.shared_request_run(is_idle, self.pace.quiet(silent_since, at.nanos));
            if was_lost && !self.is_lost() {
                self.entries.clear();
            }
        } else {
            self.sync.request_run(is_idle, self.turn);
        }
    }

    /// Adds an open request.
    #[inline]
    pub fn push(&mut self, request: R) {
        let run = request.start().run;
        if !self.entries.is_empty() {
            self.settle_back(run);
        }
        self.turn.requests = self.turn.requests.saturating_add(1);
        self.entries.push_back(Entry::Open(request));
    }

    /// Expects `more` responses to requests that are reported already.
    pub fn push_reported(&mut self, more: u64, run: u32) {
        self.settle_back(run);
        let is_full = self.is_full();
        match self.entries.back_mut() {
            Some(Entry::Reported { responses, run: last }) if *last == run || is_full => {
                *responses = responses.saturating_add(more);
            }
            _ => self.entries.push_back(Entry::Reported { responses: more, run }),
        }
    }

    /// Adds requests that pass unseen, in a hole that begins in `run`. `counted` of them are reported nevertheless. `false`
    /// if a response has shown them already.
    pub fn push_unseen(&mut self, counted: u64, run: u32) -> bool {
        match self.entries.back_mut() {
            Some(Entry::Unseen { state: state @ Unseen::Inferred, run: inferred, .. }) => {
                // One request of the hole was answered. If a client that batches sent it after another of the same run, it
                // may have sent more of them in the run that follows.
                let may_hold_more = *inferred == run && (R::BATCHED || self.client >= Client::Batches);
                *state = if may_hold_more { Unseen::Unanswered } else { Unseen::Answered };
                return false;
            }
            Some(Entry::Unseen { reported, state, .. }) => {
                *reported = reported.saturating_add(counted);
                *state = Unseen::Unanswered;
            }
            _ => self.entries.push_back(Entry::Unseen { reported: counted, run, state: Unseen::Unanswered }),
        }
        true
    }

    /// Adds requests that may have passed unseen and been answered, before the next request in `run`.
    pub fn push_hole(&mut self, run: u32) {
        match self.entries.back_mut() {
            Some(Entry::Unseen { state: state @ Unseen::Inferred, .. }) => *state = Unseen::Answered,
            Some(Entry::Unseen { .. }) => {}
            _ => self.entries.push_back(Entry::Unseen { reported: 0, run, state: Unseen::Answered }),
        }
    }

    /// Removes the newest request.
    pub fn pop_back(&mut self) -> Option<Entry<R>> {
        self.entries.pop_back()
    }

    /// Reconsiders the newest entry, because a request in `run` follows it.
    fn settle_back(&mut self, run: u32) {
        match self.entries.back_mut() {
            // A hole would have shown before the request.
            Some(Entry::Unseen { state: Unseen::Inferred, .. }) => {
                self.entries.pop_back();
            }
            // The hole holds at least one whole run of requests. A client that has one request open at a time sent it
            // and had its response.
            Some(Entry::Unseen { state: state @ Unseen::Unanswered, run: before, .. })
                if self.client == Client::Waits && run.wrapping_sub(*before) >= 4 =>
            {
                *state = Unseen::Answered;
            }
            Some(Entry::Open(before)) if before.last_run() == run => self.client = self.client.max(Client::Batches),
            _ => {}
        }
    }

    /// Notes what the client was seen to do.
    pub fn observe(&mut self, client: Client) {
        self.client = self.client.max(client);
    }

    pub fn client(&self) -> Client {
        self.client
    }
}
