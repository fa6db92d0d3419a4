//! Recognizes HTTP/1 by its request line or status line.

use super::head::{looks_like_request, looks_like_response};
use crate::moment::Direction;
use crate::spec::{ENOUGH, Looks, Sample};

pub(super) fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    let looks = match direction {
        Direction::ToServer => looks_like_request(sample.bytes),
        Direction::ToClient => looks_like_response(sample.bytes),
    };
    // A method, a blank and a target this long without a blank: only the line's end is missing.
    if looks == Looks::RightSoFar && sample.bytes.len() >= ENOUGH { Looks::Right } else { looks }
}
