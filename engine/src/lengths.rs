//! Finds messages that are too long to be captured whole.
//!
//! The kernel programs capture runs whole, because a run may hold thousands of short messages. Of a long message only the
//! head matters. So the capture of a connection is limited once one message on it was long, in the direction of that
//! message. A connection that is pipelined is never limited: whatever is not captured may hold a message's beginning.

use onlooker_protocols::Direction;

use crate::order::Way;

/// A longer request is too long. Uploads are longer, and most batches of a few statements are shorter. A limit on requests
/// may hide some, so it takes more than one on responses.
const LONG_REQUEST: usize = 64 << 10;

/// A longer response is too long: two records.
const LONG_RESPONSE: usize = 16 << 10;

/// How much was captured of the present message of each way.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    captured: [usize; 2],
    is_limited: [bool; 2],
}

impl Lengths {
    /// Notes captured bytes that travel in `direction`. Returns whether the way is to be limited, once.
    #[inline]
    pub(crate) fn capture(&mut self, way: Way, direction: Option<Direction>, bytes: usize) -> bool {
        let captured = &mut self.captured[way as usize];
        *captured = captured.saturating_add(bytes);
        let most = if direction == Some(Direction::ToServer) { LONG_REQUEST } else { LONG_RESPONSE };
        *captured > most && !std::mem::replace(&mut self.is_limited[way as usize], true)
    }

    /// A message of this way begins or ends.
    #[inline]
    pub(crate) fn pass(&mut self, way: Way) {
        self.captured[way as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_limited_once_by_one_long_message() {
        let mut lengths = Lengths::default();
        let capture = |lengths: &mut Lengths, bytes| lengths.capture(Way::Sent, Some(Direction::ToClient), bytes);
        for _ in 0..100 {
            assert!(!capture(&mut lengths, LONG_RESPONSE), "the messages together are no long message");
            lengths.pass(Way::Sent);
        }
        assert!(!capture(&mut lengths, LONG_RESPONSE));
        assert!(!lengths.capture(Way::Received, Some(Direction::ToServer), LONG_REQUEST));
        assert!(capture(&mut lengths, 1));
        assert!(!capture(&mut lengths, 1), "it is limited already");
        assert!(lengths.capture(Way::Received, Some(Direction::ToServer), 1), "the other way is not");
    }
}
