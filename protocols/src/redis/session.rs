//! Matches replies with requests, in order; and what is said without having been asked for.
//!
//! A reply answers the first open request: nothing on the wire says which one. Once replies or requests were not
//! captured, the runs say it, of a client that waits for its replies before it sends more. Of one that has been seen not
//! to, nothing more is told until it has been quiet.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::Command;
use super::command::Request;
use super::reply::{Reply, Said, Simple, Subscriptions};
use crate::exchange::{Begun, Details, End, Exchange, Finding, LossReason, Lost};
use crate::parser::{Close, Moment};

/// Requests open at once: deeper pipelines are counted.
const MOST_OPEN: usize = 4096;

/// Redis has answered what it was asked when nothing has passed for so long: it takes microseconds for a command, and
/// clients that share a connection don't use it for commands that block.
const QUIET_NANOS: u64 = 1_000_000_000;

/// What the connection knows of itself.
#[derive(Debug)]
pub(super) struct Session {
    queue: VecDeque<Entry>,
    /// Requests begun and not reported.
    unreported: usize,
    database: Option<u32>,
    /// What was SELECTed since MULTI: to be had with EXEC.
    queued_database: Option<Option<u32>>,
    silence: Silence,
    /// How many there are of each kind, if every confirmation was seen.
    subscriptions: Option<[u64; 3]>,
    /// A reply came to no request that was seen, and no request since.
    orphaned: bool,
    /// Replies have always been matched in order, nothing was missed.
    in_step: bool,
    /// Runs don't tell which replies answer which requests: the client was seen to send requests before it had the replies
    /// to those of an earlier run, or to read in one thread what another had asked.
    pipelines: bool,
    /// Which requests are answered is not known.
    in_doubt: bool,
    /// Pushes may come between the bytes of replies that are not captured.
    pushed: bool,
    /// SYNC or PSYNC: what follows is no conversation.
    replicates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    No,
    /// CLIENT REPLY SKIP: not for the next command.
    Next,
    /// CLIENT REPLY OFF.
    UntilOn,
}

#[derive(Debug)]
enum Entry {
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
struct Open {
    request: Request,
    confirmations: Confirmations,
    /// The first byte and the end of what has answered it so far.
    answer: Option<(Moment, Moment)>,
    /// Its answer may have passed unseen.
    doubtful: bool,
}

/// What answers a command of the SUBSCRIBE family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmations {
    /// It is another command.
    None,
    /// One for each channel.
    Left(u64),
    /// One for each subscription that there is.
    All(Subscriptions),
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
    fn run(&self) -> u32 {
        match self {
            Self::Open(open) => open.request.start.run,
            Self::Counted { run, .. } | Self::Unseen { run, .. } => *run,
        }
    }
}

impl Open {
    fn waits_for_confirmation(&self) -> bool {
        self.confirmations != Confirmations::None
    }
}

