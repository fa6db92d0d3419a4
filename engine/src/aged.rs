//! Requests that last longer than the age limit.
//!
//! Most of them are still worked on: a long poll, BLPOP, VACUUM. So their end is awaited, up to a multiple of the limit and
//! up to a number of requests. The others are given up: their exchanges end as aged.

use crate::connection::Connection;
use crate::model::counters::Counters;

/// A request is given up after so many times the age limit: an hour by default.
pub const PATIENCE: u64 = 12;

/// Requests beyond the age limit whose end is awaited, of all connections. Of more, the oldest are given up.
pub const MAX_AWAITED: usize = 1024;

/// Decides which requests are given up.
#[derive(Debug, Default)]
pub(crate) struct Aged {
    /// When each aged request began. Used within `look` only, and kept for its memory.
    starts: Vec<u64>,
    /// Requests that began before this time have been counted as aged.
    counted_until: u64,
}

impl Aged {
    /// Looks at the open requests at `now`. Returns the time before which a request must have begun to be given up. `None` if
    /// no request is given up. `age` is the limit; all times are in nanoseconds.
    pub(crate) fn look<'a>(
        &mut self,
        connections: impl Iterator<Item = &'a Connection>,
        age: u64,
        now: u64,
        counters: &Counters,
    ) -> Option<u64> {
        let aged_before = now.saturating_sub(age);
        self.starts.clear();
        self.starts.extend(connections.flat_map(|connection| connection.requests_before(aged_before)));
        let counted_until = std::mem::replace(&mut self.counted_until, aged_before);
        if self.starts.is_empty() {
            return None;
        }
        counters.requests_aged.add(self.starts.iter().filter(|&&start| start >= counted_until).count() as u64);
        let mut given_up_before = now.saturating_sub(age.saturating_mul(PATIENCE));
        if let Some(last) = self.starts.len().checked_sub(MAX_AWAITED + 1) {
            let (_, &mut newest, _) = self.starts.select_nth_unstable(last);
            given_up_before = given_up_before.max(newest + 1);
        }
        let given_up = self.starts.iter().filter(|&&start| start < given_up_before).count();
        counters.requests_given_up.add(given_up as u64);
        (given_up > 0).then_some(given_up_before)
    }
}
