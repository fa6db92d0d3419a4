//! How long nothing must have passed on a connection for all its requests to have been answered.

/// A pause that proves it while the pace is unknown. Redis takes microseconds for a command, and clients that share a
/// connection do not use it for commands that block.
const SURELY_QUIET: u64 = 1_000_000_000;
/// How many responses show the pace.
const SHOWN_BY: u64 = 32;
/// A pause of this many average response times seems quiet, but not a shorter one than the minimum. Where a client
/// always has requests under way, no pause is longer than a response seems to take.
const TIMES_AVERAGE: u64 = 4;
const QUIET_AT_LEAST: u64 = 5_000_000;

/// How quickly requests are answered. Times are in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the first request since the last response passed; 0 if none has.
    asked: u64,
    answers: u64,
    took: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quiet {
    No,
    /// Probably. How the next requests are answered will show it.
    Seemingly,
    Surely,
}

impl Pace {
    /// A request passes.
    pub(crate) fn request(&mut self, at: u64) {
        if self.asked == 0 {
            self.asked = at;
        }
    }

    /// A response passes.
    pub(crate) fn response(&mut self, at: u64) {
        let asked = std::mem::take(&mut self.asked);
        if asked != 0 {
            self.answers += 1;
            self.took = self.took.saturating_add(at.saturating_sub(asked));
        }
    }

    /// Whether every earlier request is answered, if nothing passed between `last` and `now`. `last` is 0 if nothing
    /// was seen of the connection yet: then nothing is known.
    pub(crate) fn quiet(&self, last: u64, now: u64) -> Quiet {
        let passed = if last == 0 { 0 } else { now.saturating_sub(last) };
        let enough = (TIMES_AVERAGE * (self.took / self.answers.max(1))).max(QUIET_AT_LEAST);
        if passed >= SURELY_QUIET {
            Quiet::Surely
        } else if self.answers >= SHOWN_BY && passed >= enough {
            Quiet::Seemingly
        } else {
            Quiet::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// What a pause means after `answers` responses that took `took` nanoseconds each.
    fn pause(answers: u64, took: u64, passed: u64) -> Quiet {
        let mut pace = Pace::default();
        for number in 1..=answers {
            pace.request(number * 1_000 * MILLISECOND);
            pace.request(number * 1_000 * MILLISECOND + took / 2);
            pace.response(number * 1_000 * MILLISECOND + took);
        }
        pace.quiet(1, 1 + passed)
    }

    #[test]
    fn a_pause_is_quiet_if_it_is_much_longer_than_a_response_takes() {
        assert_eq!(pause(0, 0, SURELY_QUIET), Quiet::Surely);
        assert_eq!(pause(SHOWN_BY - 1, MILLISECOND, 500 * MILLISECOND), Quiet::No);
        assert_eq!(pause(SHOWN_BY, 10 * MILLISECOND, 40 * MILLISECOND), Quiet::Seemingly);
        assert_eq!(pause(SHOWN_BY, 10 * MILLISECOND, 39 * MILLISECOND), Quiet::No);
        assert_eq!(pause(SHOWN_BY, 1_000, 5 * MILLISECOND), Quiet::Seemingly);
        assert_eq!(pause(SHOWN_BY, 1_000, 4 * MILLISECOND), Quiet::No);
        assert_eq!(Pace::default().quiet(0, 10 * SURELY_QUIET), Quiet::No, "nothing is known of what passed before");
    }
}