impl Confirmations {
    fn of(request: &Request) -> Self {
        let subscriptions = match request.name.as_str() {
            "SUBSCRIBE" | "UNSUBSCRIBE" => Subscriptions::Channels,
            "PSUBSCRIBE" | "PUNSUBSCRIBE" => Subscriptions::Patterns,
            "SSUBSCRIBE" | "SUNSUBSCRIBE" => Subscriptions::ShardChannels,
            _ => return Self::None,
        };
        match request.arguments {
            Some(0) | None => Self::All(subscriptions),
            Some(channels) => Self::Left(channels),
        }
    }
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            unreported: 0,
            // The first one, unless something was SELECTed before we came.
            database: from_start.then_some(0),
            queued_database: None,
            silence: Silence::No,
            subscriptions: from_start.then_some([0; 3]),
            orphaned: false,
            in_step: from_start,
            pipelines: false,
            in_doubt: false,
            pushed: false,
            replicates: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.unreported
    }

    fn front(&self) -> Option<&Open> {
        match self.queue.front() {
            Some(Entry::Open(open)) => Some(open),
            _ => None,
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn replicates(&self) -> bool {
        self.replicates
    }
}

/// The request side.
impl Session {
    /// The client goes on at `at`; nothing had passed since `last`. What is `unheard` is over then, if it waits.
    pub(super) fn request_run(&mut self, at: Moment, last: u64, unheard: Option<Unheard>, found: &mut Vec<Finding>) {
        if self.in_doubt {
            self.in_doubt = at.nanos.saturating_sub(last) < QUIET_NANOS;
            self.in_step = !self.in_doubt;
            return;
        }
        let Some(Unheard { array, end }) = unheard else { return };
        if let (Some(start), 1, false, Some(Entry::Open(open))) =
            (array, self.queue.len(), self.pushed, self.queue.front())
            && !open.waits_for_confirmation()
            && open.request.start.run < start.run
            && !self.may_change_database(&open.request)
            && let Some(Entry::Open(open)) = self.queue.pop_front()
        {
            self.tell(open.request, Some((start, end)), CompactString::default(), End::Complete, found);
        }
        self.lose_before(at.run, found);
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
        if self.falls_silent(&request) || request.name == "SYNC" {
            self.replicates |= request.name == "SYNC";
            if self.may_change_database(&request) {
                self.database = None;
            }
            self.tell(request, None, CompactString::default(), End::Complete, found);
        } else {
            self.wait_for(request, found);
        }
    }

    /// The request is to be answered.
    pub(super) fn wait_for(&mut self, request: Request, found: &mut Vec<Finding>) {
        let confirmations = Confirmations::of(&request);
        let is_endless = matches!(confirmations, Confirmations::All(_)) && self.subscriptions.is_none();
        if self.in_doubt || is_endless {
            self.lose(&request, found);
        } else if self.queue.len() >= MOST_OPEN {
            let replies = match confirmations {
                Confirmations::Left(replies) => replies,
                Confirmations::None | Confirmations::All(_) => 1,
            };
            if self.may_change_database(&request) {
                self.database = None;
            }
            self.count(replies, request.start.run);
            self.lost(request.start, LossReason::TooManyOpen, found);
        } else {
            self.queue.push_back(Entry::Open(Open { request, confirmations, answer: None, doubtful: false }));
        }
    }

    /// Requests passed in this run that were not seen.
    pub(super) fn unseen(&mut self, run: u32, found: &mut Vec<Finding>) {
        // One of them may have SELECTed, or asked for silence.
        (self.database, self.queued_database, self.silence) = (None, None, Silence::No);
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

    /// Whether the request will not be answered.
    fn falls_silent(&mut self, request: &Request) -> bool {
        match (request.subcommand, request.choice.as_str()) {
            (Some("REPLY"), "OFF") => self.silence = Silence::UntilOn,
            (Some("REPLY"), "SKIP") if self.silence != Silence::UntilOn => self.silence = Silence::Next,
            (Some("REPLY"), "ON") => {
                self.silence = Silence::No;
                return false;
            }
            _ => {
                let silent = self.silence != Silence::No;
                if self.silence == Silence::Next {
                    self.silence = Silence::No;
                }
                return silent;
            }
        }
        true
    }
}

/// The reply side.
impl Session {
    /// The framing was lost, and a new run of replies begins. Whether it can be followed.
    ///
    /// It answers what was asked last before it, and everything older was answered unheard.
    pub(super) fn resume(
        &mut self,
        at: Moment,
        may_begin: bool,
        after_lost_event: bool,
        found: &mut Vec<Finding>,
    ) -> bool {
        if self.in_doubt {
            return false;
        }
        let asked = self.queue.iter().map(Entry::run).filter(|&run| run < at.run).max();
        let Some(asked) = asked else {
            if !may_begin {
                found.push(Finding::Orphan(at));
            }
            return may_begin;
        };
        let has_older = self.queue.front().is_some_and(|front| front.run() < asked);
        // With nothing else unanswered, what was lost is the beginning of this reply.
        if !may_begin || (after_lost_event && !has_older) {
            return false;
        }
        self.lose_before(asked, found);
        true
    }

    /// A reply passed in a run from before that of the newest request, which it may answer all the same.
    pub(super) fn distrust_runs(&mut self) {
        self.pipelines = true;
    }

    /// Replies passed whose framing is lost.
    pub(super) fn replies_missed(&mut self, found: &mut Vec<Finding>) {
        self.in_step = false;
        self.forget_subscriptions(found);
        if self.pipelines {
            self.doubt(found);
        }
        for entry in &mut self.queue {
            if let Entry::Open(open) = entry {
                open.doubtful = true;
            }
        }
    }

    /// Whether a reply comes to nothing that was wholly asked.
    pub(super) fn is_early(&self, reply: &Reply) -> bool {
        self.in_step && self.queue.is_empty() && !self.is_unasked(reply)
    }

    /// Takes a reply; `true` if it was matched with a request. `unseen`: when it ended is not known.
    pub(super) fn answered(&mut self, reply: &Reply, unseen: bool, found: &mut Vec<Finding>) -> bool {
        self.pushed |= reply.is_push;
        self.pass_unseen(reply.start.run, found);
        let confuses = self.front().is_some_and(|open| match reply.said {
            Said::Unknown => open.waits_for_confirmation(),
            Said::Confirmed(..) => open.request.name.is_empty(),
            Said::Nothing | Said::Message => false,
        });
        if confuses {
            self.lose_subscribing(found);
            return false;
        }
        if let Said::Confirmed(of, left) = reply.said {
            self.subscribed(of, left);
        }
        if self.is_unasked(reply) {
            return false;
        }
        self.hear();
        loop {
            if !self.may_answer(reply) {
                self.doubt(found);
                return false;
            }
            match self.queue.front_mut() {
                Some(Entry::Counted { replies, .. }) => {
                    *replies = replies.saturating_sub(1);
                    if *replies == 0 {
                        self.queue.pop_front();
                    }
                    return true;
                }
                Some(Entry::Unseen { counted, .. }) if *counted > 0 => {
                    *counted -= 1;
                    return false;
                }
                Some(Entry::Open(open)) => {
                    // Its last confirmation was not known to be.
                    if open.answer.is_some() && !matches!(reply.said, Said::Confirmed(..)) {
                        self.finish(CompactString::default(), found);
                        continue;
                    }
                    if self.overlaps(reply) {
                        self.pipelines = true;
                        if !self.in_step {
                            self.doubt(found);
                            return false;
                        }
                    }
                    self.answer(reply, unseen, found);
                    return true;
                }
                Some(Entry::Unseen { .. }) | None => {
                    // CLIENT REPLY OFF was refused.
                    self.silence = Silence::No;
                    self.orphaned = self.queue.is_empty();
                    if !matches!(reply.said, Said::Confirmed(..)) {
                        found.push(Finding::Orphan(reply.start));
                    }
                    return false;
                }
            }
        }
    }

    /// Whether it is known which of the queue the reply answers: the first, while nothing was missed, or there is no other.
    /// Then the runs need not say so too: where one thread reads what another asks, a reply may be recorded before the
    /// send of its request has returned.
    fn may_answer(&self, reply: &Reply) -> bool {
        self.in_step || self.queue.len() == 1 || self.queue.back().is_none_or(|newest| newest.run() < reply.start.run)
    }

    /// A client that waits has had the replies to what was not seen when it is answered what it asked later.
    fn pass_unseen(&mut self, answering: u32, found: &mut Vec<Finding>) {
        while let Some(&Entry::Unseen { run, answered, .. }) = self.queue.front()
            && let Some(behind) = self.queue.get(1).map(Entry::run)
            && run < behind
            && behind < answering
        {
            if answered {
                self.queue.pop_front();
                continue;
            }
            let before = self.unreported;
            self.lose_before(answering, found);
            let counted = (before - self.unreported) as u64;
            self.queue.push_front(Entry::Unseen { counted, run: answering.wrapping_sub(1), answered: true });
        }
    }

    /// A reply passes: requests that were not seen have been answered, if nothing was asked since.
    fn hear(&mut self) {
        if let Some(Entry::Unseen { answered, .. }) = self.queue.back_mut() {
            *answered = true;
        }
    }

    /// The reply answers the first open request.
    fn answer(&mut self, reply: &Reply, unseen: bool, found: &mut Vec<Finding>) {
        let subscriptions = self.subscriptions;
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return };
        let (start, _) = *open.answer.get_or_insert((reply.start, reply.end));
        open.answer = Some((start, reply.end));
        let is_last = match (&mut open.confirmations, reply.said) {
            (Confirmations::Left(left), Said::Confirmed(..)) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            (Confirmations::All(of), Said::Confirmed(..)) => subscriptions.is_some_and(|left| left[*of as usize] == 0),
            _ => true,
        };
        if !is_last {
            return;
        }
        self.follow_database(reply);
        if unseen {
            if let Some(Entry::Open(open)) = self.queue.pop_front() {
                self.lost(open.request.start, LossReason::ResponseMissing, found);
            }
        } else {
            self.finish(reply.error.clone(), found);
        }
    }

    /// Whether nobody asked for the reply.
    fn is_unasked(&self, reply: &Reply) -> bool {
        let front = self.front();
        let confirms = matches!(reply.said, Said::Confirmed(..));
        let waits = front.is_some_and(Open::waits_for_confirmation);
        // What RESP3 tells with pushes, RESP2 tells with arrays: only to a subscriber, who can ask for little else.
        let may_be_told = || {
            front.is_none_or(|open| {
                open.waits_for_confirmation() || matches!(open.request.name.as_str(), "PING" | "QUIT" | "RESET")
            })
        };
        (reply.is_push && !(confirms && waits))
            || reply.simple == Simple::Monitored
            || (reply.said == Said::Message && may_be_told())
            || (confirms && !waits && may_be_told())
    }

    /// Whether the request behind the first was sent later, and before all of the reply to the first had come.
    fn overlaps(&self, reply: &Reply) -> bool {
        match (self.queue.front(), self.queue.get(1)) {
            (Some(Entry::Open(first)), Some(second)) => {
                first.request.end.run < second.run() && second.run() < reply.end.run
            }
            _ => false,
        }
    }

    fn subscribed(&mut self, of: Subscriptions, left: u64) {
        const CHANNELS: usize = Subscriptions::Channels as usize;
        const PATTERNS: usize = Subscriptions::Patterns as usize;
        let Some(subscriptions) = &mut self.subscriptions else { return };
        // Channels and patterns are counted together.
        let others = match of {
            Subscriptions::Channels => subscriptions[PATTERNS],
            Subscriptions::Patterns => subscriptions[CHANNELS],
            Subscriptions::ShardChannels => 0,
        };
        subscriptions[of as usize] = left.saturating_sub(others);
    }

    /// What the reply to the first open request says of the database.
    fn follow_database(&mut self, reply: &Reply) {
        let Some(Entry::Open(Open { request, .. })) = self.queue.front() else { return };
        let is_refused = !reply.error.is_empty();
        match request.name.as_str() {
            "SELECT" if reply.simple == Simple::Queued => self.queued_database = Some(request.choice.parse().ok()),
            "SELECT" if !is_refused => self.database = request.choice.parse().ok(),
            "RESET" if !is_refused => {
                (self.database, self.queued_database, self.subscriptions) = (Some(0), None, Some([0; 3]));
            }
            "EXEC" => {
                if let Some(database) = self.queued_database.take()
                    && reply.is_array
                {
                    // One of several failed; which one is not looked at.
                    self.database = database.filter(|_| !reply.has_errors);
                }
            }
            "DISCARD" => self.queued_database = None,
            "PSYNC" => self.replicates |= !is_refused,
            // It may have been a SELECT.
            "" => self.database = None,
            _ => {}
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
        let in_step = self.in_step;
        while let Some(entry) = self.queue.pop_front() {
            let Entry::Open(Open { request, answer, doubtful, .. }) = entry else { continue };
            if is_broken {
                self.lost(request.start, LossReason::Unparsable, found);
            } else if doubtful {
                self.lost(request.start, LossReason::ResponseMissing, found);
            } else {
                let answer = answer.or(answering.take().filter(|(start, _)| in_step || request.start.run < start.run));
                self.tell(request, answer, CompactString::default(), End::Closed(why, at), found);
            }
        }
    }
}

/// What becomes of requests.
impl Session {
    /// The first open request was answered.
    fn finish(&mut self, error: CompactString, found: &mut Vec<Finding>) {
        match self.queue.pop_front() {
            // Confirmations of it may be among what was not captured.
            Some(Entry::Open(open)) if open.doubtful && open.waits_for_confirmation() => {
                self.lose(&open.request, found);
            }
            Some(Entry::Open(open)) => self.tell(open.request, open.answer, error, End::Complete, found),
            _ => {}
        }
    }

    /// What was asked before this run was answered unheard.
    fn lose_before(&mut self, run: u32, found: &mut Vec<Finding>) {
        while self.queue.front().is_some_and(|front| front.run() < run) {
            if let Some(Entry::Open(open)) = self.queue.pop_front() {
                self.lose(&open.request, found);
            }
        }
    }

    /// Which confirmations belong to which requests is not known; nothing else is answered by them.
    fn lose_subscribing(&mut self, found: &mut Vec<Finding>) {
        self.subscriptions = None;
        self.lose_where(|open| open.waits_for_confirmation() || open.request.name.is_empty(), found);
    }

    /// How many subscriptions there are is not known, nor how many confirmations end all of them.
    fn forget_subscriptions(&mut self, found: &mut Vec<Finding>) {
        if self.subscriptions.take().is_some() {
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
    fn doubt(&mut self, found: &mut Vec<Finding>) {
        self.in_doubt = true;
        while let Some(entry) = self.queue.pop_front() {
            if let Entry::Open(open) = entry {
                self.lose(&open.request, found);
            }
        }
    }

    /// The answer to the request was not heard, nor what it did.
    fn lose(&mut self, request: &Request, found: &mut Vec<Finding>) {
        if self.may_change_database(request) {
            (self.database, self.queued_database) = (None, None);
        }
        self.lost(request.start, LossReason::ResponseMissing, found);
    }

    fn lost(&mut self, start: Moment, reason: LossReason, found: &mut Vec<Finding>) {
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
        found.push(Finding::Exchange(Box::new(Exchange {
            request_start: request.start,
            request_end: request.end,
            response_start,
            response_end,
            end,
            details: Details::Redis(Command {
                operation: request.operation(),
                text: request.text(),
                database: self.database,
                error_code,
            }),
        })));
    }

    /// Whether the database may be another after the request; of one whose name was not captured it isn't known.
    fn may_change_database(&self, request: &Request) -> bool {
        match request.name.as_str() {
            "" | "SELECT" | "RESET" => true,
            "EXEC" | "DISCARD" => self.queued_database.is_some(),
            _ => false,
        }
    }
}
