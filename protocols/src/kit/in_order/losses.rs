//! Losses: requests whose responses were missed, and what that does to the certainty.

use super::{Client, Entry, InOrder, Open, Sync, Unseen};

impl<R: Open> InOrder<R> {
    /// The client goes on in `run`, and waits: what was sent before was answered unseen. Unseen requests at the end of
    /// the queue may belong to that run and stay.
    pub fn lose_before(&mut self, run: u32, lost: &mut impl FnMut(R)) {
        let mut before = self.entries.iter().take_while(|entry| entry.last_run() < run).count();
        let is_last = before == self.entries.len();
        if is_last && matches!(self.entries.back(), Some(Entry::Unseen { state: Unseen::Unanswered, .. })) {
            before -= 1;
        }
        self.lose_front(before, lost);
    }

    /// Loses what was sent before the response run `run`.
    pub fn lose_run(&mut self, run: u32, lost: &mut impl FnMut(R)) {
        let before = self.entries.iter().take_while(|entry| entry.run() < run).count();
        self.lose_front(before, lost);
    }

    /// Loses the first entries, whose responses were missed. Returns how many responses to open requests those are.
    pub fn lose_front(&mut self, count: usize, lost: &mut impl FnMut(R)) -> u64 {
        let responses = self.drop_front(count, lost);
        if count > 0 && self.client >= Client::Pipelines {
            self.lose_sync(lost);
        }
        responses
    }

    /// The same where it is known that their responses are over.
    pub fn drop_front(&mut self, count: usize, lost: &mut impl FnMut(R)) -> u64 {
        let mut responses = 0_u64;
        for _ in 0..count {
            if let Some(Entry::Open(request)) = self.pop_front() {
                responses = responses.saturating_add(request.responses());
                lost(request);
            }
        }
        responses
    }

    /// Nothing tells which of the responses in `run` and later answer the requests that are open: all are lost.
    pub fn abandon(&mut self, run: u32, lost: &mut impl FnMut(R)) {
        if !self.entries.iter().all(Entry::is_unseen) {
            self.abandon_front(self.entries.len(), run, lost);
        }
    }

    /// The same of the first entries.
    pub fn abandon_front(&mut self, count: usize, run: u32, lost: &mut impl FnMut(R)) {
        self.lose_front(count, lost);
        self.entries.push_front(Entry::Unseen { reported: u64::MAX, run, state: Unseen::Answered });
    }

    /// Loses the open requests that `is_lost` says.
    pub fn lose_where(&mut self, is_lost: impl Fn(&R) -> bool, lost: &mut impl FnMut(R)) {
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Open(request) if is_lost(&request) => lost(request),
                entry => self.entries.push_back(entry),
            }
        }
    }

    /// Requests were missed.
    pub fn doubt(&mut self) {
        self.sync.doubt();
    }

    /// A response passed, or may have passed, that cannot be matched.
    pub fn miss(&mut self) {
        let newest = self.entries.iter().rev().find_map(Entry::open).map(|request| request.start().position);
        self.sync.miss(newest);
    }

    /// The response to the front was recognized. Where callers share connections, that is no proof.
    #[inline]
    pub fn relock(&mut self) {
        if !R::SHARED && matches!(self.sync, Sync::Tentative { .. }) {
            self.sync = Sync::Locked;
        }
    }

    /// Nothing tells any more which response answers which request.
    pub fn lose_sync(&mut self, lost: &mut impl FnMut(R)) {
        self.sync = Sync::Lost;
        if R::SHARED {
            self.drop_front(self.entries.len(), lost);
        }
    }

    #[inline]
    pub fn is_locked(&self) -> bool {
        matches!(self.sync, Sync::Locked | Sync::Trial { .. })
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.sync, Sync::Lost)
    }

    /// Whether what a response says of the front is the truth.
    #[inline]
    pub fn is_trusted(&self) -> bool {
        matches!(self.sync, Sync::Locked | Sync::Tentative { .. })
    }

    /// Whether a request that begins at `position` may have been answered unseen.
    pub fn may_be_answered(&self, position: u64) -> bool {
        self.sync.may_be_answered(position)
    }
}
