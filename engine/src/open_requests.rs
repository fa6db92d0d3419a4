//! The requests of one connection that have begun and are not over, and what their bytes came with.

use std::collections::VecDeque;
use std::ops::Range;

use onlooker_common::segment::Segment;
use onlooker_protocols::{Direction, Moment};

use crate::order::{Hole, Way};
use crate::origin::{Counts, Origin, Origins};
use crate::unit::Unit;

/// Open requests, oldest first, with the origins of their bytes.
#[derive(Debug, Default)]
pub(crate) struct OpenRequests {
    open: VecDeque<OpenRequest>,
    /// How many of them travel in each direction.
    counts: [usize; 2],
    origins: [Origins; 2],
    /// Per way, the latest positions that no segment reported.
    unreported: [Range<u64>; 2],
    was_pipelined: bool,
    /// The units that wrote the latest responses, each with the position of its first byte. Consecutive writes by one unit
    /// are one entry.
    responders: VecDeque<(u64, Option<Unit>)>,
}

/// Entries of [`OpenRequests::responders`]: as many responses as are usually behind one another in a pipeline.
const MAX_RESPONDERS: usize = 32;

/// A request, identified by its direction and its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenRequest {
    pub(crate) direction: Direction,
    pub(crate) start: Moment,
}

impl OpenRequests {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn oldest(&self) -> Option<OpenRequest> {
        self.open.front().copied()
    }

    pub(crate) fn newest(&self) -> Option<OpenRequest> {
        self.open.back().copied()
    }

    /// When each request began that began before `time`, oldest first.
    pub(crate) fn begun_before(&self, time: u64) -> impl Iterator<Item = u64> {
        self.open.iter().map(|open| open.start.nanos).take_while(move |&nanos| nanos < time)
    }

    /// Notes an operation with which a request may begin. `opposite`: see [`Origin`].
    pub(crate) fn note(&mut self, way: Way, segment: &Segment, opposite: u64, counts: Counts) {
        self.origins[way as usize].note(segment, opposite, counts);
    }

    /// Notes a datagram with which a request may begin.
    pub(crate) fn note_datagram(&mut self, way: Way, origin: Origin) {
        self.origins[way as usize].push(origin);
    }

    /// Notes the unit that wrote a part of the responses, if it is known.
    pub(crate) fn note_response(&mut self, position: u64, unit: Option<Unit>) {
        if self.responders.back().and_then(|&(_, last)| last) == unit {
            return;
        }
        if self.responders.len() == MAX_RESPONDERS {
            self.responders.pop_front();
        }
        self.responders.push_back((position, unit));
    }

    /// The unit that wrote the byte of a response at `position`.
    pub(crate) fn responder(&self, position: u64) -> Option<Unit> {
        let written = self.responders.iter().rev().find(|&&(from, _)| from <= position);
        written.and_then(|&(_, unit)| unit)
    }

    /// Notes a hole in which a request may have begun.
    pub(crate) fn note_hole(&mut self, way: Way, hole: Hole) {
        self.unreported[way as usize] = hole.at.position..hole.at.position + hole.bytes;
    }

    /// The run in which a request begins at `position`. `is_alone`: no other request is open.
    pub(crate) fn origin(&mut self, way: Way, position: u64, is_alone: bool) -> Option<&Origin> {
        self.origins[way as usize].begin(position, is_alone)
    }

    /// Whether a lost record hides the byte at `position`.
    pub(crate) fn is_unreported(&self, way: Way, position: u64) -> bool {
        self.unreported[way as usize].contains(&position)
    }

    pub(crate) fn begin(&mut self, direction: Direction, start: Moment) {
        self.open.push_back(OpenRequest { direction, start });
        self.counts[direction as usize] += 1;
    }

    /// Returns true the first time that several requests are open.
    pub(crate) fn becomes_pipelined(&mut self) -> bool {
        self.open.len() > 1 && !std::mem::replace(&mut self.was_pipelined, true)
    }

    /// Whether several requests were ever open at once.
    pub(crate) fn was_pipelined(&self) -> bool {
        self.was_pipelined
    }

    /// The request is over. It is nearly always the oldest. Returns how many others of its direction are open.
    pub(crate) fn end(&mut self, direction: Direction, start: Moment) -> usize {
        let ended = OpenRequest { direction, start };
        let open = &mut self.counts[direction as usize];
        if self.open.front() == Some(&ended) {
            self.open.pop_front();
            *open -= 1;
        } else if let Some(index) = self.open.iter().position(|open| *open == ended) {
            self.open.remove(index);
            *open -= 1;
        }
        *open
    }
}
