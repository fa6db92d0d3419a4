//! Puts the segments of one connection in order.
//!
//! Segments carry the position of their first byte, and the position that the other way had reached when the operation
//! returned. A segment is next when all bytes before it have passed: those of its own way up to its position, and those of
//! the other way up to `opposite`. So a response never precedes the request that it answers, in whichever order the
//! records come. A segment that comes too early is held. What stays missing is a hole of exactly known length.

use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::Moment;

/// Segments held per connection: more than are ever under way at once. One long operation takes several hundred.
const MAX_HELD: usize = 1024;

/// Their captured bytes. It is twice what is captured of a run.
const MAX_HELD_BYTES: usize = 8 << 20;

/// The way of bytes, seen from the traced process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Received,
    Sent,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Received, Self::Sent];

    pub(crate) fn of(flags: u32) -> Self {
        if flags & flag::EGRESS != 0 { Self::Sent } else { Self::Received }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Received => Self::Sent,
            Self::Sent => Self::Received,
        }
    }
}

/// How far the bytes of each way have come, and the segments that came too early.
#[derive(Debug, Default)]
pub(crate) struct Order {
    ways: [Progress; 2],
    held: Vec<Held>,
    held_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    /// Position of the next byte. `None` before the first.
    next: Option<u64>,
    /// Position at which the way started.
    first: u64,
    /// Time and run of the latest bytes.
    time: u64,
    run: u32,
    ended: bool,
}

/// A segment that waits for the bytes before it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) segment: Segment,
    pub(crate) captured: Vec<u8>,
}

/// Bytes that passed and that no segment reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hole {
    pub(crate) bytes: u64,
    /// Of the first of them; time and run are those of the bytes before the hole.
    pub(crate) at: Moment,
}

impl Order {
    /// Starts a way at its first segment. Returns whether this was the first.
    pub(crate) fn start(&mut self, segment: &Segment) -> bool {
        let way = Way::of(segment.flags);
        let is_first = self.next(way).is_none();
        if is_first {
            self.start_at(way, segment.position);
            self.start_at(way.other(), segment.opposite);
        }
        is_first
    }

    /// Starts a way at a position, unless it has started.
    pub(crate) fn start_at(&mut self, way: Way, position: u64) {
        let progress = &mut self.ways[way as usize];
        if progress.next.is_none() {
            (progress.next, progress.first) = (Some(position), position);
        }
    }

    /// Position of the next byte. `None` before the first.
    pub(crate) fn next(&self, way: Way) -> Option<u64> {
        self.ways[way as usize].next
    }

    /// Position at which the way started, once it has.
    pub(crate) fn first(&self, way: Way) -> u64 {
        self.ways[way as usize].first
    }

    /// The moment of the next byte of this way, if it passed at `nanos`.
    pub(crate) fn moment(&self, way: Way, nanos: u64) -> Moment {
        let Progress { next, run, .. } = self.ways[way as usize];
        Moment { nanos, position: next.unwrap_or(0), run }
    }

    /// The newest run of either way.
    pub(crate) fn newest_run(&self) -> u32 {
        self.ways[0].run.max(self.ways[1].run)
    }

    /// Whether all bytes before the segment have passed.
    pub(crate) fn is_next(&self, segment: &Segment) -> bool {
        let way = Way::of(segment.flags);
        let reached = |way, position| self.next(way).is_some_and(|next| position <= next);
        reached(way, segment.position) && reached(way.other(), segment.opposite)
    }

    /// Whether the segment's first byte was already passed over as missing.
    pub(crate) fn is_too_late(&self, segment: &Segment) -> bool {
        self.next(Way::of(segment.flags)).is_some_and(|next| segment.position < next)
    }

