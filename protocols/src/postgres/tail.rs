//! The last bytes of the responses, which end with `ReadyForQuery` when a response is complete.

use super::message::{READY_FOR_QUERY_LENGTH, backend};

/// The last bytes without a hole between them.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
}

/// How much the kernel captures of the end of every operation.
const TAIL_LENGTH: usize = 16;

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_LENGTH)..];
        let excess = (self.bytes.len() + last.len()).saturating_sub(TAIL_LENGTH);
        self.bytes.drain(..excess);
        self.bytes.extend_from_slice(last);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// If the bytes end with a `ReadyForQuery`: the bytes before it, and its body.
    pub(super) fn ready(&self) -> Option<(&[u8], &[u8])> {
        let (before, ready) = self.bytes.split_at_checked(self.bytes.len().checked_sub(READY_FOR_QUERY_LENGTH)?)?;
        match ready {
            [backend::READY_FOR_QUERY, 0, 0, 0, 5, b'I' | b'T' | b'E'] => Some((before, &ready[5..])),
            _ => None,
        }
    }
}
