//! Which requests are open on a connection, in the order in which they will be answered.
//!
//! The server answers strictly in order, and says with `ReadyForQuery` where the answers to a `Query`, a `FunctionCall`
//! or a `Sync` end. So the open requests are a queue, and responses belong to its front. This half of the session adds
//! to the queue; [`response`](super::response) takes from it.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;

use super::frame::Partial;
use super::message::{Message, frontend, split_string};
use super::open::{Extended, Open, Request, Stage};
use super::statements::Statements;
use crate::exchange::{Begun, Finding, LossReason, Lost};
use crate::parser::Moment;
use crate::sql::{Dialect, Extent, Normalized, Normalizer};

/// How many requests are kept open on one connection, and how much memory their statements take; later ones are
/// counted as lost.
const MAX_OPEN: usize = 4096;
const MAX_HELD_BYTES: usize = 512 * 1024;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) queue: VecDeque<Entry>,
    /// How many of the queue were announced.
    pub(super) open: usize,
    /// What the statements hold that came with the requests of the queue.
    pub(super) held_bytes: usize,
    pub(super) statements: Statements,
    pub(super) portals: Statements,
    pub(super) database: CompactString,
    pub(super) dialect: Dialect,
    normalizer: Normalizer,
    last_unnamed: Option<Unnamed>,
    /// A command of a pipeline failed: the server skips all messages to the next `Sync`.
    pub(super) skipping: bool,
    /// The client copies data in: `Sync` and `Flush` mean nothing until it is done.
    pub(super) copying: bool,
    pub(super) certainty: Certainty,
    /// A response came to no request that was seen, and no request since.
    pub(super) orphaned: bool,
    /// Where the newest request began that was open when responses passed whose messages are not known: it may have been
    /// answered, as may those before.
    pub(super) answered_unseen: Option<u64>,
    overflow: Overflow,
    /// Where the message began for which a request was opened before all of it had passed.
    opened: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Entry {
    Open(Open),
    /// So many `ReadyForQuery` to come that belong to nothing that is told: bare `Sync`s, requests beyond [`MAX_OPEN`].
    Passed {
        ready: u32,
        last: Moment,
    },
    /// Requests that were not seen, any number of them. It is over when an answer comes in a later run than the
    /// request behind it: a client that waits has had all answers by then.
    Hole {
        /// Whether their responses are to be told as orphans; not if the requests were counted already.
        orphans: bool,
        /// Whether responses have passed since. If not, they may be of the same run as the request behind: then theirs
        /// come before its own.
        answered: bool,
    },
}

/// Whether it can be said which response belongs to which request, once responses were not captured.
///
/// It can while the client waits for its answers before it sends more. Where it has been seen not to, nothing is told
/// after a loss until one turn of requests was answered by as many `ReadyForQuery`.
#[derive(Debug, Default)]
pub(super) struct Certainty {
    /// The client was seen to send requests while those of an earlier run were open.
    pipelines: bool,
    /// Runs don't tell either of a client that reads in one thread what it asks in another.
    distrusts_runs: bool,
    doubt: bool,
    /// Points of synchronisation in the last run of requests, and of responses.
    requested: u32,
    answered: u32,
}

/// What the last `Parse` of the unnamed statement was made into.
#[derive(Debug)]
struct Unnamed {
    body: Box<[u8]>,
    dialect: Dialect,
    statement: Arc<Normalized>,
}

