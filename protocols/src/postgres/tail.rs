//! The end of a response: `ReadyForQuery` is among the last bytes of an operation, which are always captured.

use super::message::{READY_FOR_QUERY_LENGTH, backend};
use crate::kit::tail::Tail;

/// If an operation ends with a `ReadyForQuery`: the bytes before it, and its body.
pub(super) fn ready(tail: &Tail) -> Option<(&[u8], &[u8])> {
    let bytes = tail.bytes();
    let (before, ready) = bytes.split_at_checked(bytes.len().checked_sub(READY_FOR_QUERY_LENGTH)?)?;
    match ready {
        [backend::READY_FOR_QUERY, 0, 0, 0, 5, b'I' | b'T' | b'E'] => Some((before, &ready[5..])),
        _ => None,
    }
}
