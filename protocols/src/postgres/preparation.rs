//! A prepared statement whose execution may follow. See `folding`.

use std::sync::Arc;

use super::open::Open;
use crate::exchange::{Begun, Exchange, Finding, LossReason};
use crate::kit::account::Account;
use crate::moment::{Direction, Moment};
use crate::sql::Normalized;

/// A preparation that succeeded. It was announced, and is not yet reported.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) exchange: Box<Exchange>,
    pub(super) statement: Arc<Normalized>,
}

/// How long an execution may come after the answer to its preparation, in nanoseconds. A driver that prepares every
/// statement executes it at once. The time includes a round trip on the server's side.
const LONGEST_PAUSE: u64 = 1_000_000_000;

impl Preparation {
    /// Whether an execution at `now` (nanoseconds, as in [`Moment`]) comes too late.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let end = self.exchange.response_end.map_or(0, |Moment { nanos, .. }| nanos);
        now.saturating_sub(end) > LONGEST_PAUSE
    }
}

/// Loses the request. A preparation that was folded into it is reported, because its own answer was seen.
pub(super) fn lose(account: &mut Account, open: &mut Open, reason: LossReason, found: &mut Vec<Finding>) {
    if let Some(preparation) = open.preparation.take() {
        account.report(preparation, found);
        account.begin(Begun::plain(Direction::ToServer, open.start), found);
    }
    account.lose(open.start, reason, found);
}
