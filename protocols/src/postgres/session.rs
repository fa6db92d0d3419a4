//! The request half of the session: adds requests to the queue.
//!
//! The server answers in order. `ReadyForQuery` ends the answers to a `Query`, a `FunctionCall` or a `Sync`.
//! [`extended`](super::extended) adds the requests of the extended query protocol. [`response`](super::response) takes
//! requests from the queue. [`recovery`](super::recovery) does so after a loss.

use std::sync::Arc;

use compact_str::CompactString;

use super::frame::Partial;
use super::message::{Message, frontend, split_string};
use super::open::{Answer, Open, Request, Stage};
use super::overflow::Overflow;
use super::preparation::Preparation;
use super::statements::{Statements, Unnamed};
use crate::exchange::{Begun, Finding, LossReason, Lost};
use crate::kit::account::Account;
use crate::kit::certainty::Client;
use crate::kit::in_order::InOrder;
use crate::moment::{Direction, Moment};
use crate::sql::{Dialect, Extent, Normalized, Normalizer};

/// How much memory the statements of the open requests may take. Later requests are counted as lost.
const MAX_HELD_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) requests: InOrder<Open>,
    pub(super) account: Account,
    /// The memory of the statements that came with the open requests.
    pub(super) held_bytes: usize,
    pub(super) statements: Statements,
    pub(super) portals: Statements,
    pub(super) database: CompactString,
    pub(super) dialect: Dialect,
    /// Statements may have run since the last `ReadyForQuery`. The server reports changed settings only there
    /// (`ReportChangedGUCOptions` in PostgreSQL's guc.c).
    pub(super) settings_may_change: bool,
    normalizer: Normalizer,
    pub(super) last_unnamed: Option<Unnamed>,
    /// A command of a pipeline failed, so the server skips all messages up to the next `Sync`.
    pub(super) skipping: bool,
    /// The client copies data in. The server ignores `Sync` and `Flush` until it is done.
    pub(super) copying: bool,
    pub(super) overflow: Overflow,
    pub(super) preparation: Option<Preparation>,
    /// Where the current message began, if its request is open already.
    opened: Option<u64>,
}

impl Session {
    /// `from_start`: nothing passed on the connection before.
    pub(super) fn new(from_start: bool) -> Self {
        let mut requests = InOrder::new(from_start);
        if !from_start {
            requests.push_hole(0);
        }
        Self {
            requests,
            account: Account::new(Direction::ToServer),
            held_bytes: 0,
            statements: Statements::default(),
            portals: Statements::default(),
            database: CompactString::default(),
            dialect: Dialect::PostgresUnknown,
            settings_may_change: false,
            normalizer: Normalizer::default(),
            last_unnamed: None,
            skipping: false,
            copying: false,
            overflow: Overflow::default(),
            preparation: None,
            opened: None,
        }
    }

    /// A run of requests begins at `at`. `is_lost`: the framing of the responses is.
    pub(super) fn request_run(&mut self, at: Moment, is_lost: bool, found: &mut Vec<Finding>) {
        if !is_lost {
            self.settle_supposed(at.run, found);
        }
        // A password answers the server, and the rest of a group may follow after a Flush.
        let goes_on = self.requests.front().is_some_and(|open| {
            let is_expected = open.request == Request::Startup || open.is(Stage::Building);
            !is_expected && open.response.is_some() && open.answer != Answer::Whole && open.request_end.run < at.run
        });
        if goes_on && !self.copying && !is_lost {
            self.requests.observe(Client::Pipelines);
        }
        self.requests.request_run(at, 0);
    }

    /// A client that sends more has its answer. So a supposed `Execute` without an answer did not exist.
    fn settle_supposed(&mut self, run: u32, found: &mut Vec<Finding>) {
        if let Some(open) = self.requests.front_mut()
            && open.is(Stage::Supposed)
            && open.response.is_some_and(|(_, end)| end.run < run)
            && let Some(extended) = open.as_extended_mut()
            && extended.due == 0
        {
            extended.stage = Stage::Prepared;
            open.answer = Answer::Whole;
            self.settle(found);
        }
    }

    /// Reports names that were dropped to make room.
    pub(super) fn report_forgotten(&mut self, found: &mut Vec<Finding>) {
        let forgotten = self.statements.take_forgotten() + self.portals.take_forgotten();
        found.extend(std::iter::repeat_n(Finding::StatementForgotten, forgotten));
    }

