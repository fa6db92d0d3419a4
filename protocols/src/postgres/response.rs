//! The response half of the session: takes requests from the queue and reports them.

use compact_str::CompactString;

use super::UNKNOWN_ERROR;
use super::frame::Partial;
use super::message::{Message, backend, command_tag, sqlstate};
use super::open::{Answer, Extended, Open, Request, Stage};
use super::preparation::lose;
use super::session::Session;
use crate::exchange::{Begun, End, Finding, LossReason};
use crate::kit::in_order::{self, Entry, InOrder};
use crate::moment::{Close, Direction, Moment};
use crate::sql::Dialect;

impl Session {
    pub(super) fn response(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.settle_unseen(message.start.run, found);
        if !is_asynchronous(message.kind) {
            if self.requests.is_empty() {
                // Something was executed unseen.
                self.release_preparation(found);
            }
            self.requests.note_response();
            self.requests.infer_unseen(message.start.run);
        }
        match message.kind {
            backend::READY_FOR_QUERY => self.ready(message, found),
            backend::ERROR_RESPONSE => self.error(message, found),
            backend::PARAMETER_STATUS => self.parameter(message.body),
            kind if is_asynchronous(kind) => {}
            _ => {
                if let Some(open) = self.requests.front_mut() {
                    open.touch(message.start, message.end);
                    match open.request {
                        Request::Extended(_) => self.extended_response(message),
                        Request::Query | Request::Function | Request::Startup => self.simple_response(message),
                    }
                }
            }
        }
        self.settle(found);
    }

    /// Notes the first bytes of a long response, and how far it has come.
    pub(super) fn partial_response(&mut self, partial: Partial, end: Moment, found: &mut Vec<Finding>) {
        self.settle_unseen(partial.start.run, found);
        if !is_asynchronous(partial.kind) {
            self.requests.note_response();
            if let Some(open) = self.requests.front_mut() {
                open.touch(partial.start, end);
            }
        }
    }

    /// Reports requests that have their own answer and wait for no `ReadyForQuery`.
    pub(super) fn settle(&mut self, found: &mut Vec<Finding>) {
        while let Some(open) = self.requests.front()
            && let Some(Extended { stage, synced: false, .. }) = open.as_extended()
            && *stage != Stage::Building
            && open.answer == Answer::Whole
        {
            let run = open.response.map_or(0, |(_, end)| end.run);
            if let Some((mut open, is_trusted)) = self.take_front(run) {
                self.report(&mut open, is_trusted, found);
            }
        }
    }

    /// Reports every open request at the end of the connection.
    pub(super) fn close(&mut self, end: Result<End, LossReason>, found: &mut Vec<Finding>) {
        self.release_preparation(found);
        let Self { requests, account, held_bytes, database, skipping, .. } = self;
        requests.close(|mut open, may_be_answered| {
            *held_bytes -= open.held_bytes;
            if !open.is_open() {
                return;
            }
            open.skipped |= *skipping && open.answer != Answer::Whole;
            // The server gives its reason, and closes the connection without a `ReadyForQuery`.
            let is_whole = open.answer == Answer::Whole && !open.error_code.is_empty();
            match end {
                Ok(_) if may_be_answered => lose(account, &mut open, LossReason::ResponseMissing, found),
                Ok(End::Closed(Close::Normal, _)) if is_whole => {
                    account.report(Box::new(open.exchange(End::Complete, database)), found);
                }
                Ok(end) => account.report(Box::new(open.exchange(end, database)), found),
                Err(reason) => lose(account, &mut open, reason, found),
            }
        });
    }

    /// Reports the requests that began before `oldest`. Their responses are still to come.
    pub(super) fn give_up_before(&mut self, oldest: u64, end: Result<End, LossReason>, found: &mut Vec<Finding>) {
        self.release_preparation(found);
        let Self { requests, account, database, .. } = self;
        requests.give_up_before(oldest, |mut open, may_be_answered| {
            if open.is_open() {
                match end {
                    Ok(_) if may_be_answered => lose(account, &mut open, LossReason::ResponseMissing, found),
                    Ok(end) => account.report(Box::new(open.exchange(end, database)), found),
                    Err(reason) => lose(account, &mut open, reason, found),
                }
                open.is_reported = true;
            }
            // It still knows which responses are its own.
            Some(open)
        });
    }

