//! The open requests of a connection, and what becomes of them.
//!
//! This half of the session adds requests and reports them. [`matching`](super::matching) finds the request that a response
//! answers.
//!
//! Responses come in the order of the requests. [Quiet](super::request::Answered::Unless) requests complicate this: the
//! server leaves out those responses that the client can infer. They are kept with the next request that is always
//! answered. Once that request has its response, the quiet ones before it are over, with or without one of their own.

use compact_str::CompactString;

use crate::exchange::{Begun, End, Exchange, Finding, LossReason};
use crate::facts::{Database, Facts};
use crate::kit::account::Account;
use crate::kit::certainty::Client;
use crate::kit::in_order::{self, InOrder};
use crate::moment::{Close, Direction, Moment};

use super::request::{Answered, Request};

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) requests: InOrder<Group>,
    /// Quiet requests that no other request follows yet.
    pub(super) quiet: Vec<Request>,
    /// A command that is never answered follows the newest group. Some errors are sent all the same.
    pub(super) unanswered: bool,
    account: Account,
}

/// A request that is always answered, with the quiet ones before it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) quiet: Vec<Request>,
    pub(super) request: Request,
    /// A command that is never answered comes before them.
    pub(super) after_unanswered: bool,
}

/// A response that can no longer be followed because its framing is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    /// Where it began, if items were seen. Then it is no error.
    pub(super) items: Option<Moment>,
    /// Just past the last byte that passed.
    pub(super) end: Moment,
}

impl in_order::Open for Group {
    /// Proxies and some clients send requests of several callers over one connection.
    const SHARED: bool = true;
    const BATCHED: bool = true;

    fn start(&self) -> Moment {
        self.request.start
    }

    fn last_run(&self) -> u32 {
        self.request.end.run
    }
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            requests: InOrder::new(from_start),
            quiet: Vec::new(),
            unanswered: false,
            account: Account::new(Direction::ToServer),
        }
    }

    /// The number of requests that are begun and not yet reported.
    pub(super) fn open(&self) -> usize {
        self.account.open()
    }

    /// The operation that the next response answers, if that is certain.
    pub(super) fn next_operation(&self) -> Option<&'static str> {
        let group = self.requests.front().filter(|group| group.quiet.is_empty() && self.requests.is_locked())?;
        Some(group.request.operation)
    }

    /// A run of requests begins at `at`, and nothing had passed since `last`. A client that waits has had the response
    /// that is `unread`.
    pub(super) fn request_run(&mut self, at: Moment, last: u64, unread: Option<Unread>, found: &mut Vec<Finding>) {
        let was_lost = self.requests.is_lost();
        self.requests.request_run(at, last);
        if was_lost {
            return;
        }
        let Some(Unread { items, end }) = unread else { return };
        if let Some(start) = items
            && let Some(group) = self.requests.front()
            && self.requests.len() == 1
            && group.quiet.is_empty()
            && group.request.start.run < start.run
            && let Some(group) = self.requests.pop_front().and_then(in_order::Entry::into_open)
        {
            self.report(group.request, Some((start, end)), None, End::Complete, found);
        }
        let (requests, mut lost) = self.losing(found);
        requests.lose_before(at.run, &mut lost);
    }

    pub(super) fn begin(&mut self, start: Moment, found: &mut Vec<Finding>) {
        self.account.begin(Begun::plain(Direction::ToServer, start), found);
    }

    /// A request began at `start` and its head was not captured.
    pub(super) fn begin_hidden(&mut self, start: Moment, found: &mut Vec<Finding>) {
        // Otherwise it was counted when its response came.
        if self.requests.push_unseen(1, start.run) {
            self.begin(start, found);
            self.account.lose(start, LossReason::RequestHeadMissing, found);
        }
    }

    /// Adds a request that has begun.
    pub(super) fn asked(&mut self, request: Request, found: &mut Vec<Finding>) {
        match request.answered {
            Answered::Never => {
                self.unanswered = true;
                self.report(request, None, None, End::Complete, found);
            }
            _ if self.requests.is_lost() => self.lose(&request, LossReason::ResponseMissing, found),
            Answered::Always if self.requests.is_full() => {
                self.lose(&request, LossReason::TooManyOpen, found);
                self.requests.push_reported(1, request.start.run);
            }
            // Nothing would tell the response of a dropped quiet request from those of others.
            _ if self.account.open() > <Group as in_order::Open>::LIMIT => {
                self.lose(&request, LossReason::TooManyOpen, found);
                self.lose_sync(found);
            }
            Answered::Unless { .. } => self.quiet.push(request),
            Answered::Always => {
                let quiet = std::mem::take(&mut self.quiet);
                let after_unanswered = std::mem::take(&mut self.unanswered);
                self.requests.push(Group { quiet, request, after_unanswered });
            }
        }
    }

    /// Requests passed unseen in `run`.
    pub(super) fn unseen(&mut self, run: u32, found: &mut Vec<Finding>) {
        self.requests.miss_requests();
        self.lose_quiet(found);
        if self.requests.client() >= Client::Pipelines || self.requests.is_full() {
            self.lose_sync(found);
        } else if !self.requests.is_lost() {
            self.requests.push_unseen(0, run);
        }
    }
}