    pub(super) fn startup(&mut self, start: Moment, end: Moment, database: &[u8]) {
        self.database = CompactString::from_utf8_lossy(database);
        self.requests.push(Open::new(Request::Startup, start, end));
    }

    pub(super) fn request(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        if self.preparation.is_some() {
            self.follow_preparation(message, found);
        }
        let opened = self.opened.take() == Some(message.start.position);
        match message.kind {
            frontend::QUERY => self.query(message, opened, found),
            frontend::FUNCTION_CALL => {
                self.settings_may_change = true;
                self.simple(Request::Function, message, opened, None, found);
            }
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

    /// Announces a long request at its first bytes, and notes how far it has come.
    pub(super) fn partial_request(&mut self, partial: Partial, end: Moment, found: &mut Vec<Finding>) {
        let Partial { kind, start } = partial;
        let opened = self.opened == Some(start.position);
        match kind {
            frontend::QUERY | frontend::FUNCTION_CALL | frontend::PARSE if !opened => {
                self.release_preparation(found);
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
                if let (true, Some(open)) = (is_part, self.requests.back_mut()) {
                    open.request_end = end;
                }
            }
        }
    }

    /// A hole hides the beginning of a message, and any number of other messages.
    pub(super) fn lose_requests(&mut self, end: Moment, found: &mut Vec<Finding>) {
        self.release_preparation(found);
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
        self.settings_may_change = true;
        // A Parse or Bind among them replaced these. Other names cannot be given again while they are in use.
        self.statements.remove(b"");
        self.portals.remove(b"");
        // The data of a COPY has no requests.
        let reported = if std::mem::take(&mut self.copying) { u64::MAX } else { 0 };
        self.requests.push_unseen(reported, end.run);
    }

    fn query(&mut self, message: &Message<'_>, opened: bool, found: &mut Vec<Finding>) {
        let statement = self.normalize(message.body);
        self.settings_may_change = true;
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
        match self.requests.back_mut() {
            Some(open) if opened && open.start == message.start => {
                open.request_end = message.end;
                if let Some(statement) = statement {
                    self.hold(statement);
                }
            }
            // It found no room, or is reported already.
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
        if self.is_full() {
            self.overflow = Overflow::default();
            too_many(start, found);
            self.pass(start);
            return;
        }
        self.settle(found);
        self.requests.push(Open::new(request, start, end));
        if let Some(statement) = statement {
            self.hold(statement);
        }
        self.begin(found);
    }

    fn extend_copy(&mut self, end: Moment) {
        if let (true, Some(open)) = (self.copying, self.requests.front_mut()) {
            open.request_end = end;
        }
    }

    /// Announces the newest request, once.
    pub(super) fn begin(&mut self, found: &mut Vec<Finding>) {
        if let Some(open) = self.requests.back_mut()
            && !open.begun
        {
            open.begun = true;
            self.account.begin(Begun::plain(Direction::ToServer, open.start), found);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.overflow.unsynced
            || self.overflow.group.is_some()
            || self.requests.is_full()
            || self.held_bytes >= MAX_HELD_BYTES
    }

    /// Sets the statement of the newest request.
    pub(super) fn hold(&mut self, statement: Arc<Normalized>) {
        if let Some(open) = self.requests.back_mut() {
            self.held_bytes -= open.held_bytes;
            open.held_bytes = statement.held_bytes();
            self.held_bytes += open.held_bytes;
            open.statement = Some(statement);
        }
    }

    /// Expects one more `ReadyForQuery` that belongs to no open request.
    pub(super) fn pass(&mut self, at: Moment) {
        self.requests.push_reported(1, at.run);
    }

    /// Normalizes SQL up to its NUL. Without a NUL it was not captured whole.
    pub(super) fn normalize(&mut self, body: &[u8]) -> Arc<Normalized> {
        let (sql, extent) = match split_string(body) {
            Some((sql, _)) => (sql, Extent::Whole),
            None => (body, Extent::Truncated),
        };
        Arc::new(self.normalizer.normalize(sql, extent, self.dialect()))
    }

    /// How the server will read the next statement.
    pub(super) fn dialect(&self) -> Dialect {
        if self.settings_may_change { Dialect::PostgresUnknown } else { self.dialect }
    }
}

pub(super) fn too_many(start: Moment, found: &mut Vec<Finding>) {
    found.push(Finding::Begun(Begun::plain(Direction::ToServer, start)));
    found.push(Finding::Lost(Lost { direction: Direction::ToServer, start, reason: LossReason::TooManyOpen }));
}
