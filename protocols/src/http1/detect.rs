//! Recognizes HTTP/1 by its request line or status line.

use super::head::{begins_with_request, looks_like_request, looks_like_response};
use crate::moment::Direction;
use crate::spec::{Looks, Sample};

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    match direction {
        Direction::ToServer if sample.from_start => begins_with_request(sample.bytes),
        Direction::ToServer => looks_like_request(sample.bytes),
        Direction::ToClient => looks_like_response(sample.bytes),
    }
}
