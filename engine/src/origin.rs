//! The socket operation that a request began with: its owner, its ids, its process.

use std::collections::VecDeque;

use onlooker_common::datagram::Datagram;
use onlooker_common::owner::{MessageIds, Owner};
use onlooker_common::plaintext::RecordNumbers;
use onlooker_common::segment::{Segment, flag};

use crate::unit::Unit;

/// The operation that began a run of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Position of the operation's first byte, and of the byte behind its last.
    pub position: u64,
    pub end: u64,
    /// The position that the other way had reached. With `position` it identifies the message at both ends of a TCP
    /// connection.
    pub opposite: u64,
    /// The request whose work this message is, if the kernel found one. Only of sent messages.
    pub owner: Owner,
    /// The ids that the kernel gave to the message.
    pub ids: MessageIds,
    pub tgid: u32,
    /// The unit of work that performed the operation, if the kernel programs read one.
    pub unit: Option<Unit>,
    /// The thread, in a process whose threads work on one request at a time. In others the unit.
    pub worker: Option<Unit>,
    /// Cookie of the other end of a unix socket, 0 while it is unknown.
    pub peer: u64,
    /// What is added to `position` and to `opposite` to get the numbers that identify the message. They differ from 0 for
    /// plaintext only: two streams begin at the same positions, but not on the same socket.
    pub offsets: [u64; 2],
    /// Plaintext whose beginning was not seen: the numbers are those of the TLS record, if it is known. The two ends count differently.
    pub counts_alone: bool,
    /// The other end does not know these positions. True of unix sockets, datagrams, and plaintext on an unknown socket.
    pub has_private_positions: bool,
    /// The connection was followed from its first byte.
    pub from_start: bool,
    /// The ids are sent with the message.
    pub sends_context: bool,
    /// The kernel programs followed HTTP/2 frames: a request that opens a stream has a record of its own.
    pub has_frames: bool,
}

impl Origin {
    fn of(segment: &Segment, opposite: u64, counts: Counts) -> Self {
        let offsets = match counts {
            Counts::From([received, sent]) if segment.flags & flag::EGRESS == 0 => Some([received, sent]),
            Counts::From([received, sent]) => Some([sent, received]),
            Counts::Alone => by_record(segment),
        };
        Self {
            position: segment.position,
            end: segment.position.wrapping_add(u64::from(segment.length)),
            opposite,
            owner: segment.owner,
            ids: segment.message,
            tgid: segment.tgid,
            unit: Unit::of(segment),
            worker: Unit::working([segment.tgid, segment.tid], segment.flags, segment.unit_kind, segment.unit),
            peer: if segment.flags & flag::UNIX == 0 { 0 } else { segment.peer },
            offsets: offsets.unwrap_or_default(),
            counts_alone: counts == Counts::Alone,
            has_private_positions: offsets.is_none() || segment.flags & flag::UNIX != 0,
            from_start: segment.flags & flag::FROM_START != 0,
            sends_context: segment.flags & flag::SENDS_CONTEXT != 0,
            has_frames: segment.flags & flag::FRAMES != 0,
        }
    }

    /// The same operation, without what the kernel programs found out about the message. They took all the requests of a run for one.
    pub(crate) fn without_owner(&self) -> Self {
        Self { owner: Owner::default(), ids: MessageIds::default(), sends_context: false, ..*self }
    }

    /// A datagram at this position.
    pub(crate) fn of_datagram(datagram: &Datagram, position: u64) -> Self {
        Self {
            position,
            end: position.wrapping_add(u64::from(datagram.length)),
            opposite: 0,
            owner: datagram.owner,
            ids: datagram.message,
            tgid: datagram.tgid,
            unit: None,
            worker: Unit::working([datagram.tgid, datagram.tid], datagram.flags, datagram.unit_kind, datagram.unit),
            peer: 0,
            offsets: [0, 0],
            counts_alone: false,
            has_private_positions: true,
            from_start: false,
            sends_context: false,
            has_frames: false,
        }
    }
}

/// What the positions of a connection are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Both ends count from the same bytes. Their numbers are these, of received and sent bytes.
    From([u64; 2]),
    /// It is plaintext, and this end counts from whatever it saw first.
    Alone,
}

/// What to add to an operation's positions to get the numbers of its TLS record.
fn by_record(segment: &Segment) -> Option<[u64; 2]> {
    // Of an operation that became several segments, only the first has the record's first byte.
    let is_whole = segment.flags & (flag::BEGINS | flag::FRAMES) == flag::BEGINS;
    let numbers = RecordNumbers::of_word(segment.peer).filter(|_| is_whole)?;
    let offset = |number: u32, position: u64| u64::from(number).wrapping_sub(position);
    Some([offset(numbers.sequence, segment.position), offset(numbers.opposite, segment.opposite)])
}

/// Runs remembered per way: as many as requests are usually in flight on one connection.
const MAX_REMEMBERED: usize = 32;

/// The latest runs of one way, in stream order.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    runs: VecDeque<Origin>,
    /// Position of the latest run in which a request began.
    begun: Option<u64>,
}

impl Origins {
    /// Notes an operation. Later operations of the same run have the same origin.
    pub(crate) fn note(&mut self, segment: &Segment, opposite: u64, counts: Counts) {
        let begins = segment.flags & flag::BEGINS != 0;
        if begins || self.runs.back().is_none_or(|last| last.ids != segment.message) {
            self.push(Origin::of(segment, opposite, counts));
        }
    }

    pub(crate) fn push(&mut self, origin: Origin) {
        if self.runs.len() == MAX_REMEMBERED {
            self.runs.pop_front();
        }
        self.runs.push_back(origin);
    }

    /// The run in which a request begins at `position`. `is_alone`: no other request is open.
    ///
    /// A run begins with its first request. What comes before that, and belongs to no request, does not count: a PROXY
    /// header, empty lines.
    pub(crate) fn begin(&mut self, position: u64, is_alone: bool) -> Option<&Origin> {
        let index = self.runs.iter().rposition(|origin| origin.position <= position)?;
        if is_alone {
            // Later requests begin in this run or in later ones.
            self.runs.drain(..index);
        }
        let origin = self.runs.get_mut(if is_alone { 0 } else { index })?;
        if is_alone && self.begun != Some(origin.position) {
            origin.position = position;
        }
        self.begun = Some(origin.position);
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_before_that_of_the_only_open_request_are_forgotten() {
        let mut origins = Origins::default();
        for position in [100, 200, 300] {
            origins.note(&Segment { position, flags: flag::BEGINS, ..Segment::default() }, 7, Counts::From([0, 0]));
        }
        let mut begin = |position, is_alone| {
            let found = origins.begin(position, is_alone).map(|origin| (origin.position, origin.opposite));
            (found, origins.runs.len())
        };
        assert_eq!(begin(150, false), (Some((100, 7)), 3), "another request is open");
        assert_eq!(begin(250, true), (Some((250, 7)), 2));
        assert_eq!(begin(320, false), (Some((300, 7)), 2));
        assert_eq!(begin(340, true), (Some((300, 7)), 1));
        assert_eq!(begin(90, true), (None, 1));
    }
}
