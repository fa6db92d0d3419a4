//! The requests of a connection that were begun and not yet reported.

use crate::{Begun, Direction, Exchange, Finding, LossReason, Lost, Moment};

/// Writes the findings about the requests of one direction and counts them: a request that was begun is reported exactly
/// once.
#[derive(Debug)]
pub struct Account {
    direction: Direction,
    open: usize,
}

impl Account {
    /// `direction` is the one in which the requests travel.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self { direction, open: 0 }
    }

    /// How many requests are begun and not yet reported.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    pub fn begin(&mut self, begun: Begun, found: &mut Vec<Finding>) {
        self.open += 1;
        found.push(Finding::Begun(begun));
    }

    /// A request is taken over that another account began.
    pub(crate) fn adopt(&mut self) {
        self.open += 1;
    }

    /// A request is left to another account, which adopts it.
    pub(crate) fn hand_over(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub fn report(&mut self, exchange: Box<Exchange>, found: &mut Vec<Finding>) {
        self.open = self.open.saturating_sub(1);
        found.push(Finding::Exchange(exchange));
    }

    /// The request that began at `start` is lost.
    pub fn lose(&mut self, start: Moment, reason: LossReason, found: &mut Vec<Finding>) {
        self.open = self.open.saturating_sub(1);
        found.push(Finding::Lost(Lost { direction: self.direction, start, reason }));
    }
}
