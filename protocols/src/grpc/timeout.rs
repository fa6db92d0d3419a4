//! The time that a client gives a call.

use std::time::Duration;

/// The value of `grpc-timeout`: at most eight digits and a unit.
pub(crate) fn of_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let number = number(digits, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The value of `connect-timeout-ms`: at most ten digits.
pub(crate) fn of_connect(value: &[u8]) -> Option<Duration> {
    number(value, 10).map(Duration::from_millis)
}

fn number(digits: &[u8], most: usize) -> Option<u64> {
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1H", Some(Duration::from_secs(3600)))]
    #[case("99999999H", Some(Duration::from_secs(99_999_999 * 3600)))]
    #[case("250m", Some(Duration::from_millis(250)))]
    #[case("7u", Some(Duration::from_micros(7)))]
    #[case("999999999m", None)]
    #[case("m", None)]
    #[case("5", None)]
    #[case("1.5S", None)]
    fn a_timeout_is_a_number_with_a_unit(#[case] value: &str, #[case] timeout: Option<Duration>) {
        assert_eq!(of_grpc(value.as_bytes()), timeout);
    }
}