    pub(crate) fn hold(&mut self, segment: &Segment, captured: &[u8]) {
        self.held_bytes += captured.len();
        self.held.push(Held { segment: *segment, captured: captured.to_vec() });
    }

    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES
    }

    fn take(&mut self, index: usize) -> Held {
        let held = self.held.swap_remove(index);
        self.held_bytes -= held.captured.len();
        held
    }

    /// Takes a held segment that is next. `requests` is the way of requests, if it is known.
    pub(crate) fn take_next(&mut self, requests: Option<Way>) -> Option<Held> {
        let index = self.held.iter().position(|held| self.is_next(&held.segment));
        let index = index.or_else(|| self.first_of_two_that_wait_for_each_other(requests?))?;
        Some(self.take(index))
    }

    /// Takes the oldest held segment, if it has waited for `hold`.
    pub(crate) fn take_overdue(&mut self, now: u64, hold: u64) -> Option<Held> {
        let index = (0..self.held.len()).min_by_key(|&index| self.held[index].segment.time)?;
        let is_overdue = now.saturating_sub(self.held[index].segment.time) >= hold;
        is_overdue.then(|| self.take(index))
    }

    /// Each of two segments saw the other: one thread read a response before another returned from sending its request.
    /// The one that carries requests is first.
    fn first_of_two_that_wait_for_each_other(&self, requests: Way) -> Option<usize> {
        let waiting = |way: Way| {
            let next = self.next(way);
            let is_waiting = |held: &Held| Way::of(held.segment.flags) == way && Some(held.segment.position) == next;
            self.held.iter().position(is_waiting)
        };
        let found = Way::BOTH.map(waiting);
        let [received, sent] = [found[0]?, found[1]?].map(|index| &self.held[index].segment);
        let saw = |one: &Segment, other: &Segment| one.opposite <= other.next_position();
        if saw(received, sent) && saw(sent, received) { found[requests as usize] } else { None }
    }

    /// Passes over the bytes before `position` that no segment reported.
    pub(crate) fn skip_to(&mut self, way: Way, position: u64) -> Option<Hole> {
        let progress = &mut self.ways[way as usize];
        let next = progress.next.filter(|&next| next < position)?;
        progress.next = Some(position);
        Some(Hole { bytes: position - next, at: Moment { nanos: progress.time, position: next, run: progress.run } })
    }

    /// Passes over the segment. Bytes that were added behind it belong to no segment, and to no hole.
    pub(crate) fn pass(&mut self, segment: &Segment) {
        let progress = &mut self.ways[Way::of(segment.flags) as usize];
        progress.next = Some(segment.next_position());
        progress.time = segment.time;
        progress.run = segment.run;
    }

    /// Ends a way. Returns false if it had ended before.
    pub(crate) fn end(&mut self, way: Way) -> bool {
        !std::mem::replace(&mut self.ways[way as usize].ended, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(way: Way, position: u64, opposite: u64, length: u32) -> Segment {
        let flags = if way == Way::Sent { flag::EGRESS } else { 0 };
        Segment { position, opposite, length, flags, ..Segment::default() }
    }

    #[test]
    fn a_response_waits_for_its_request() {
        let mut order = Order::default();
        let request = segment(Way::Received, 100, 0, 10);
        let response = segment(Way::Sent, 0, 110, 5);
        order.start(&segment(Way::Received, 100, 0, 0));
        assert!(!order.is_next(&response));
        order.hold(&response, b"");
        assert!(order.take_next(Some(Way::Received)).is_none());
        order.pass(&request);
        assert_eq!(order.take_next(None).map(|held| held.segment.length), Some(5));
    }

    #[test]
    fn of_two_that_saw_each_other_the_request_is_first() {
        let mut order = Order::default();
        order.start(&segment(Way::Sent, 0, 0, 0));
        order.hold(&segment(Way::Received, 0, 10, 5), b"");
        order.hold(&segment(Way::Sent, 0, 5, 10), b"");
        assert!(order.take_next(None).is_none(), "the way of requests is unknown");
        let first = order.take_next(Some(Way::Sent)).map(|held| held.segment.length);
        assert_eq!(first, Some(10));
    }

    #[test]
    fn bytes_that_were_added_are_no_hole() {
        let mut order = Order::default();
        let request = Segment { added: 70, ..segment(Way::Sent, 0, 0, 10) };
        order.start(&request);
        order.pass(&request);
        assert_eq!(order.next(Way::Sent), Some(80));
        assert!(order.skip_to(Way::Sent, 80).is_none());
        let hole = order.skip_to(Way::Sent, 100).expect("20 bytes are missing");
        assert_eq!((hole.bytes, hole.at.position), (20, 80));
    }

    #[test]
    fn a_segment_behind_a_hole_that_was_passed_over_is_too_late() {
        let mut order = Order::default();
        order.start(&segment(Way::Sent, 0, 0, 10));
        order.skip_to(Way::Sent, 30);
        assert!(order.is_too_late(&segment(Way::Sent, 10, 0, 20)));
        assert!(!order.is_too_late(&segment(Way::Sent, 30, 0, 20)));
    }

    #[test]
    fn the_oldest_held_segment_is_overdue_first() {
        let mut order = Order::default();
        for time in [300, 100, 200] {
            order.hold(&Segment { time, ..segment(Way::Sent, 50, 0, 1) }, b"");
        }
        assert!(order.take_overdue(120, 30).is_none());
        assert_eq!(order.take_overdue(130, 30).map(|held| held.segment.time), Some(100));
        assert!(order.take_overdue(130, 30).is_none());
    }
}
