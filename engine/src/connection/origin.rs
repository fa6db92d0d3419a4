//! Which operation a byte of a request came from: whose work it was, under which ids.

use onlooker_common::owner::{MessageIds, Owner};
use onlooker_common::segment::{Segment, flag};
use std::collections::VecDeque;

/// The operation that began a run on the request side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Position of its first byte, and behind its last.
    pub position: u64,
    pub end: u64,
    /// How far the other direction had come: with `position`, what both ends of a TCP connection agree on.
    pub opposite: u64,
    /// PendingService work it is (calls only), and how the kernel knows.
    pub owner: Owner,
    /// The ids given to the message.
    pub message: MessageIds,
    pub tgid: u32,
    /// Cookie of the other end of a unix socket, 0 if not known yet.
    pub peer: u64,
    /// Positions count from the first operation that was seen, as those of all unix sockets do.
    pub unix: bool,
    /// The connection was followed from its first byte.
    pub from_start: bool,
}

impl Origin {
    fn of(segment: &Segment) -> Self {
        Self {
            position: segment.position,
            end: segment.position + u64::from(segment.length),
            opposite: segment.opposite,
            owner: segment.owner,
            message: segment.message,
            tgid: segment.tgid,
            peer: segment.peer,
            unix: segment.flags & flag::UNIX != 0,
            from_start: segment.flags & flag::FROM_START != 0,
        }
    }
}

/// Runs remembered per connection: as many as requests are usually in flight on one.
const REMEMBERED: usize = 32;

/// The latest runs of a connection's request side, in stream order.
#[derive(Debug, Default)]
pub(super) struct Origins(VecDeque<Origin>);

impl Origins {
    /// Notes an operation on the request side. Further operations of the same run are the same origin.
    pub(super) fn note(&mut self, segment: &Segment) {
        let begins = segment.flags & flag::BEGINS != 0;
        if !begins && self.0.back().is_some_and(|last| last.message == segment.message) {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Origin::of(segment));
    }

    /// The run that holds the byte at `position`.
    pub(super) fn of(&self, position: u64) -> Option<&Origin> {
        self.0.iter().rev().find(|origin| origin.position <= position)
    }
}
