//! An open request, from its first byte to the exchange that it becomes.

use std::sync::Arc;

use compact_str::{CompactString, ToCompactString, format_compact};

use super::UNKNOWN_ERROR;
use super::statements::Proposed;
use crate::exchange::{End, Exchange};
use crate::facts::{Database, Facts, Namespace, Rows};
use crate::kit::in_order;
use crate::moment::{Direction, Moment};
use crate::sql::{MAX_SUMMARY, Normalized};

#[derive(Debug)]
pub(super) struct Open {
    pub(super) request: Request,
    pub(super) start: Moment,
    /// Just past the last byte seen of the request.
    pub(super) request_end: Moment,
    pub(super) response: Option<(Moment, Moment)>,
    /// It was announced. A request that was not is dropped without a finding.
    pub(super) begun: bool,
    /// It is reported already. It is kept because its responses are still to come.
    pub(super) is_reported: bool,
    /// `None` if it was prepared before Onlooker came, or was dropped.
    pub(super) statement: Option<Arc<Normalized>>,
    /// The memory of the statement, if it came with this request.
    pub(super) held_bytes: usize,
    /// The round trip that prepared its statement, if it is a part of this request.
    pub(super) preparation: Option<Box<Exchange>>,
    /// The name that its `Parse` gives, valid only if that succeeds.
    pub(super) prepares: Option<Box<Proposed>>,
    pub(super) answer: Answer,
    pub(super) skipped: bool,
    pub(super) rows: Option<u64>,
    /// The row count of a statement was not captured, so the sum is unknown.
    pub(super) rows_hidden: bool,
    pub(super) error_code: CompactString,
    /// The command tag, for an unknown statement.
    pub(super) tag: CompactString,
}

/// How much of a request's own answer was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Awaited,
    /// A result. `ReadyForQuery` says whether it was the last of several.
    Partial,
    /// Its end: `CommandComplete` or the like of an `Execute`, or an error.
    Whole,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The `StartupMessage` and the authentication.
    Startup,
    /// A simple `Query`. `ReadyForQuery` ends it.
    Query,
    /// A `FunctionCall`. `ReadyForQuery` ends it.
    Function,
    Extended(Extended),
}

/// The messages of the extended query protocol since the last `Execute`, `Flush` or `Sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) stage: Stage,
    /// It is the last before a `Sync`, so `ReadyForQuery` ends it.
    pub(super) synced: bool,
    /// How many answers its messages before the `Execute` wait for.
    pub(super) due: u32,
    /// The row limit of the `Execute`. A suspended portal returned as many.
    pub(super) limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// More messages may belong to it.
    Building,
    /// It has no `Execute`. A statement was prepared or described.
    Prepared,
    Executed,
    /// Its end was not captured, and likely has an `Execute`.
    Supposed,
}

impl in_order::Open for Open {
    const SHARED: bool = false;
    const BATCHED: bool = true;

    fn start(&self) -> Moment {
        self.start
    }

    fn last_run(&self) -> u32 {
        self.request_end.run
    }
}

impl Open {
    pub(super) fn new(request: Request, start: Moment, request_end: Moment) -> Self {
        Self {
            request,
            start,
            request_end,
            response: None,
            begun: false,
            is_reported: false,
            statement: None,
            held_bytes: 0,
            preparation: None,
            prepares: None,
            answer: Answer::Awaited,
            skipped: false,
            rows: None,
            rows_hidden: false,
            error_code: CompactString::default(),
            tag: CompactString::default(),
        }
    }

    pub(super) fn extended(start: Moment, end: Moment) -> Self {
        Self::new(Request::Extended(Extended { stage: Stage::Building, synced: false, due: 0, limit: 0 }), start, end)
    }

    pub(super) fn as_extended(&self) -> Option<&Extended> {
        match &self.request {
            Request::Extended(extended) => Some(extended),
            _ => None,
        }
    }

    pub(super) fn as_extended_mut(&mut self) -> Option<&mut Extended> {
        match &mut self.request {
            Request::Extended(extended) => Some(extended),
            _ => None,
        }
    }

    /// Whether it was announced and is still to be reported.
    pub(super) fn is_open(&self) -> bool {
        self.begun && !self.is_reported
    }

    pub(super) fn is(&self, stage: Stage) -> bool {
        self.as_extended().is_some_and(|extended| extended.stage == stage)
    }

    /// A part of its response passed.
    pub(super) fn touch(&mut self, start: Moment, end: Moment) {
        self.response = Some((self.response.map_or(start, |(first, _)| first), end));
    }

    pub(super) fn exchange(&self, end: End, database: &CompactString) -> Exchange {
        Exchange {
            direction: Direction::ToServer,
            request_start: self.preparation.as_ref().map_or(self.start, |preparation| preparation.request_start),
            request_end: self.request_end,
            response_start: self.response.map(|(start, _)| start),
            response_end: self.response.map(|(_, end)| end),
            end,
            facts: Facts::Database(self.facts(database.clone())),
        }
    }

    fn facts(&self, database: CompactString) -> Database {
        let is_known = self.statement.is_some();
        let Normalized { text, operation, collection, summary } =
            self.statement.as_deref().cloned().unwrap_or_default();
        let (operation, summary) = match self.request {
            Request::Startup => named("CONNECT"),
            Request::Function => named("FUNCTION CALL"),
            Request::Extended(Extended { stage: Stage::Prepared | Stage::Building, .. }) => {
                ("PREPARE".to_compact_string(), prepare(&summary))
            }
            Request::Query | Request::Extended(_) if is_known => (operation, summary),
            Request::Query | Request::Extended(_) => (self.tag.clone(), self.tag.clone()),
        };
        let rows = self.rows.filter(|_| !self.rows_hidden);
        let rows = rows.map(|rows| if returns_rows(&operation) { Rows::Returned(rows) } else { Rows::Processed(rows) });
        Database {
            system: "postgresql",
            namespace: Namespace::Name(database),
            operation,
            collection,
            summary,
            text: text.into(),
            status: if self.error_code == UNKNOWN_ERROR { CompactString::default() } else { self.error_code.clone() },
            failed: is_error(&self.error_code),
            skipped: self.skipped,
            rows,
            batch_size: None,
            prepared: self.preparation.is_some(),
        }
    }
}

/// Whether the count in the command tag is that of returned rows.
fn returns_rows(operation: &str) -> bool {
    ["SELECT", "FETCH", "VALUES", "TABLE"].iter().any(|one| one.eq_ignore_ascii_case(operation))
}

/// SQLSTATE classes 00 and 01 are success and warnings.
fn is_error(code: &str) -> bool {
    code == UNKNOWN_ERROR || code >= "02"
}

fn named(operation: &str) -> (CompactString, CompactString) {
    (operation.into(), operation.into())
}

fn prepare(summary: &str) -> CompactString {
    let whole = format_compact!("PREPARE {summary}");
    match whole.as_bytes().get(..=MAX_SUMMARY) {
        // The summary fits without the first word, so a space follows within the limit.
        Some(cut) => whole[..memchr::memrchr(b' ', cut).unwrap_or(0)].into(),
        None => whole.trim_end().into(),
    }
}
