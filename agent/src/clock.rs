//! Reads the machine's clocks.

use std::io;

use onlooker_engine::model::clock::Reading;

/// How often a reading is tried; the tightest counts. An interrupt makes one attempt loose, hardly all of them.
const ATTEMPTS: usize = 8;

/// Reads both clocks at one instant. Takes microseconds at most, and no system call where the vDSO has them.
///
/// # Errors
/// When the kernel refuses to read one of them.
pub fn read() -> io::Result<Reading> {
    let mut attempts = [Reading { monotonic: 0, wall: 0, uncertainty: u64::MAX }; ATTEMPTS];
    for attempt in &mut attempts {
        let before = nanos(libc::CLOCK_MONOTONIC)?;
        let wall = nanos(libc::CLOCK_REALTIME)?;
        let after = nanos(libc::CLOCK_MONOTONIC)?;
        *attempt = Reading::between(before, wall, after);
    }
    Ok(tightest(&attempts))
}

/// Nanoseconds of `CLOCK_MONOTONIC`, with which the kernel programs stamp their records.
///
/// # Errors
/// When the kernel refuses to read it.
pub fn monotonic() -> io::Result<u64> {
    nanos(libc::CLOCK_MONOTONIC)
}

fn tightest(attempts: &[Reading; ATTEMPTS]) -> Reading {
    attempts.iter().copied().fold(attempts[0], |best, one| if one.uncertainty < best.uncertainty { one } else { best })
}

fn nanos(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours to write to; an unknown clock is an error, not undefined.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Before 1970 there are no spans.
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Ok(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use onlooker_engine::model::clock::Clock;

    use super::*;

    #[test]
    fn the_tightest_reading_counts() {
        let mut attempts = [Reading::between(0, 5_000, 10_000); ATTEMPTS];
        attempts[3] = Reading::between(100, 7_000, 140);
        assert_eq!(tightest(&attempts), Reading { monotonic: 120, wall: 7_000, uncertainty: 20 });
    }

    #[test]
    fn both_clocks_are_read_at_one_instant() {
        let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let before = since_epoch();
        let reading = read().expect("Linux has both clocks");
        let after = since_epoch();
        assert!((before..=after).contains(&u128::from(reading.wall)));
        let (wall, _) = Clock::new(reading).wall(reading.monotonic, reading.monotonic);
        assert_eq!(wall, reading.wall);
    }
}
