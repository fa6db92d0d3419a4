//! Losses: requests without a seen response, and the certainty after them.

use super::{Client, Entry, InOrder, Open, Sync, Unseen};

impl<R: Open> InOrder<R> {
    /// Loses the requests before `run`, in which a client that waits sends more. Unseen requests at the end of the queue may
    /// belong to that run and stay.
    pub fn lose_before(&mut self, run: u32, lost: &mut impl FnMut(R)) {
        let mut before = self.entries.iter().take_while(|entry| entry.last_run() < run).count();
        let is_last = before == self.entries.len();
        if is_last && matches!(self.entries.back(), Some(Entry::Unseen { state: Unseen::Unanswered, .. })) {
            before -= 1;
        }
        self.lose_front(before, lost);
    }

    /// Loses the requests that were sent before the response run `run`.
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

    /// The same, if it is known that their responses are over. The certainty stays.
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

    /// Loses all open requests, because nothing shows which of the responses from `run` on are theirs.
    pub fn abandon(&mut self, run: u32, lost: &mut impl FnMut(R)) {
        if !self.entries.iter().all(Entry::is_unseen) {
            self.abandon_front(self.entries.len(), run, lost);
        }
    }

    /// The same for the first entries.
    pub fn abandon_front(&mut self, count: usize, run: u32, lost: &mut impl FnMut(R)) {
        self.lose_front(count, lost);
        self.entries.push_front(Entry::Unseen { reported: u64::MAX, run, state: Unseen::Answered });
    }

    /// Loses the open requests for which `is_lost` is true.
    pub fn lose_where(&mut self, is_lost: impl Fn(&R) -> bool, lost: &mut impl FnMut(R)) {
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Open(request) if is_lost(&request) => lost(request),
                entry => self.entries.push_back(entry),
            }
        }
    }

    /// Notes that requests passed unseen.
    pub fn miss_requests(&mut self) {
        self.sync.miss_requests();
    }

    /// Notes that a response passed, or may have passed, that cannot be matched.
    pub fn miss_response(&mut self) {
        let newest = self.entries.iter().rev().find_map(Entry::open).map(|request| request.start().position);
        self.sync.miss_response(newest);
    }

    /// Notes that the response to the front was recognized. That is no proof if callers share the connection.
    #[inline]
    pub fn relock(&mut self) {
        if !R::SHARED && matches!(self.sync, Sync::Tentative { .. }) {
            self.sync = Sync::Locked;
        }
    }

    /// From now on nothing shows which response answers which request.
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

    /// Whether the response to the front is surely its own.
    #[inline]
    pub fn is_trusted(&self) -> bool {
        matches!(self.sync, Sync::Locked | Sync::Tentative { .. })
    }

    /// Whether a request that begins at `position` may have been answered unseen.
    pub fn may_be_answered(&self, position: u64) -> bool {
        self.sync.may_be_answered(position)
    }
}
