//! Which requests are open on a connection, in the order in which they will be answered, and what becomes of them.
//!
//! This half adds to the queue and reports what leaves it; [`matching`](super::matching) says which reply answers which
//! request.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::Command;
use super::command::{Effect, Request, Silence};
use super::database::Database;
use super::pace::{Pace, Quiet};
use super::subscriptions::{Confirmations, Subscribed};
use crate::exchange::{Begun, Details, End, Exchange, Finding, LossReason, Lost};
use crate::parser::{Close, Moment};

/// Requests open at once: deeper pipelines are counted.
const MOST_OPEN: usize = 4096;
/// An empty queue keeps room for so many: what a long pipeline took is given back.
const MOST_IDLE: usize = 64;

/// See [`Session::on_trial`].
const TRIAL: u32 = 16;

/// What the connection knows of itself.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) queue: VecDeque<Entry>,
    /// Requests begun and not reported.
    unreported: usize,
    pub(super) database: Database,
    pub(super) silence: Silence,
    pub(super) subscribed: Subscribed,
    /// A reply came to no request that was seen, and no request since.
    pub(super) orphaned: bool,
    /// Replies have always been matched in order, nothing was missed.
    pub(super) in_step: bool,
    /// Runs don't tell which replies answer which requests: the client was seen to send requests before it had the replies
    /// to those of an earlier run, or to read in one thread what another had asked.
    pub(super) pipelines: bool,
    /// Which requests are answered is not known.
    in_doubt: bool,
    pace: Pace,
    /// How often everything must be answered before what is paired is told. Were it paired wrongly, there would be a reply too
    /// many as soon as everything is answered.
    pub(super) on_trial: u32,
    /// Where the newest request began that was open when replies passed unread: it may have been answered, as may those
    /// before.
    pub(super) answered_unseen: Option<u64>,
    /// Pushes may come between the bytes of replies that are not captured.
    pub(super) pushed: bool,
    /// SYNC or PSYNC: what follows is no conversation.
    pub(super) replicates: bool,
}

#[derive(Debug)]
pub(super) enum Entry {
    Open(Open),
    /// Requests that are counted already; so many replies to them are to come.
    Counted {
        replies: u64,
        run: u32,
    },
    /// Requests that were not seen, any number of them; so many are counted already.
    Unseen {
        counted: u64,
        run: u32,
        /// Whether replies have passed since. If not, they may be of the same run as the request behind: then theirs come
        /// before its own.
        answered: bool,
    },
}

/// A request that has no answer yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) confirmations: Confirmations,
    /// The first byte and the end of what has answered it so far.
    pub(super) answer: Option<(Moment, Moment)>,
}

/// What can be said of replies whose framing is lost, when the client goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unheard {
    /// Where the array began that was cut off.
    pub(super) array: Option<Moment>,
    /// Just past the last byte that passed.
    pub(super) end: Moment,
}

