//! How quickly requests are answered on a connection: how long nothing must have passed for all of them to have been.

/// As long as that is not known. It takes Redis microseconds for a command, and clients that share a connection don't use it
/// for commands that block.
const SURELY_QUIET: u64 = 1_000_000_000;
/// So many answers show how quickly it goes.
const SHOWN_BY: u64 = 32;
/// Then it seems quiet after so many times what they took on average, but not sooner than after this. Where a client keeps
/// some requests on their way at all times, no pause is longer than what an answer seems to take.
const TIMES_AVERAGE: u64 = 4;
const QUIET_AT_LEAST: u64 = 5_000_000;

/// Times are in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When a request passed first since the last reply; 0 if none has.
    asked: u64,
    answers: u64,
    took: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quiet {
    No,
    /// What is paired from now on will show whether it is.
    Seemingly,
    Surely,
}

impl Pace {
    /// A request passes.
    pub(super) fn asked(&mut self, at: u64) {
        if self.asked == 0 {
            self.asked = at;
        }
    }

    /// A reply passes.
    pub(super) fn answered(&mut self, at: u64) {
        let asked = std::mem::take(&mut self.asked);
        if asked != 0 {
            self.answers += 1;
            self.took = self.took.saturating_add(at.saturating_sub(asked));
        }
    }

    /// Whether all that was asked before is answered, if nothing passed between `last` and `now`. Nothing is known of a
    /// connection of which nothing has passed yet.
    pub(super) fn quiet(&self, last: u64, now: u64) -> Quiet {
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

    /// What a pause is after so many answers that took so long.
    fn pause(answers: u64, took: u64, passed: u64) -> Quiet {
        let mut pace = Pace::default();
        for number in 1..=answers {
            pace.asked(number * 1_000 * MILLISECOND);
            pace.asked(number * 1_000 * MILLISECOND + took / 2);
            pace.answered(number * 1_000 * MILLISECOND + took);
        }
        pace.quiet(1, 1 + passed)
    }

    #[test]
    fn it_is_quiet_when_much_longer_nothing_passed_than_answers_take() {
        assert_eq!(pause(0, 0, SURELY_QUIET), Quiet::Surely);
        assert_eq!(pause(SHOWN_BY - 1, MILLISECOND, 500 * MILLISECOND), Quiet::No);
        assert_eq!(pause(SHOWN_BY, 10 * MILLISECOND, 40 * MILLISECOND), Quiet::Seemingly);
        assert_eq!(pause(SHOWN_BY, 10 * MILLISECOND, 39 * MILLISECOND), Quiet::No);
        assert_eq!(pause(SHOWN_BY, 1_000, 5 * MILLISECOND), Quiet::Seemingly);
        assert_eq!(pause(SHOWN_BY, 1_000, 4 * MILLISECOND), Quiet::No);
        assert_eq!(Pace::default().quiet(0, 10 * SURELY_QUIET), Quiet::No, "what passed before it was met?");
    }
}
