//! Which response ends which request: the half of the session that takes from the queue.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::Query;
use super::frame::Partial;
use super::message::{Message, backend, command_tag, split_string, sqlstate};
use super::open::{Extended, Open, Request, Stage};
use super::session::{Entry, Session};
use crate::exchange::{Begun, End, Finding, LossReason, Lost};
use crate::parser::Moment;
use crate::sql::Dialect;

/// An empty queue keeps room for so many: what a long pipeline took is given back.
const MAX_IDLE: usize = 64;

impl Session {
    pub(super) fn response(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.resolve_hole(message.start.run, found);
        if !is_asynchronous(message.kind) {
            self.hear();
            self.orphaned |= self.queue.is_empty();
        }
        match message.kind {
            backend::READY_FOR_QUERY => self.ready(message, found),
            backend::ERROR_RESPONSE => self.error(message, found),
            backend::PARAMETER_STATUS => self.parameter(message.body),
            kind if is_asynchronous(kind) => {}
            _ => {
                if let Some(Entry::Open(open)) = self.queue.front_mut() {
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

    /// A response may be long: it has begun once its first bytes are seen, and reaches as far as it came.
    pub(super) fn partial_response(&mut self, partial: Partial, end: Moment, found: &mut Vec<Finding>) {
        self.resolve_hole(partial.start.run, found);
        if !is_asynchronous(partial.kind) {
            self.hear();
        }
        if let (false, Some(Entry::Open(open))) = (is_asynchronous(partial.kind), self.queue.front_mut()) {
            open.touch(partial.start, end);
        }
    }

    /// Reports what is complete with its own answer, because no `ReadyForQuery` belongs to it.
    pub(super) fn settle(&mut self, found: &mut Vec<Finding>) {
        while let Some(Entry::Open(open)) = self.queue.front()
            && let Some(Extended { stage, synced: false, .. }) = open.as_extended()
            && *stage != Stage::Building
            && open.answered
        {
            self.pop(|open, session| session.report(open, End::Complete, found));
        }
    }

    /// Everything that is open is told as `ended` says.
    pub(super) fn finish(&mut self, mut ended: impl FnMut(&Open) -> Result<End, LossReason>, found: &mut Vec<Finding>) {
        while !self.queue.is_empty() {
            self.pop(|mut open, session| {
                open.skipped |= session.skipping && !open.answered;
                match ended(&open) {
                    Ok(end) => session.report(open, end, found),
                    Err(reason) => session.lose(&open, reason, found),
                }
            });
        }
    }

    fn simple_response(&mut self, message: &Message<'_>) {
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return };
        match message.kind {
            backend::COMMAND_COMPLETE => {
                match command_tag(message.body) {
                    Some((tag, rows)) => {
                        open.count(rows);
                        open.tag = tag.into();
                    }
                    None => open.rows_hidden = true,
                }
                self.copying = false;
            }
            backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE => self.copying = true,
            _ => {}
        }
    }

    fn extended_response(&mut self, message: &Message<'_>) {
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return };
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
                    // The answer to a Bind that was not seen.
                    backend::BIND_COMPLETE if extended.due == 0 => extended.believe_executed(),
                    _ => {}
                }
                extended.due = extended.due.saturating_sub(1);
                open.answered |= extended.due == 0 && extended.stage == Stage::Prepared;
            }
            backend::COMMAND_COMPLETE => {
                let (tag, rows) = command_tag(message.body).unwrap_or_default();
                (open.rows, open.tag) = (rows, tag.into());
                open.answered = true;
                extended.believe_executed();
                self.copying = false;
            }
            backend::EMPTY_QUERY_RESPONSE => {
                open.answered = true;
                extended.believe_executed();
            }
            backend::PORTAL_SUSPENDED => {
                open.rows = Some(u64::from(extended.limit)).filter(|&limit| limit > 0);
                open.answered = true;
                extended.believe_executed();
            }
            backend::DATA_ROW => extended.believe_executed(),
            // The Sync that came with the Execute is ignored: the one after the data counts.
            backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE => {
                extended.synced = false;
                self.copying = true;
            }
            _ => {}
        }
    }

    fn parameter(&mut self, body: &[u8]) {
        if let Some((b"standard_conforming_strings", value)) = split_string(body) {
            let conforming = !value.starts_with(b"off");
            self.dialect = if conforming { Dialect::Postgres } else { Dialect::PostgresEscaping };
        }
    }

    fn error(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.copying = false;
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return };
        open.touch(message.start, message.end);
        open.fail(sqlstate(message.body).unwrap_or(Query::UNKNOWN_ERROR));
        match open.request {
            Request::Startup => {
                // A connection that fails is told; there was nothing to tell while it could succeed.
                open.begun = true;
                self.open += 1;
                found.push(Finding::Begun(Begun { start: open.start, context: None, correlation: None }));
                self.pop(|open, session| session.report(open, End::Complete, found));
            }
            Request::Extended(_) => {
                open.answered = true;
                self.skipping = true;
                if let Some(proposed) = open.prepares.take() {
                    self.statements.withdraw(&proposed);
                }
            }
            Request::Query | Request::Function => {}
        }
    }

    pub(super) fn ready(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        self.certainty.ready();
        self.copying = false;
        let Some(last) = self.queue.iter().position(|entry| entry.ready_due(self.skipping) > 0) else {
            self.skipping = false;
            if self.queue.is_empty() {
                found.push(Finding::Orphan(message.start));
            }
            // What is open was answered with what is not due, however that came about.
            self.lose_all(found);
            return;
        };
        for _ in 0..last {
            self.complete(message, found);
        }
        match self.queue.front_mut() {
            Some(Entry::Open(open)) => {
                let asked = open.request_end.run;
                self.complete(message, found);
                self.look_for_overlap(asked, message.start.run);
            }
            Some(Entry::Passed { ready, .. }) => {
                *ready -= 1;
                if *ready == 0 {
                    self.queue.pop_front();
                }
            }
            Some(Entry::Hole { orphans: true, .. }) if last == 0 => found.push(Finding::Orphan(message.start)),
            Some(Entry::Hole { .. }) | None => {}
        }
        self.skipping = false;
    }

    /// The request behind the one that was asked and answered in these runs may have been sent between the two.
    fn look_for_overlap(&mut self, asked: u32, answered: u32) {
        if self.queue.front().and_then(Entry::first_run).is_some_and(|next| asked < next && next < answered) {
            self.certainty.does_not_wait();
        }
    }

    /// `ReadyForQuery` has come for the first of the queue.
    fn complete(&mut self, ready: &Message<'_>, found: &mut Vec<Finding>) {
        self.pop(|mut open, session| {
            let is_answered = open.answered
                || match open.request {
                    Request::Startup | Request::Query | Request::Function => !session.skipping,
                    Request::Extended(Extended { stage, due, .. }) => {
                        stage == Stage::Supposed && due == 0 && !session.skipping
                    }
                };
            open.skipped = session.skipping && !is_answered;
            if !(is_answered || open.skipped) {
                session.lose(&open, LossReason::ResponseMissing, found);
                return;
            }
            open.touch(ready.start, ready.end);
            if let (true, Some(proposed)) = (open.skipped, &open.prepares) {
                session.statements.withdraw(proposed);
            }
            open.settle_stage();
            session.report(open, End::Complete, found);
        });
    }

    /// Takes the first of the queue; if it was announced it is handed on, and must be reported.
    pub(super) fn pop(&mut self, report: impl FnOnce(Open, &mut Self)) {
        if let Some(Entry::Open(open)) = self.queue.pop_front() {
            self.held_bytes -= open.held_bytes;
            if open.begun {
                self.open -= 1;
                report(open, self);
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > MAX_IDLE {
            self.queue = VecDeque::new();
        }
    }

    fn report(&self, open: Open, end: End, found: &mut Vec<Finding>) {
        if self.certainty.is_in_doubt() {
            self.lose(&open, LossReason::ResponseMissing, found);
        } else {
            found.push(Finding::Exchange(Box::new(open.into_exchange(end, &self.database))));
        }
    }

    pub(super) fn lose(&self, open: &Open, reason: LossReason, found: &mut Vec<Finding>) {
        found.push(Finding::Lost(Lost { start: open.start, reason }));
    }
}

impl Entry {
    pub(super) fn ready_due(&self, skipping: bool) -> u32 {
        match self {
            Self::Open(open) => u32::from(match open.request {
                Request::Startup => true,
                // The server skips them as well, and only Sync gets it to stop.
                Request::Query | Request::Function => !skipping,
                Request::Extended(extended) => extended.synced,
            }),
            Self::Passed { ready, .. } => *ready,
            // Any number, which is more than one.
            Self::Hole { .. } => 2,
        }
    }

    pub(super) fn first_run(&self) -> Option<u32> {
        match self {
            Self::Open(open) => Some(open.start.run),
            Self::Passed { last, .. } => Some(last.run),
            Self::Hole { .. } => None,
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

    /// Of several statements the rows are added up.
    fn count(&mut self, rows: Option<u64>) {
        if let Some(more) = rows {
            self.rows = Some(self.rows.unwrap_or(0).saturating_add(more));
        }
    }

    /// What was supposed to be executed and got no answer to that was only prepared.
    fn settle_stage(&mut self) {
        if let Request::Extended(extended) = &mut self.request
            && extended.stage == Stage::Supposed
            && !self.answered
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

/// What the server may send at any time, whatever was asked of it.
pub(super) fn is_asynchronous(kind: u8) -> bool {
    matches!(kind, backend::NOTIFICATION_RESPONSE | backend::NOTICE_RESPONSE | backend::PARAMETER_STATUS)
}