impl Entry {
    pub(super) fn run(&self) -> u32 {
        match self {
            Self::Open(open) => open.request.start.run,
            Self::Counted { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }
}

impl Open {
    /// How many replies it has, at least.
    fn replies(&self) -> u64 {
        self.confirmations.replies()
    }

    pub(super) fn waits_for_confirmation(&self) -> bool {
        self.confirmations != Confirmations::None
    }
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            unreported: 0,
            database: Database::new(from_start),
            silence: Silence::No,
            subscribed: Subscribed::new(from_start),
            orphaned: false,
            in_step: from_start,
            pipelines: false,
            in_doubt: false,
            pace: Pace::default(),
            on_trial: 0,
            answered_unseen: None,
            pushed: false,
            replicates: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.unreported
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn replicates(&self) -> bool {
        self.replicates
    }
}

/// What is asked.
impl Session {
    /// The client goes on at `at`; nothing had passed since `last`. What is `unheard` is over then, if it waits.
    pub(super) fn request_run(&mut self, at: Moment, last: u64, unheard: Option<Unheard>, found: &mut Vec<Finding>) {
        let quiet = self.pace.quiet(last, at.nanos);
        self.pace.asked(at.nanos);
        if self.in_doubt {
            self.in_doubt = quiet == Quiet::No;
            self.in_step = !self.in_doubt;
            self.on_trial = if quiet == Quiet::Seemingly { TRIAL } else { 0 };
            return;
        }
        if self.queue.is_empty() {
            self.in_step |= quiet == Quiet::Surely;
            self.on_trial = self.on_trial.saturating_sub(1);
        }
        let Some(Unheard { array, end }) = unheard else { return };
        if let (Some(start), 1, false, Some(Entry::Open(open))) =
            (array, self.queue.len(), self.pushed, self.queue.front())
            && !open.waits_for_confirmation()
            && open.request.start.run < start.run
            && !self.database.may_change(open.request.effect())
            && let Some(Entry::Open(open)) = self.queue.pop_front()
        {
            self.tell(open.request, Some((start, end)), CompactString::default(), End::Complete, found);
        }
        self.lose_before(at.run, found);
    }

    /// The server answers at `at`.
    pub(super) fn reply_run(&mut self, at: Moment) {
        self.pace.answered(at.nanos);
    }

    pub(super) fn begin(&mut self, start: Moment, found: &mut Vec<Finding>) {
        self.orphaned = false;
        self.unreported += 1;
        found.push(Finding::Begun(Begun { start, context: None, correlation: None }));
    }

    /// A hole hides what the request that began here is.
    pub(super) fn begin_hidden(&mut self, start: Moment, found: &mut Vec<Finding>) {
        self.begin(start, found);
        self.lost(start, LossReason::RequestHeadMissing, found);
        self.queue.push_back(Entry::Unseen { counted: 1, run: start.run, answered: false });
    }

    /// All there is to know of a request that was begun has passed.
    pub(super) fn asked(&mut self, request: Request, found: &mut Vec<Finding>) {
        let is_answered = !self.falls_silent(request.effect()) && request.effect() != Effect::Sync;
        if is_answered {
            self.wait_for(request, found);
        } else {
            self.replicates |= request.effect() == Effect::Sync;
            self.database.pass(request.effect());
            self.tell(request, None, CompactString::default(), End::Complete, found);
        }
    }

    /// The request is to be answered.
    pub(super) fn wait_for(&mut self, request: Request, found: &mut Vec<Finding>) {
        let confirmations = Confirmations::of(&request);
        let is_endless = matches!(confirmations, Confirmations::All(_)) && !self.subscribed.is_known();
        if self.in_doubt || is_endless {
            self.lose(&request, found);
        } else if self.queue.len() >= MOST_OPEN {
            self.database.pass(request.effect());
            self.count(confirmations.replies(), request.start.run);
            self.lost(request.start, LossReason::TooManyOpen, found);
        } else {
            self.queue.push_back(Entry::Open(Open { request, confirmations, answer: None }));
        }
    }

    /// Requests passed in this run that were not seen.
    pub(super) fn unseen(&mut self, run: u32, found: &mut Vec<Finding>) {
        // One of them may have SELECTed, or asked for silence.
        self.database.forget();
        self.silence = Silence::No;
        self.in_step = false;
        self.forget_subscriptions(found);
        if self.pipelines || self.queue.len() >= MOST_OPEN {
            self.doubt(found);
            return;
        }
        match self.queue.back_mut() {
            Some(Entry::Unseen { run: last, .. }) => *last = run,
            _ => self.queue.push_back(Entry::Unseen { counted: 0, run, answered: self.orphaned }),
        }
    }

    fn count(&mut self, more: u64, run: u32) {
        let is_full = self.queue.len() >= MOST_OPEN;
        match self.queue.back_mut() {
            Some(Entry::Counted { replies, run: last }) if *last == run || is_full => {
                *replies = replies.saturating_add(more);
            }
            _ => self.queue.push_back(Entry::Counted { replies: more, run }),
        }
    }

    /// Whether a command of this effect will not be answered.
    fn falls_silent(&mut self, effect: Effect) -> bool {
        let is_silent = self.silence != Silence::No;
        match effect {
            Effect::Reply(Silence::No) => {
                self.silence = Silence::No;
                return false;
            }
            // It ends CLIENT REPLY OFF before it is answered; CLIENT REPLY SKIP it does not end.
            Effect::Reset if self.silence == Silence::UntilOn => {
                self.silence = Silence::No;
                return false;
            }
            Effect::Reply(silence) if self.silence != Silence::UntilOn => {
                self.silence = silence;
                return true;
            }
            _ if self.silence == Silence::Next => self.silence = Silence::No,
            _ => {}
        }
        is_silent
    }
}

/// What becomes of requests.
impl Session {
    /// The first open request was answered.
    pub(super) fn finish(&mut self, error: CompactString, found: &mut Vec<Finding>) {
        if let Some(Entry::Open(open)) = self.pop() {
            // It is not sure to be its answer, or confirmations of it may be among what was not captured.
            if self.on_trial > 0 || (self.may_be_answered(&open) && open.waits_for_confirmation()) {
                self.lose(&open.request, found);
            } else {
                self.tell(open.request, open.answer, error, End::Complete, found);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let front = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > MOST_IDLE {
            self.queue = VecDeque::new();
        }
        front
    }

    /// Whether its answer may have passed unseen.
    fn may_be_answered(&self, open: &Open) -> bool {
        self.answered_unseen.is_some_and(|newest| open.request.start.position <= newest)
    }

    /// What was asked before this run was answered unheard; how many requests that were.
    pub(super) fn lose_before(&mut self, run: u32, found: &mut Vec<Finding>) -> u64 {
        let before = self.unreported;
        while self.queue.front().is_some_and(|front| front.run() < run) {
            if let Some(Entry::Open(open)) = self.pop() {
                self.lose(&open.request, found);
            }
        }
        (before - self.unreported) as u64
    }

    /// Which confirmations belong to which requests is not known; nothing else is answered by them.
    pub(super) fn lose_subscribing(&mut self, found: &mut Vec<Finding>) {
        self.subscribed.forget();
        self.lose_where(|open| open.waits_for_confirmation() || open.request.effect() == Effect::Unknown, found);
    }

    /// How many subscriptions there are is not known, nor how many confirmations end all of them.
    pub(super) fn forget_subscriptions(&mut self, found: &mut Vec<Finding>) {
        if self.subscribed.forget() {
            self.lose_where(|open| matches!(open.confirmations, Confirmations::All(_)), found);
        }
    }

    fn lose_where(&mut self, is_lost: impl Fn(&Open) -> bool, found: &mut Vec<Finding>) {
        for entry in std::mem::take(&mut self.queue) {
            match entry {
                Entry::Open(open) if is_lost(&open) => self.lose(&open.request, found),
                entry => self.queue.push_back(entry),
            }
        }
    }

    /// Nothing says any more which replies belong to which requests.
    pub(super) fn doubt(&mut self, found: &mut Vec<Finding>) {
        self.in_doubt = true;
        while let Some(entry) = self.pop() {
            if let Entry::Open(open) = entry {
                self.lose(&open.request, found);
            }
        }
    }

    /// The answer to the request was not heard, nor what it did.
    fn lose(&mut self, request: &Request, found: &mut Vec<Finding>) {
        if self.database.may_change(request.effect()) {
            self.database.forget();
        }
        self.lost(request.start, LossReason::ResponseMissing, found);
    }

    pub(super) fn lost(&mut self, start: Moment, reason: LossReason, found: &mut Vec<Finding>) {
        self.unreported = self.unreported.saturating_sub(1);
        found.push(Finding::Lost(Lost { start, reason }));
    }

    fn tell(
        &mut self,
        request: Request,
        answer: Option<(Moment, Moment)>,
        error_code: CompactString,
        end: End,
        found: &mut Vec<Finding>,
    ) {
        self.unreported = self.unreported.saturating_sub(1);
        let (response_start, response_end) = answer.unzip();
        let (request_start, request_end) = (request.start, request.end);
        let (operation, text) = request.into_texts();
        let details = Details::Redis(Command { operation, text, database: self.database.number(), error_code });
        found.push(Finding::Exchange(Box::new(Exchange {
            request_start,
            request_end,
            response_start,
            response_end,
            end,
            details,
        })));
    }

    /// What was asked before `oldest` is not waited for any longer; its replies are still to come. `answering` is the reply
    /// that is under way.
    pub(super) fn give_up_before(
        &mut self,
        oldest: u64,
        at: Moment,
        mut answering: Option<(Moment, Moment)>,
        found: &mut Vec<Finding>,
    ) {
        for index in 0..self.queue.len() {
            let (replies, run) = match self.queue.get(index) {
                Some(Entry::Open(open)) if open.request.start.nanos < oldest => {
                    (open.replies(), open.request.start.run)
                }
                _ => continue,
            };
            let counted = Entry::Counted { replies, run };
            let Entry::Open(open) = std::mem::replace(&mut self.queue[index], counted) else { continue };
            if self.may_be_answered(&open) {
                self.lose(&open.request, found);
                continue;
            }
            if self.database.may_change(open.request.effect()) {
                self.database.forget();
            }
            let answer = open.answer.or_else(|| answering.take());
            self.tell(open.request, answer, CompactString::default(), End::Closed(Close::Aged, at), found);
        }
    }

    /// Nothing more will be answered. `answering` is the reply that is under way.
    pub(super) fn close(
        &mut self,
        why: Close,
        at: Moment,
        mut answering: Option<(Moment, Moment)>,
        is_broken: bool,
        found: &mut Vec<Finding>,
    ) {
        while let Some(entry) = self.pop() {
            let Entry::Open(open) = entry else { continue };
            if is_broken {
                self.lost(open.request.start, LossReason::Unparsable, found);
            } else if self.may_be_answered(&open) {
                self.lost(open.request.start, LossReason::ResponseMissing, found);
            } else {
                let is_earlier = |(start, _): &(Moment, Moment)| self.in_step || open.request.start.run < start.run;
                let answer = open.answer.or_else(|| answering.take().filter(is_earlier));
                self.tell(open.request, answer, CompactString::default(), End::Closed(why, at), found);
            }
        }
    }
}
