//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The longest pause that a collector may ask for. The export timeout usually ends it earlier.
pub(super) const LONGEST_WISH: Duration = Duration::from_secs(600);

/// Pauses that double. Each is shortened by up to half, so that many agents do not return at the same time.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(LONGEST);
        // Each `RandomState` has a new seed. This is random enough.
        let random = RandomState::new().hash_one(()) as u32;
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// `Retry-After` (RFC 9110 10.2.3): seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wish = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wish.min(LONGEST_WISH))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_vary() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause()).collect();
        for (index, pause) in pauses.iter().enumerate() {
            let whole = (FIRST * 2_u32.pow(index as u32)).min(LONGEST);
            assert!(whole / 2 <= *pause && *pause <= whole, "pause {index} is {pause:?}, of at most {whole:?}");
        }
        assert!(pauses[6..].windows(2).any(|two| two[0] != two[1]), "{pauses:?}");
    }

    #[rstest]
    #[case::seconds("3", Some(3))]
    #[case::date("Thu, 01 Jan 1970 00:01:30 GMT", Some(30))]
    #[case::past("Thu, 01 Jan 1970 00:00:01 GMT", Some(0))]
    #[case::too_long("99999999", Some(600))]
    #[case::nonsense("soon", None)]
    fn retry_after_is_read_by_rfc_9110(#[case] value: &str, #[case] seconds: Option<u64>) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs));
    }
}
