//! The open requests of a connection, and what becomes of them.
//!
//! This half of the session adds requests and reports them. [`matching`](super::matching) decides which reply answers
//! which request.

use compact_str::CompactString;

use super::UNKNOWN_ERROR;
use super::command::{Effect, Request, Silence};
use super::database::Database;
use super::subscriptions::{Confirmations, Subscribed};
use crate::exchange::{Begun, End, Exchange, Finding, LossReason};
use crate::facts::{self, Facts, Namespace};
use crate::kit::account::Account;
use crate::kit::certainty::Client;
use crate::kit::in_order::{self, InOrder};
use crate::moment::{Close, Direction, Moment};

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) requests: InOrder<Open>,
    account: Account,
    pub(super) database: Database,
    pub(super) silence: Silence,
    pub(super) subscribed: Subscribed,
    /// Pushes were seen, so they may come between the bytes of replies that are not captured.
    pub(super) pushed: bool,
    /// SYNC or PSYNC: the rest is replication.
    pub(super) replicates: bool,
}

/// A request that waits for its replies.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) confirmations: Confirmations,
    /// The first byte and the end of its replies so far.
    pub(super) answer: Option<(Moment, Moment)>,
}

/// A reply that can no longer be followed because its framing is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    /// Where it began, if it is an array. An array is no error.
    pub(super) array: Option<Moment>,
    /// Just past the last byte that passed.
    pub(super) end: Moment,
}

impl in_order::Open for Open {
    const SHARED: bool = true;
    const BATCHED: bool = true;

    fn start(&self) -> Moment {
        self.request.start
    }

    fn last_run(&self) -> u32 {
        self.request.end.run
    }

    fn responses(&self) -> u64 {
        self.confirmations.replies()
    }
}

impl Open {
    pub(super) fn waits_for_confirmation(&self) -> bool {
        self.confirmations != Confirmations::None
    }
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            requests: InOrder::new(from_start),
            account: Account::new(Direction::ToServer),
            database: Database::new(from_start),
            silence: Silence::No,
            subscribed: Subscribed::new(from_start),
            pushed: false,
            replicates: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.account.open()
    }
}

/// Requests.
impl Session {
    /// A run of requests begins at `at`, and nothing had passed since `last`. A client that waits has had the reply that
    /// is `unread`.
    pub(super) fn request_run(&mut self, at: Moment, last: u64, unread: Option<Unread>, found: &mut Vec<Finding>) {
        let was_lost = self.requests.is_lost();
        self.requests.request_run(at, last);
        if was_lost {
            return;
        }
        let Some(Unread { array, end }) = unread else { return };
        if let Some(start) = array
            && let Some(open) = self.requests.front()
            && self.requests.len() == 1
            && !self.pushed
            && !open.waits_for_confirmation()
            && open.request.start.run < start.run
            && !self.database.may_change(open.request.effect())
            && let Some(open) = self.requests.pop_front().and_then(in_order::Entry::into_open)
        {
            self.report(open.request, Some((start, end)), CompactString::default(), End::Complete, found);
        }
        let (requests, mut lost) = self.losing(found);
        requests.lose_before(at.run, &mut lost);
    }

    pub(super) fn begin(&mut self, start: Moment, found: &mut Vec<Finding>) {
        self.account.begin(Begun::plain(Direction::ToServer, start), found);
    }

    /// A hole hides the name of the request that began at `start`.
    pub(super) fn begin_hidden(&mut self, start: Moment, found: &mut Vec<Finding>) {
        // Otherwise it was counted when its reply came.
        if self.requests.push_unseen(1, start.run) {
            self.begin(start, found);
            self.account.lose(start, LossReason::RequestHeadMissing, found);
        }
    }

    /// As much of a request has passed as will be seen. It was begun.
    pub(super) fn complete_request(&mut self, request: Request, found: &mut Vec<Finding>) {
        let is_answered = !self.falls_silent(request.effect()) && request.effect() != Effect::Sync;
        if is_answered {
            self.await_reply(request, found);
        } else {
            self.replicates |= request.effect() == Effect::Sync;
            self.database.pass(request.effect());
            self.report(request, None, CompactString::default(), End::Complete, found);
        }
    }

    /// The request will be answered.
    pub(super) fn await_reply(&mut self, request: Request, found: &mut Vec<Finding>) {
        let confirmations = request.confirmations();
        let is_endless = matches!(confirmations, Confirmations::All(_)) && !self.subscribed.is_known();
        if self.requests.is_lost() || is_endless {
            lose(&request, &mut self.database, &mut self.account, found);
        } else if self.requests.is_full() {
            self.database.pass(request.effect());
            self.requests.push_reported(confirmations.replies(), request.start.run);
            self.account.lose(request.start, LossReason::TooManyOpen, found);
        } else {
            self.requests.push(Open { request, confirmations, answer: None });
        }
    }

    /// Requests passed unseen in `run`.
    pub(super) fn miss_requests(&mut self, run: u32, found: &mut Vec<Finding>) {
        // One of them may have been a SELECT, or a CLIENT REPLY.
        self.database.forget();
        self.silence = Silence::No;
        self.requests.miss_requests();
        self.forget_subscriptions(found);
        if self.requests.client() >= Client::Pipelines || self.requests.is_full() {
            self.lose_sync(found);
        } else if !self.requests.is_lost() {
            self.requests.push_unseen(0, run);
        }
    }

