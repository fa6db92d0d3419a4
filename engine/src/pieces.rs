//! Takes a segment apart into what was captured of it and what was not.

use onlooker_common::segment::Segment;
use onlooker_protocols::Moment;

/// Captured bytes, or the number of bytes that were not captured, with the moment of the first.
pub(crate) type Piece<'a> = (&'a [u8], u64, Moment);

/// The captured beginning, the bytes that were not captured, and the tail.
pub(crate) fn pieces<'a>(segment: &'a Segment, captured: &'a [u8]) -> [Option<Piece<'a>>; 3] {
    let at = Moment { nanos: segment.time, position: segment.position, run: segment.run };
    let length = segment.length as usize;
    // A send that waited for room passed its first byte long before its last.
    let first = if segment.began != 0 { Moment { nanos: segment.began, ..at } } else { at };
    let kept = usize::from(segment.tail_length).min(length.saturating_sub(captured.len()));
    let missing = length.saturating_sub(captured.len() + kept);
    let tail = &segment.tail[segment.tail.len() - kept..];
    [
        (!captured.is_empty()).then_some((captured, 0, first)),
        (missing > 0).then(|| (&[][..], missing as u64, at.advanced(captured.len() as u64))),
        (kept > 0).then(|| (tail, 0, at.advanced((length - kept) as u64))),
    ]
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
        let found: Vec<_> = pieces(&segment, &captured)
            .into_iter()
            .flatten()
            .map(|(bytes, missing, at)| (bytes.len(), missing, at.position))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_byte_of_a_send_that_waited_passed_when_it_began() {
        let segment = Segment { time: 9, began: 4, length: 2, ..Segment::default() };
        let [Some((_, _, first)), None, None] = pieces(&segment, b"hi") else { panic!("all is captured") };
        assert_eq!(first.nanos, 4);
    }
}