    fn simple_response(&mut self, message: &Message<'_>) {
        let Some(open) = self.requests.front_mut() else { return };
        match message.kind {
            backend::COMMAND_COMPLETE => {
                open.answer = Answer::Partial;
                match command_tag(message.body) {
                    Some((tag, rows)) => {
                        open.count(rows);
                        open.tag = tag.into();
                    }
                    None => open.rows_hidden = true,
                }
                self.copying = false;
            }
            backend::EMPTY_QUERY_RESPONSE | backend::FUNCTION_CALL_RESPONSE => open.answer = Answer::Partial,
            backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE => self.copying = true,
            _ => {}
        }
    }

    fn extended_response(&mut self, message: &Message<'_>) {
        let Some(open) = self.requests.front_mut() else { return };
        let Request::Extended(extended) = &mut open.request else { return };
        match message.kind {
            backend::PARSE_COMPLETE
            | backend::BIND_COMPLETE
            | backend::CLOSE_COMPLETE
            | backend::NO_DATA
            | backend::ROW_DESCRIPTION => {
                match message.kind {
                    backend::PARSE_COMPLETE => {
                        if let Some(proposed) = open.prepares.take() {
                            self.statements.confirm(*proposed);
                        }
                    }
                    // It answers a Bind that was not seen.
                    backend::BIND_COMPLETE if extended.due == 0 => extended.believe_executed(),
                    _ => {}
                }
                extended.due = extended.due.saturating_sub(1);
                if extended.due == 0 && extended.stage == Stage::Prepared {
                    open.answer = Answer::Whole;
                }
            }
            backend::COMMAND_COMPLETE => {
                let (tag, rows) = command_tag(message.body).unwrap_or_default();
                (open.rows, open.tag) = (rows, tag.into());
                open.answer = Answer::Whole;
                extended.believe_executed();
                self.copying = false;
            }
            backend::EMPTY_QUERY_RESPONSE => {
                open.answer = Answer::Whole;
                extended.believe_executed();
            }
            backend::PORTAL_SUSPENDED => {
                open.rows = Some(u64::from(extended.limit)).filter(|&limit| limit > 0);
                open.answer = Answer::Whole;
                extended.believe_executed();
            }
            backend::DATA_ROW => extended.believe_executed(),
            // The server ignores the Sync that came with the Execute. The one after the data counts.
            backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE => {
                extended.synced = false;
                self.copying = true;
            }
            _ => {}
        }
    }

    fn parameter(&mut self, body: &[u8]) {
        const SETTING: &[u8] = b"standard_conforming_strings\0";
        let value = match body.strip_prefix(SETTING) {
            Some(value) => value,
            // A hole may hide the rest of the name.
            None if SETTING.starts_with(body) => b"",
            None => return,
        };
        self.dialect = match value {
            b"on\0" => Dialect::Postgres,
            b"off\0" => Dialect::PostgresEscaping,
            _ => Dialect::PostgresUnknown,
        };
    }

    fn error(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.copying = false;
        let Some(open) = self.requests.front_mut() else { return };
        open.touch(message.start, message.end);
        open.fail(sqlstate(message.body).unwrap_or(UNKNOWN_ERROR));
        match open.request {
            Request::Startup => {
                // A connection that is refused is reported. One that succeeds is not.
                open.begun = true;
                self.account.begin(Begun::plain(Direction::ToServer, open.start), found);
                if let Some((mut open, is_trusted)) = self.take_front(message.end.run) {
                    self.report(&mut open, is_trusted, found);
                }
            }
            Request::Extended(_) => {
                open.answer = Answer::Whole;
                self.skipping = true;
                if let Some(proposed) = open.prepares.take() {
                    self.statements.withdraw(&proposed);
                }
            }
            Request::Query | Request::Function => open.answer = Answer::Whole,
        }
    }

    pub(super) fn ready(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.copying = false;
        let Some(last) = self.requests.entries().position(|entry| entry.ready_due(self.skipping) > 0) else {
            self.skipping = false;
            // It answers a request that was not seen.
            let (requests, mut lost) = self.losing(found);
            requests.abandon(message.start.run, &mut lost);
            return;
        };
        for _ in 0..last {
            self.complete(message, found);
        }
        match self.next_answer(message.start, found) {
            in_order::Answer::Front => self.complete(message, found),
            in_order::Answer::Unseen { reported: false } if last == 0 => found.push(Finding::Orphan(message.start)),
            in_order::Answer::Unseen { .. } | in_order::Answer::Reported | in_order::Answer::Unknown => {}
        }
        self.skipping = false;
        self.settings_may_change &= !self.requests.is_empty();
    }

    fn next_answer(&mut self, at: Moment, found: &mut Vec<Finding>) -> in_order::Answer {
        let (requests, mut lost) = self.losing(found);
        requests.answer(at, &mut lost)
    }

