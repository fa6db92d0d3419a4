//! Takes a segment apart into what was captured of it and what was not.

use onlooker_common::segment::Segment;
use onlooker_protocols::Moment;

/// Calls `take` with the captured beginning, then with the bytes that were not captured, then with the tail, as far as each exists:
/// captured bytes, or the number of bytes that were not captured, and the moment of the first.
#[inline]
pub(crate) fn each_piece(segment: &Segment, captured: &[u8], mut take: impl FnMut(&[u8], u64, Moment)) {
    let at = Moment { nanos: segment.time, position: segment.position, run: segment.run };
    let length = segment.length as usize;
    // A send that waited for room passed its first byte long before its last.
    let first = if segment.began != 0 { Moment { nanos: segment.began, ..at } } else { at };
    let kept = usize::from(segment.tail_length).min(length.saturating_sub(captured.len()));
    let missing = length.saturating_sub(captured.len() + kept);
    let tail = &segment.tail[segment.tail.len() - kept..];
    if !captured.is_empty() {
        take(captured, 0, first);
    }
    if missing > 0 {
        take(&[], missing as u64, at.advanced(captured.len() as u64));
    }
    if kept > 0 {
        take(tail, 0, at.advanced((length - kept) as u64));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::all_captured(10, 10, 0, &[(10, 0, 100)])]
    #[case::length_only(10, 0, 0, &[(0, 10, 100)])]
    #[case::with_a_tail(100, 20, 16, &[(20, 0, 100), (0, 64, 120), (16, 0, 184)])]
    #[case::a_tail_that_overlaps(24, 20, 16, &[(20, 0, 100), (4, 0, 120)])]
    #[case::a_tail_alone(8, 0, 8, &[(8, 0, 100)])]
    #[case::nothing(0, 0, 0, &[])]
    fn captured_bytes_and_holes_cover_the_segment(
        #[case] length: u32,
        #[case] captured: usize,
        #[case] tail_length: u8,
        #[case] expected: &[(usize, u64, u64)],
    ) {
        let segment = Segment { position: 100, length, tail_length, ..Segment::default() };
        let captured = vec![0; captured];
        let mut found = Vec::new();
        each_piece(&segment, &captured, |bytes, missing, at| found.push((bytes.len(), missing, at.position)));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_byte_of_a_send_that_waited_passed_when_it_began() {
        let segment = Segment { time: 9, began: 4, length: 2, ..Segment::default() };
        let mut passed = Vec::new();
        each_piece(&segment, b"hi", |_, _, at| passed.push(at.nanos));
        assert_eq!(passed, [4]);
    }
}
