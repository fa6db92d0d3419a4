//! The requests of a connection that were begun and not yet reported.

use crate::{Begun, Exchange, Finding, LossReason, Lost, Moment};

/// Writes the findings about requests and counts them: a request that was begun is reported exactly once.
#[derive(Debug, Default)]
pub struct Account {
    open: usize,
}

impl Account {
    /// How many requests are begun and not yet reported.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn begin(&mut self, begun: Begun, found: &mut Vec<Finding>) {
        self.open += 1;
        found.push(Finding::Begun(begun));
    }

    pub fn report(&mut self, exchange: Box<Exchange>, found: &mut Vec<Finding>) {
        self.open = self.open.saturating_sub(1);
        found.push(Finding::Exchange(exchange));
    }

    /// The request that began at `start` is lost.
    pub fn lose(&mut self, start: Moment, reason: LossReason, found: &mut Vec<Finding>) {
        self.open = self.open.saturating_sub(1);
        found.push(Finding::Lost(Lost { start, reason }));
    }
}
