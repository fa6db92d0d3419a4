//! Folds the round trip that prepares a statement into the execution that follows it.
//!
//! Some drivers send `Parse`, `Describe` and `Sync` for every statement, wait for the answer, and then send `Bind` and
//! `Execute`. Both round trips together are one query. So the first one is held back until the next message shows what
//! follows:
//!
//! ```text
//!   Parse Describe Sync ──► answered ──► held ──┬─► Bind Execute of the same statement ──► one exchange
//!                                               └─► anything else, a loss, the end, too long ──► an exchange of its own
//! ```
//!
//! A preparation that fails is not held. It is not held either if the client has sent more already.

use std::sync::Arc;

use super::message::{Message, frontend, split_string};
use super::open::{Open, Stage};
use super::preparation::Preparation;
use super::session::Session;
use crate::exchange::{Exchange, Finding};

impl Session {
    /// Reports the exchange, or holds it if it is a preparation that may be folded.
    pub(super) fn report_or_hold(&mut self, open: &Open, exchange: Box<Exchange>, found: &mut Vec<Finding>) {
        // The statement takes memory of the request only if a Parse brought it.
        let prepares = open.is(Stage::Prepared) && open.held_bytes > 0;
        let succeeds = open.error_code.is_empty() && !open.skipped;
        if let Some(statement) = &open.statement
            && prepares
            && succeeds
            && self.requests.is_empty()
        {
            self.release_preparation(found);
            self.preparation = Some(Preparation { exchange, statement: Arc::clone(statement) });
        } else {
            self.account.report(exchange, found);
        }
    }

    /// Reports the held preparation, unless the message may belong to its execution.
    pub(super) fn follow_preparation(&mut self, message: &Message<'_>, found: &mut Vec<Finding>) {
        let follows = match message.kind {
            frontend::BIND => self.requests.is_empty() && self.executes_preparation(message),
            frontend::DESCRIBE => self.building().is_some() && message.body.starts_with(b"P"),
            frontend::EXECUTE => self.building().is_some(),
            _ => false,
        };
        if !follows {
            self.release_preparation(found);
        }
    }

    /// Whether the `Bind` is of the prepared statement, and comes in time.
    fn executes_preparation(&mut self, bind: &Message<'_>) -> bool {
        let named = split_string(bind.body).and_then(|(_, rest)| split_string(rest));
        let statement = named.and_then(|(name, _)| self.statements.get(name));
        self.preparation.as_ref().is_some_and(|preparation| {
            !preparation.is_over(bind.start.nanos)
                && statement.is_some_and(|statement| Arc::ptr_eq(&statement, &preparation.statement))
        })
    }

    /// Makes the held preparation a part of the current group, which executes it.
    pub(super) fn fold_preparation(&mut self) {
        if let Some(open) = self.requests.back_mut()
            && !open.begun
            && let Some(preparation) = self.preparation.take()
        {
            open.begun = true;
            open.preparation = Some(preparation.exchange);
        }
    }

    /// Reports the held preparation as an exchange of its own.
    #[inline]
    pub(super) fn release_preparation(&mut self, found: &mut Vec<Finding>) {
        if let Some(preparation) = self.preparation.take() {
            self.account.report(preparation.exchange, found);
        }
    }

    /// The same, if nothing has executed it until `now` (nanoseconds, as in [`Moment`](crate::Moment)).
    pub(super) fn release_preparation_at(&mut self, now: u64, found: &mut Vec<Finding>) {
        if self.preparation.as_ref().is_some_and(|preparation| preparation.is_over(now)) {
            self.release_preparation(found);
        }
    }
}