    /// Whether a command with this effect is not answered.
    fn falls_silent(&mut self, effect: Effect) -> bool {
        let is_silent = self.silence != Silence::No;
        match effect {
            Effect::Reply(Silence::No) => {
                self.silence = Silence::No;
                return false;
            }
            // RESET ends CLIENT REPLY OFF before it is answered. It does not end CLIENT REPLY SKIP.
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
    /// The first open request has its reply, which ended in `run`.
    pub(super) fn finish(&mut self, run: u32, error: CompactString, end: End, found: &mut Vec<Finding>) {
        let is_trusted = self.requests.is_trusted();
        let database = self.database.number();
        // The request is read in its place: it is too large to be moved about.
        let (start, is_waiting) = match self.requests.front() {
            Some(open) => (open.request.start, open.waits_for_confirmation()),
            None => {
                self.requests.finish(run);
                return;
            }
        };
        // Some of its confirmations may be among the replies that were not captured.
        let is_counted = !is_waiting || !self.requests.may_be_answered(start.position);
        if let Some(open) = self.requests.front_mut() {
            if is_trusted && is_counted {
                let exchange = exchange(&mut open.request, open.answer, database, error, end);
                self.account.report(exchange, found);
            } else {
                lose(&open.request, &mut self.database, &mut self.account, found);
            }
        }
        self.requests.finish(run);
    }

    /// The queue, and the function that reports the requests it loses.
    pub(super) fn losing<'s>(
        &'s mut self,
        found: &'s mut Vec<Finding>,
    ) -> (&'s mut InOrder<Open>, impl FnMut(Open) + 's) {
        let Self { requests, account, database, .. } = self;
        (requests, move |open: Open| lose(&open.request, database, account, found))
    }

    /// Nothing tells which confirmations belong to which requests. They answer nothing else.
    pub(super) fn lose_subscribing(&mut self, found: &mut Vec<Finding>) {
        self.subscribed.forget();
        self.lose_where(|open| open.waits_for_confirmation() || open.request.effect() == Effect::Unknown, found);
    }

    /// The number of subscriptions is unknown, and so is how many confirmations end all of them.
    pub(super) fn forget_subscriptions(&mut self, found: &mut Vec<Finding>) {
        if self.subscribed.forget() {
            self.lose_where(|open| matches!(open.confirmations, Confirmations::All(_)), found);
        }
    }

    fn lose_where(&mut self, is_lost: impl Fn(&Open) -> bool, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.lose_where(is_lost, &mut lost);
    }

    /// Nothing tells any more which reply answers which request.
    pub(super) fn lose_sync(&mut self, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.lose_sync(&mut lost);
    }

    fn report(
        &mut self,
        mut request: Request,
        answer: Option<(Moment, Moment)>,
        error_code: CompactString,
        end: End,
        found: &mut Vec<Finding>,
    ) {
        let exchange = exchange(&mut request, answer, self.database.number(), error_code, end);
        self.account.report(exchange, found);
    }

    /// Requests that began before `oldest` are reported as aged, and their replies are still to come. `under_way` is the
    /// reply that is under way.
    pub(super) fn give_up_before(
        &mut self,
        oldest: u64,
        at: Moment,
        mut under_way: Option<(Moment, Moment)>,
        found: &mut Vec<Finding>,
    ) {
        let Self { requests, account, database, .. } = self;
        requests.give_up_before(oldest, |mut open, may_be_answered| {
            if may_be_answered {
                lose(&open.request, database, account, found);
                return None;
            }
            if database.may_change(open.request.effect()) {
                database.forget();
            }
            let answer = open.answer.or_else(|| under_way.take());
            let end = End::Closed(Close::Aged, at);
            let exchange = exchange(&mut open.request, answer, database.number(), CompactString::default(), end);
            account.report(exchange, found);
            None
        });
    }

    /// Nothing more is answered. `under_way` is the reply that is under way. `is_broken`: the connection stopped making
    /// sense before.
    pub(super) fn close(
        &mut self,
        why: Close,
        at: Moment,
        mut under_way: Option<(Moment, Moment)>,
        is_broken: bool,
        found: &mut Vec<Finding>,
    ) {
        let Self { requests, account, database, .. } = self;
        let is_locked = requests.is_locked();
        requests.close(|mut open, may_be_answered| {
            let start = open.request.start;
            if is_broken {
                account.lose(start, LossReason::Unparsable, found);
            } else if may_be_answered {
                account.lose(start, LossReason::ResponseMissing, found);
            } else {
                let is_earlier = |(answer, _): &(Moment, Moment)| is_locked || start.run < answer.run;
                let answer = open.answer.or_else(|| under_way.take().filter(is_earlier));
                let end = End::Closed(why, at);
                let exchange = exchange(&mut open.request, answer, database.number(), CompactString::default(), end);
                account.report(exchange, found);
            }
        });
    }
}

/// The reply to the request was not seen, and what the command did is unknown.
fn lose(request: &Request, database: &mut Database, account: &mut Account, found: &mut Vec<Finding>) {
    if database.may_change(request.effect()) {
        database.forget();
    }
    account.lose(request.start, LossReason::ResponseMissing, found);
}

fn exchange(
    request: &mut Request,
    answer: Option<(Moment, Moment)>,
    database: Option<u32>,
    error_code: CompactString,
    end: End,
) -> Box<Exchange> {
    let (response_start, response_end) = answer.unzip();
    let (request_start, request_end) = (request.start, request.end);
    let (operation, text) = request.take_texts();
    let failed = !error_code.is_empty();
    let facts = Facts::Database(facts::Database {
        system: "redis",
        namespace: database.map(Namespace::Number).unwrap_or_default(),
        operation,
        text: text.into(),
        status: if error_code == UNKNOWN_ERROR { CompactString::default() } else { error_code },
        failed,
        ..facts::Database::default()
    });
    let direction = Direction::ToServer;
    Box::new(Exchange { direction, request_start, request_end, response_start, response_end, end, facts })
}
