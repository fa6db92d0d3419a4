//! Open requests of a protocol whose responses come in the order of their requests.
//!
//! The open requests are a queue, and a response answers its front. Nothing in the response says so, which matters once
//! events are lost: a request or a response that was not captured would shift all later ones by one. So the queue also
//! holds what was not seen, as far as it can be known, and [`Sync`](super::certainty) says whether the front may be
//! trusted.
//!
//! After a loss the runs tell which request a response answers. A client that waits for its responses before it goes on
//! has had all earlier responses when it sends the next run of requests. So:
//!
//! - A response in run `r` answers the last run of requests before `r`. Older requests lost their responses.
//! - The runs of the two directions alternate. If the newest request that was seen is from before run `r - 1`, then
//!   requests passed unseen in run `r - 1`, and the response answers one of those.
//! - Requests that passed unseen directly before a request may belong to its run. Then their responses come before its
//!   own, and which of them a response is cannot be told.
//!
//! Protocol code decides what a request and a response are, and reports them.

use std::collections::VecDeque;

use super::certainty::{Client, Sync, Turn};
use super::pace::Pace;
use crate::Moment;

/// An open request.
pub trait Open {
    /// Whether callers that do not wait for one another commonly share a connection.
    const SHARED: bool;
    /// How many entries are kept.
    const LIMIT: usize;

    /// Its first byte.
    fn start(&self) -> Moment;

    /// The run of its last byte that has passed.
    fn last_run(&self) -> u32;

    /// How many responses it will have, at least.
    fn responses(&self) -> u64 {
        1
    }
}

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
        /// How many responses belong to requests that were reported all the same.
        reported: u64,
        /// The run that the hole begins in.
        run: u32,
        state: Unseen,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// Only a response without a request shows that there were any.
    Inferred,
    /// No response has passed since the hole, so they may be of the same run as the request behind it.
    Unanswered,
    /// Responses have passed since.
    Answered,
}

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

/// An empty queue keeps room for this many entries. What a long pipeline took is given back.
const IDLE_CAPACITY: usize = 64;

impl<R> Entry<R> {
    pub fn open(&self) -> Option<&R> {
        match self {
            Self::Open(request) => Some(request),
            Self::Reported { .. } | Self::Unseen { .. } => None,
        }
    }

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
    fn run(&self) -> u32 {
        match self {
            Self::Open(request) => request.start().run,
            Self::Reported { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }

    fn last_run(&self) -> u32 {
        match self {
            Self::Open(request) => request.last_run(),
            Self::Reported { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }
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

/// The requests.
impl<R: Open> InOrder<R> {
    /// The first bytes of a run of requests, or a hole in their place, pass at `at`. Nothing had passed since
    /// `silent_since` (nanoseconds; 0 if nothing ever had).
    pub fn request_run(&mut self, at: Moment, silent_since: u64) {
        self.request_run = Some(at.run);
        let is_idle = self.is_idle();
        if R::SHARED {
            let quiet = self.pace.quiet(silent_since, at.nanos);
            self.pace.asked(at.nanos);
            let was_lost = self.is_lost();
            self.sync.shared_request_run(is_idle, quiet);
            if was_lost && !self.is_lost() {
                self.entries.clear();
            }
        } else {
            self.sync.request_run(is_idle, self.turn);
        }
        self.turn.requests = 0;
    }

    /// Adds an open request.
    #[inline]
    pub fn push(&mut self, request: R) {
        let run = request.start().run;
        if !self.entries.is_empty() {
            self.settle_back(run);
        }
        self.turn.requests += 1;
        self.entries.push_back(Entry::Open(request));
    }

    /// Adds `responses` to come to requests that are reported already.
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

    /// Requests pass that are not seen, in a hole that begins in `run`. `counted`: as many of them are reported all the
    /// same. `false` if a response that came before has shown them already.
    pub fn push_unseen(&mut self, counted: u64, run: u32) -> bool {
        match self.entries.back_mut() {
            Some(Entry::Unseen { state: state @ Unseen::Inferred, run: inferred, .. }) => {
                // One request of the hole was answered. If the client sent it after another of the same run, it may have
                // sent more of them in the run that follows.
                *state = if *inferred == run { Unseen::Unanswered } else { Unseen::Answered };
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

    /// Requests may have passed unseen in a hole before the request of `run` that follows, and been answered.
    pub fn push_hole(&mut self, run: u32) {
        match self.entries.back_mut() {
            Some(Entry::Unseen { state: state @ Unseen::Inferred, .. }) => *state = Unseen::Answered,
            Some(Entry::Unseen { .. }) => {}
            _ => self.entries.push_back(Entry::Unseen { reported: 0, run, state: Unseen::Answered }),
        }
    }

    /// Takes back the newest request.
    pub fn pop_back(&mut self) -> Option<Entry<R>> {
        self.entries.pop_back()
    }

    /// A request of `run` follows the newest entry.
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

    /// What was seen of the client: it does at least this.
    pub fn observe(&mut self, client: Client) {
        self.client = self.client.max(client);
    }

    pub fn client(&self) -> Client {
        self.client
    }
}

/// The responses.
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
        self.turn.responses += 1;
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

/// Losses.
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

    /// Loses the first entries, whose responses were missed. How many responses to open requests those are.
    pub fn lose_front(&mut self, count: usize, lost: &mut impl FnMut(R)) -> u64 {
        if count > 0 && self.client >= Client::Pipelines && !matches!(self.sync, Sync::Lost) {
            self.sync = Sync::Lost;
        }
        self.drop_front(count, lost)
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
            self.lose_front(self.entries.len(), lost);
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

/// Requests that get no response.
impl<R: Open> InOrder<R> {
    /// Hands over the open requests that began before `oldest` (nanoseconds, as in [`Moment`]), each with whether it may
    /// have been answered unseen. `report` gives a request back that keeps its own place in the queue.
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

    /// Nothing more is answered. Hands over the open requests, each with whether it may have been answered unseen.
    pub fn close(&mut self, mut report: impl FnMut(R, bool)) {
        while let Some(entry) = self.pop_front() {
            if let Entry::Open(request) = entry {
                let may_be_answered = self.sync.may_be_answered(request.start().position);
                report(request, may_be_answered);
            }
        }
    }
}