/// Losses.
impl Session {
    /// The queue, and what becomes of the groups that it loses.
    pub(super) fn losing<'s>(
        &'s mut self,
        found: &'s mut Vec<Finding>,
    ) -> (&'s mut InOrder<Group>, impl FnMut(Group) + 's) {
        let Self { requests, account, .. } = self;
        let lost = move |group: Group| {
            for request in group.quiet.iter().chain([&group.request]) {
                account.lose(request.start, LossReason::ResponseMissing, found);
            }
        };
        (requests, lost)
    }

    pub(super) fn lose(&mut self, request: &Request, reason: LossReason, found: &mut Vec<Finding>) {
        self.account.lose(request.start, reason, found);
    }

    /// Nothing tells which quiet request is answered by what.
    pub(super) fn lose_quiet(&mut self, found: &mut Vec<Finding>) {
        for quiet in std::mem::take(&mut self.quiet) {
            self.lose(&quiet, LossReason::ResponseMissing, found);
        }
    }

    /// Nothing tells any more which response answers which request.
    pub(super) fn lose_sync(&mut self, found: &mut Vec<Finding>) {
        self.lose_quiet(found);
        let (requests, mut lost) = self.losing(found);
        requests.lose_sync(&mut lost);
    }

    pub(super) fn report(
        &mut self,
        request: Request,
        answer: Option<(Moment, Moment)>,
        error: Option<&CompactString>,
        end: End,
        found: &mut Vec<Finding>,
    ) {
        self.account.report(exchange(request, answer, error, end), found);
    }
}

/// The end of requests without a response.
impl Session {
    /// Requests that began before `oldest` are reported as aged, and their responses are still to come. `under_way` is the
    /// response on its way.
    pub(super) fn give_up_before(
        &mut self,
        oldest: u64,
        at: Moment,
        mut under_way: Option<(Moment, Moment)>,
        found: &mut Vec<Finding>,
    ) {
        let Self { requests, account, quiet, .. } = self;
        requests.give_up_before(oldest, |group, may_be_answered| {
            let answer = under_way.take();
            close_group(group, may_be_answered, answer, Close::Aged, at, account, found);
            None
        });
        for old in quiet.extract_if(.., |quiet| quiet.start.nanos < oldest) {
            account.report(exchange(old, None, None, End::Complete), found);
        }
    }

    /// Nothing more is answered. `under_way` is the response on its way. `is_broken`: the connection stopped making sense
    /// before.
    pub(super) fn close(
        &mut self,
        why: Close,
        at: Moment,
        mut under_way: Option<(Moment, Moment)>,
        is_broken: bool,
        found: &mut Vec<Finding>,
    ) {
        let Self { requests, account, quiet, .. } = self;
        let is_locked = requests.is_locked();
        requests.close(|group, may_be_answered| {
            if is_broken {
                for request in group.quiet.iter().chain([&group.request]) {
                    account.lose(request.start, LossReason::Unparsable, found);
                }
                return;
            }
            let is_earlier = |(answer, _): &(Moment, Moment)| is_locked || group.request.start.run < answer.run;
            let answer = under_way.take().filter(is_earlier);
            close_group(group, may_be_answered, answer, why, at, account, found);
        });
        for quiet in std::mem::take(quiet) {
            if is_broken {
                account.lose(quiet.start, LossReason::Unparsable, found);
            } else {
                account.report(exchange(quiet, None, None, End::Complete), found);
            }
        }
    }
}

/// Reports a group that gets no response any more. Whether its quiet requests would have had one is unknown.
fn close_group(
    group: Group,
    may_be_answered: bool,
    answer: Option<(Moment, Moment)>,
    why: Close,
    at: Moment,
    account: &mut Account,
    found: &mut Vec<Finding>,
) {
    for quiet in group.quiet {
        account.lose(quiet.start, LossReason::ResponseMissing, found);
    }
    if may_be_answered {
        account.lose(group.request.start, LossReason::ResponseMissing, found);
    } else {
        account.report(exchange(group.request, answer, None, End::Closed(why, at)), found);
    }
}

fn exchange(
    request: Request,
    answer: Option<(Moment, Moment)>,
    error: Option<&CompactString>,
    end: End,
) -> Box<Exchange> {
    let (response_start, response_end) = answer.unzip();
    let facts = Database {
        system: "memcached",
        operation: CompactString::const_new(request.operation),
        status: error.cloned().unwrap_or_default(),
        failed: error.is_some(),
        batch_size: (request.keys > 1).then_some(request.keys),
        ..Database::default()
    };
    Box::new(Exchange {
        direction: Direction::ToServer,
        request_start: request.start,
        request_end: request.end,
        response_start,
        response_end,
        end,
        facts: Facts::Database(facts),
    })
}