    /// Reports the first request, which has its `ReadyForQuery`.
    fn complete(&mut self, ready: &Message<'_>, found: &mut Vec<Finding>) {
        let Some((mut open, is_trusted)) = self.take_front(ready.start.run) else { return };
        let is_answered = open.answer == Answer::Whole
            || match open.request {
                Request::Startup => true,
                // Without a result, its answer was missed.
                Request::Query | Request::Function => open.answer == Answer::Partial && !self.skipping,
                Request::Extended(Extended { stage, due, .. }) => {
                    stage == Stage::Supposed && due == 0 && !self.skipping
                }
            };
        open.skipped = self.skipping && !is_answered;
        if !(is_answered || open.skipped) {
            lose(&mut self.account, &mut open, LossReason::ResponseMissing, found);
            return;
        }
        open.touch(ready.start, ready.end);
        if let (true, Some(proposed)) = (open.skipped, &open.prepares) {
            self.statements.withdraw(proposed);
        }
        open.settle_stage();
        self.report(&mut open, is_trusted, found);
    }

    /// Takes the first request, whose response ended in `run`, and whether that response is surely its own. `None` if it was
    /// not announced, or is reported already.
    fn take_front(&mut self, run: u32) -> Option<(Open, bool)> {
        let is_trusted = self.requests.is_trusted();
        let open = self.requests.finish(run)?.into_open()?;
        self.held_bytes -= open.held_bytes;
        open.is_open().then_some((open, is_trusted))
    }

    fn report(&mut self, open: &mut Open, is_trusted: bool, found: &mut Vec<Finding>) {
        if is_trusted {
            let exchange = Box::new(open.exchange(End::Complete, &self.database));
            self.report_or_hold(open, exchange, found);
        } else {
            lose(&mut self.account, open, LossReason::ResponseMissing, found);
        }
    }

    /// The queue, and the function that reports the requests it loses.
    pub(super) fn losing<'s>(
        &'s mut self,
        found: &'s mut Vec<Finding>,
    ) -> (&'s mut InOrder<Open>, impl FnMut(Open) + 's) {
        let Self { requests, account, held_bytes, .. } = self;
        let lost = move |mut open: Open| {
            *held_bytes -= open.held_bytes;
            if open.is_open() {
                lose(account, &mut open, LossReason::ResponseMissing, found);
            }
        };
        (requests, lost)
    }
}

impl Entry<Open> {
    /// How many `ReadyForQuery` it waits for.
    pub(super) fn ready_due(&self, skipping: bool) -> u64 {
        match self {
            Self::Open(open) => u64::from(match open.request {
                Request::Startup => true,
                // The server skips them too, and only Sync ends that.
                Request::Query | Request::Function => !skipping,
                Request::Extended(extended) => extended.synced,
            }),
            Self::Reported { responses, .. } => *responses,
            // Unknown, and so more than one.
            Self::Unseen { .. } => 2,
        }
    }
}

impl Extended {
    fn believe_executed(&mut self) {
        if self.stage == Stage::Supposed {
            self.stage = Stage::Executed;
        }
    }
}

impl Open {
    pub(super) fn fail(&mut self, code: &str) {
        if self.error_code.is_empty() {
            self.error_code = CompactString::from(code);
        }
        self.rows = None;
    }

    /// Adds the rows of one of several statements.
    fn count(&mut self, rows: Option<u64>) {
        if let Some(more) = rows {
            self.rows = Some(self.rows.unwrap_or(0).saturating_add(more));
        }
    }

    /// Without an answer to an `Execute`, there was none.
    fn settle_stage(&mut self) {
        if let Request::Extended(extended) = &mut self.request
            && extended.stage == Stage::Supposed
            && self.answer != Answer::Whole
        {
            extended.stage = Stage::Prepared;
        }
    }

    pub(super) fn is_one_statement(&self) -> bool {
        let text = self.statement.as_deref().filter(|statement| statement.is_whole()).map_or("", |whole| &whole.text);
        match self.request {
            Request::Query => !text.is_empty() && !text.trim_end_matches([';', ' ']).contains(';'),
            Request::Extended(_) => true,
            Request::Startup | Request::Function => false,
        }
    }
}

/// Messages that the server may send at any time, without a request.
pub(super) fn is_asynchronous(kind: u8) -> bool {
    matches!(kind, backend::NOTIFICATION_RESPONSE | backend::NOTICE_RESPONSE | backend::PARAMETER_STATUS)
}