/// Requests beyond [`MAX_OPEN`]: a group of the extended protocol that isn't kept.
#[derive(Debug, Default)]
struct Overflow {
    group: Option<Group>,
    /// It had an `Execute`, and its `Sync` is to come: until then nothing is kept, for the answers can't be told apart.
    unsynced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    start: Moment,
    /// Whether it prepares or describes a statement, so that it counts without an `Execute` too.
    counts: bool,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            open: 0,
            held_bytes: 0,
            statements: Statements::default(),
            portals: Statements::default(),
            database: CompactString::default(),
            dialect: Dialect::Postgres,
            normalizer: Normalizer::default(),
            last_unnamed: None,
            skipping: false,
            copying: false,
            certainty: Certainty::default(),
            orphaned: false,
            answered_unseen: None,
            overflow: Overflow::default(),
            opened: None,
        }
    }

    /// Nothing is known of what the client has sent so far.
    pub(super) fn assume_unseen_requests(&mut self) {
        self.queue.push_back(Entry::Hole { orphans: true, answered: true });
    }

    /// The first piece of a run of requests is about to be taken; `lost` says whether responses were not captured.
    pub(super) fn request_run(&mut self, run: u32, lost: bool, found: &mut Vec<Finding>) {
        if !lost {
            self.settle_supposed(run, found);
        }
        self.certainty.request_run(self.queue.is_empty());
    }

    /// A client that goes on has its answer: an `Execute` that is only supposed, and got none, was not there.
    fn settle_supposed(&mut self, run: u32, found: &mut Vec<Finding>) {
        if let Some(Entry::Open(open)) = self.queue.front_mut()
            && open.is(Stage::Supposed)
            && open.response.is_some_and(|(_, end)| end.run < run)
            && let Some(extended) = open.as_extended_mut()
            && extended.due == 0
        {
            extended.stage = Stage::Prepared;
            open.answered = true;
            self.settle(found);
        }
    }

    pub(super) fn startup(&mut self, start: Moment, end: Moment, database: &[u8]) {
        self.database = CompactString::from_utf8_lossy(database);
        self.queue.push_back(Entry::Open(Open::new(Request::Startup, start, end)));
    }

    pub(super) fn request(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let opened = self.opened.take() == Some(message.start.position);
        self.orphaned = false;
        match message.kind {
            frontend::QUERY => self.query(message, opened, found),
            frontend::FUNCTION_CALL => self.simple(Request::Function, message, opened, None, found),
            frontend::PARSE => self.parse(message, opened, found),
            frontend::BIND => self.bind(message, found),
            frontend::DESCRIBE => self.describe(message, found),
            frontend::CLOSE => self.close_named(message, found),
            frontend::EXECUTE => self.execute(message, found),
            frontend::FLUSH if !self.copying => self.flush(message, found),
            frontend::SYNC if !self.copying => self.sync(message, found),
            frontend::COPY_DATA => self.extend_copy(message.end),
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                self.extend_copy(message.end);
                self.copying = false;
            }
            // Passwords and Terminate.
            _ => {}
        }
        self.settle(found);
    }

    /// A request may be long: it is announced once its first bytes are seen, and reaches as far as it was sent.
    pub(super) fn partial_request(&mut self, partial: Partial, end: Moment, found: &mut Vec<Finding>) {
        let Partial { kind, start } = partial;
        let opened = self.opened == Some(start.position);
        match kind {
            frontend::QUERY | frontend::FUNCTION_CALL | frontend::PARSE if !opened => {
                self.opened = Some(start.position);
                match kind {
                    frontend::QUERY => self.open_simple(Request::Query, start, end, None, found),
                    frontend::FUNCTION_CALL => self.open_simple(Request::Function, start, end, None, found),
                    _ => self.open_parse(start, end, found),
                }
            }
            frontend::COPY_DATA => self.extend_copy(end),
            frontend::PASSWORD => {}
            _ => {
                let is_part = opened || self.building().is_some();
                if let (true, Some(Entry::Open(open))) = (is_part, self.queue.back_mut()) {
                    open.request_end = end;
                }
            }
        }
    }

    /// A hole swallowed the beginning of a message, and any number of messages with it.
    pub(super) fn lose_requests(&mut self, end: Moment) {
        match self.building() {
            Some(open) if open.begun => {
                open.request_end = end;
                if let Some(extended) = open.as_extended_mut() {
                    extended.stage = Stage::Supposed;
                }
            }
            Some(_) => self.drop_back(),
            None => {}
        }
        self.opened = None;
        // They were replaced, if there was a Parse or a Bind among it. Names are not given anew while they are in use.
        self.statements.remove(b"");
        self.portals.remove(b"");
        // What a COPY's data hides is no request.
        let orphans = !std::mem::take(&mut self.copying);
        match self.queue.back_mut() {
            Some(Entry::Hole { answered, .. }) => *answered &= self.orphaned,
            _ => self.queue.push_back(Entry::Hole { orphans, answered: self.orphaned }),
        }
    }

    fn query(&mut self, message: &Message<'_>, opened: bool, found: &mut Vec<Finding>) {
        let statement = self.normalize(message.body);
        self.simple(Request::Query, message, opened, Some(statement), found);
    }

    fn simple(
        &mut self,
        request: Request,
        message: &Message<'_>,
        opened: bool,
        statement: Option<Arc<Normalized>>,
        found: &mut Vec<Finding>,
    ) {
        match self.queue.back_mut() {
            Some(Entry::Open(open)) if opened && open.start == message.start => {
                open.request_end = message.end;
                if let Some(statement) = statement {
                    self.hold(statement);
                }
            }
            // It was too many when it was opened, or is over already.
            _ if opened => {}
            _ => self.open_simple(request, message.start, message.end, statement, found),
        }
    }

    fn open_simple(
        &mut self,
        request: Request,
        start: Moment,
        end: Moment,
        statement: Option<Arc<Normalized>>,
        found: &mut Vec<Finding>,
    ) {
        self.end_group(found);
        self.certainty.requested += 1;
        if self.is_full() {
            self.overflow = Overflow::default();
            too_many(start, found);
            self.pass(start);
            return;
        }
        self.settle(found);
        self.queue.push_back(Entry::Open(Open::new(request, start, end)));
        if let Some(statement) = statement {
            self.hold(statement);
        }
        self.begin(found);
    }

    fn parse(&mut self, message: &Message<'_>, opened: bool, found: &mut Vec<Finding>) {
        if !opened {
            self.open_parse(message.start, message.end, found);
        }
        let Some((name, sql)) = split_string(message.body) else {
            // Only the unnamed statement can be replaced by another.
            self.statements.remove(b"");
            return;
        };
        let statement = if name.is_empty() { self.normalize_unnamed(sql) } else { self.normalize(sql) };
        let proposed = self.statements.propose(name, &statement);
        if let Some(open) = self.building() {
            open.request_end = message.end;
            open.prepares = proposed.map(Box::new);
            self.hold(statement);
        }
    }

    /// Each `Parse` begins a group, if the one in progress has had its own.
    fn open_parse(&mut self, start: Moment, end: Moment, found: &mut Vec<Finding>) {
        let has_its_own = self.building().is_some_and(|open| open.statement.is_some())
            || self.overflow.group.is_some_and(|group| group.counts);
        if has_its_own {
            self.end_group(found);
        }
        if self.extend_group(start, end, true, found) {
            self.begin(found);
        }
    }

    fn bind(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let (portal, rest) = split_string(message.body).unwrap_or_default();
        let statement = split_string(rest).and_then(|(name, _)| self.statements.get(name));
        self.portals.set(portal, statement);
        self.extend_group(message.start, message.end, false, found);
    }

    fn describe(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let name = message.body.strip_prefix(b"S").and_then(split_string).map(|(name, _)| name);
        if self.extend_group(message.start, message.end, name.is_some(), found)
            && let Some(name) = name
        {
            let statement = self.statements.get(name);
            if let Some(open) = self.building() {
                open.statement = open.statement.take().or(statement);
            }
            self.begin(found);
        }
    }

    fn close_named(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.extend_group(message.start, message.end, false, found);
        match message.body.split_first().map(|(kind, name)| (kind, split_string(name))) {
            Some((b'S', Some((name, _)))) => self.statements.remove(name),
            Some((b'P', Some((name, _)))) => self.portals.remove(name),
            _ => {}
        }
    }

    fn execute(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let portal = split_string(message.body);
        let statement = portal.and_then(|(portal, _)| self.portals.get(portal));
        let limit = portal.and_then(|(_, rest)| rest.first_chunk()).map_or(0, |&limit| u32::from_be_bytes(limit));
        if !self.extend_group(message.start, message.end, false, found) {
            if let Some(group) = self.overflow.group.take() {
                too_many(group.start, found);
                self.overflow.unsynced = true;
            }
            return;
        }
        if let Some(open) = self.building() {
            open.statement = statement;
            if let Some(extended) = open.as_extended_mut() {
                // What was due before it comes before its own answer.
                *extended = Extended { stage: Stage::Executed, due: 0, limit, ..*extended };
            }
        }
        self.begin(found);
    }

    /// What was sent is to be answered now: a group that waits for that is a request of its own.
    fn flush(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        if let Some(Entry::Open(open)) = self.queue.back_mut()
            && matches!(open.request, Request::Extended(Extended { synced: false, .. }))
        {
            open.request_end = message.end;
        }
        self.end_group(found);
    }

    fn sync(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.certainty.requested += 1;
        self.end_group(found);
        let overflows = std::mem::take(&mut self.overflow).unsynced;
        // A group with nothing to tell of: its answers come with those of the one before.
        if self.building().is_some() {
            self.drop_back();
        }
        if let Some(Entry::Open(open)) = self.queue.back_mut()
            && let Request::Extended(extended) = &mut open.request
            && !extended.synced
            && !overflows
        {
            extended.synced = true;
            open.request_end = message.end;
        } else {
            self.pass(message.end);
        }
    }

    /// The group in progress, if there is one.
    pub(super) fn building(&mut self) -> Option<&mut Open> {
        match self.queue.back_mut() {
            Some(Entry::Open(open)) if open.is(Stage::Building) => Some(open),
            _ => None,
        }
    }

    /// Adds a message to the group in progress, or begins one with it; `false` if the group isn't kept.
    fn extend_group(&mut self, start: Moment, end: Moment, counts: bool, found: &mut Vec<Finding>) -> bool {
        if self.building().is_none() {
            if self.is_full() {
                let group = self.overflow.group.get_or_insert(Group { start, counts: false });
                group.counts |= counts;
                return false;
            }
            self.settle(found);
            self.queue.push_back(Entry::Open(Open::extended(start, end)));
        }
        if let Some(open) = self.building() {
            open.request_end = end;
            if let Some(extended) = open.as_extended_mut() {
                extended.due = extended.due.saturating_add(1);
            }
        }
        true
    }

    /// No `Execute` will follow in the group in progress: if it is of a statement, it was to prepare it.
    fn end_group(&mut self, found: &mut Vec<Finding>) {
        if let Some(open) = self.building()
            && open.begun
            && let Some(extended) = open.as_extended_mut()
        {
            extended.stage = Stage::Prepared;
            let is_answered = extended.due == 0;
            open.answered |= is_answered;
        }
        if let Some(group) = self.overflow.group.take_if(|group| group.counts) {
            too_many(group.start, found);
            self.overflow.unsynced = true;
        }
    }

    /// Takes back a group that was not announced.
    fn drop_back(&mut self) {
        if let Some(Entry::Open(open)) = self.queue.pop_back() {
            self.held_bytes -= open.held_bytes;
        }
    }

    fn extend_copy(&mut self, end: Moment) {
        if let (true, Some(Entry::Open(open))) = (self.copying, self.queue.front_mut()) {
            open.request_end = end;
        }
    }

    /// Announces the last of the queue, unless it was.
    fn begin(&mut self, found: &mut Vec<Finding>) {
        if let Some(Entry::Open(open)) = self.queue.back_mut()
            && !open.begun
        {
            open.begun = true;
            self.open += 1;
            found.push(Finding::Begun(Begun { start: open.start, context: None, correlation: None }));
        }
    }

    fn is_full(&self) -> bool {
        self.overflow.unsynced
            || self.overflow.group.is_some()
            || self.queue.len() >= MAX_OPEN
            || self.held_bytes >= MAX_HELD_BYTES
    }

    /// The last of the queue came with its statement.
    fn hold(&mut self, statement: Arc<Normalized>) {
        if let Some(Entry::Open(open)) = self.queue.back_mut() {
            self.held_bytes -= open.held_bytes;
            open.held_bytes = statement.held_bytes();
            self.held_bytes += open.held_bytes;
            open.statement = Some(statement);
        }
    }

    /// One more `ReadyForQuery` that belongs to nothing told.
    fn pass(&mut self, at: Moment) {
        match self.queue.back_mut() {
            Some(Entry::Passed { ready, last }) => (*ready, *last) = (ready.saturating_add(1), at),
            _ => self.queue.push_back(Entry::Passed { ready: 1, last: at }),
        }
    }

    /// SQL to its NUL; without one it was not captured to its end.
    fn normalize(&mut self, body: &[u8]) -> Arc<Normalized> {
        let (sql, extent) = match split_string(body) {
            Some((sql, _)) => (sql, Extent::Whole),
            None => (body, Extent::Truncated),
        };
        Arc::new(self.normalizer.normalize(sql, extent, self.dialect))
    }

    /// The same for the unnamed statement, which many clients parse anew for each execution.
    fn normalize_unnamed(&mut self, body: &[u8]) -> Arc<Normalized> {
        if let Some(last) = &self.last_unnamed
            && *last.body == *body
            && last.dialect == self.dialect
        {
            return Arc::clone(&last.statement);
        }
        let statement = self.normalize(body);
        self.last_unnamed =
            Some(Unnamed { body: body.into(), dialect: self.dialect, statement: Arc::clone(&statement) });
        statement
    }
}

impl Certainty {
    fn request_run(&mut self, all_answered: bool) {
        self.doubt &= !(all_answered && self.requested > 0 && self.requested == self.answered);
        self.requested = 0;
    }

    pub(super) fn response_run(&mut self) {
        self.answered = 0;
    }

    pub(super) fn ready(&mut self) {
        self.answered += 1;
    }

    pub(super) fn does_not_wait(&mut self) {
        self.pipelines = true;
    }

    pub(super) fn distrust_runs(&mut self) {
        self.distrusts_runs = true;
    }

    pub(super) fn distrusts_runs(&self) -> bool {
        self.distrusts_runs
    }

    /// Responses were not captured.
    pub(super) fn lose(&mut self) {
        self.doubt |= self.pipelines;
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt
    }
}

fn too_many(start: Moment, found: &mut Vec<Finding>) {
    found.push(Finding::Begun(Begun { start, context: None, correlation: None }));
    found.push(Finding::Lost(Lost { start, reason: LossReason::TooManyOpen }));
}
