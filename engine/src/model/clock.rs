//! Converts the kernel's monotonic times (`bpf_ktime_get_ns`, CLOCK_MONOTONIC) to wall time.
//!
//! Both clocks run and are slewed together. Their difference changes only when the wall clock is set (`settimeofday`, an NTP
//! step, a leap second), or when the machine was suspended, which stops the monotonic clock. So the difference is read once,
//! and again only to find such steps ([`Clock::observe`]). Start and end of a span use the same difference: a step never
//! changes a duration.
//!
//! ```
//! use onlooker_engine::model::clock::{Clock, Reading};
//!
//! let mut clock = Clock::new(Reading { monotonic: 1_000, wall: 50_000, uncertainty: 10 });
//! assert_eq!(clock.wall(1_200, 1_300), (50_200, 50_300));
//! let step = clock.observe(Reading { monotonic: 2_000, wall: 90_000, uncertainty: 10 });
//! assert_eq!(step, Some(39_000));
//! assert_eq!(clock.wall(2_100, 2_200), (90_100, 90_200));
//! ```

use std::collections::VecDeque;

/// Steps that are remembered, for spans that began before them. Far more than happen within the age of a request.
const MAX_STEPS: usize = 32;

/// The two clocks at one instant, as closely as they could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds of CLOCK_MONOTONIC, exact to `uncertainty`.
    pub monotonic: u64,
    /// Nanoseconds since the Unix epoch.
    pub wall: u64,
    pub uncertainty: u64,
}

impl Reading {
    /// The wall clock was `wall` at some time from `before` to `after`.
    #[must_use]
    pub fn between(before: u64, wall: u64, after: u64) -> Self {
        let width = after.saturating_sub(before);
        Self { monotonic: before + width / 2, wall, uncertainty: width.div_ceil(2) }
    }

    fn offset(&self) -> i64 {
        self.wall.wrapping_sub(self.monotonic).cast_signed()
    }
}

/// Converts monotonic to wall time.
#[derive(Debug)]
pub struct Clock {
    /// Oldest first, never empty.
    steps: VecDeque<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// The first monotonic time that has this offset.
    since: u64,
    /// Wall minus monotonic time.
    offset: i64,
    uncertainty: u64,
}

impl Step {
    fn of(reading: Reading) -> Self {
        Self { since: reading.monotonic, offset: reading.offset(), uncertainty: reading.uncertainty }
    }

    fn wall(&self, monotonic: u64) -> u64 {
        monotonic.saturating_add_signed(self.offset)
    }
}

impl Clock {
    #[must_use]
    pub fn new(reading: Reading) -> Self {
        Self { steps: VecDeque::from([Step::of(reading)]) }
    }

    /// Compares with a new reading. Returns by how many nanoseconds the wall clock was set forward (negative: back), if that
    /// is more than the readings' uncertainty. To be called at least once a second: what begins between a step and the next
    /// call has the time from before the step.
    pub fn observe(&mut self, reading: Reading) -> Option<i64> {
        let last = self.last();
        let moved = reading.offset().wrapping_sub(last.offset);
        if moved.unsigned_abs() <= last.uncertainty.saturating_add(reading.uncertainty) {
            return None;
        }
        if self.steps.len() == MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(Step::of(reading));
        Some(moved)
    }

    /// Start and end of a span in nanoseconds since the Unix epoch, from monotonic nanoseconds.
    #[must_use]
    pub fn wall(&self, start: u64, end: u64) -> (u64, u64) {
        let step = self.steps.iter().rev().find(|step| step.since <= start).or(self.steps.front());
        let step = step.copied().unwrap_or_else(|| self.last());
        (step.wall(start), step.wall(end))
    }

    fn last(&self) -> Step {
        *self.steps.back().expect("a clock begins with a reading")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const EPOCH: u64 = 1_700_000_000 * SECOND;

    fn reading(monotonic: u64, wall: u64) -> Reading {
        Reading { monotonic, wall, uncertainty: 50 }
    }

    #[test]
    fn a_reading_is_as_uncertain_as_it_took_long() {
        assert_eq!(Reading::between(10, 0, 13).uncertainty, 2);
        assert_eq!(Reading::between(10, 0, 10).uncertainty, 0);
    }

    #[test]
    fn a_difference_within_the_uncertainty_is_no_step() {
        let mut clock = Clock::new(reading(10 * SECOND, EPOCH));
        assert_eq!(clock.observe(reading(11 * SECOND, EPOCH + SECOND + 100)), None);
        assert_eq!(clock.wall(11 * SECOND, 11 * SECOND), (EPOCH + SECOND, EPOCH + SECOND));
        assert_eq!(clock.observe(reading(12 * SECOND, EPOCH + 2 * SECOND + 101)), Some(101));
    }

    #[test]
    fn a_step_back_changes_later_spans_and_no_duration() {
        let mut clock = Clock::new(reading(10 * SECOND, EPOCH));
        let back = 3600 * SECOND;
        assert_eq!(clock.observe(reading(20 * SECOND, EPOCH + 10 * SECOND - back)), Some(-back.cast_signed()));
        // Before, across, after.
        assert_eq!(clock.wall(12 * SECOND, 13 * SECOND), (EPOCH + 2 * SECOND, EPOCH + 3 * SECOND));
        assert_eq!(clock.wall(19 * SECOND, 25 * SECOND), (EPOCH + 9 * SECOND, EPOCH + 15 * SECOND));
        assert_eq!(clock.wall(21 * SECOND, 25 * SECOND), (EPOCH + 11 * SECOND - back, EPOCH + 15 * SECOND - back));
    }

    #[test]
    fn a_suspended_machine_wakes_up_later() {
        let mut clock = Clock::new(reading(10 * SECOND, EPOCH));
        let night = 8 * 3600 * SECOND;
        assert_eq!(clock.observe(reading(11 * SECOND, EPOCH + SECOND + night)), Some(night.cast_signed()));
        assert_eq!(clock.wall(11 * SECOND, 12 * SECOND), (EPOCH + SECOND + night, EPOCH + 2 * SECOND + night));
    }

    #[test]
    fn times_before_the_first_reading_are_converted_too() {
        let clock = Clock::new(reading(10 * SECOND, EPOCH));
        assert_eq!(clock.wall(4 * SECOND, 11 * SECOND), (EPOCH - 6 * SECOND, EPOCH + SECOND));
    }

    #[test]
    fn steps_are_remembered_up_to_a_bound() {
        let mut clock = Clock::new(reading(0, EPOCH));
        for n in 1..=2 * MAX_STEPS as u64 {
            assert_eq!(clock.observe(reading(n * SECOND, EPOCH + 2 * n * SECOND)), Some(SECOND.cast_signed()));
        }
        assert_eq!(clock.steps.len(), MAX_STEPS);
        let last = 2 * MAX_STEPS as u64;
        assert_eq!(clock.wall(last * SECOND, last * SECOND).0, EPOCH + 2 * last * SECOND);
    }

    #[test]
    fn a_clock_before_the_epoch_gives_no_time_rather_than_a_wrong_one() {
        let clock = Clock::new(reading(100 * SECOND, 0));
        assert_eq!(clock.wall(50 * SECOND, 150 * SECOND), (0, 50 * SECOND));
    }
}
