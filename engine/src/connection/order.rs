//! The order of a connection's segments: what comes too early waits for what it follows, and what never comes is a hole.

use onlooker_common::connection::role;
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::{Close, Moment};

use super::content::Speaks;
use super::{Connection, EGRESS, INGRESS, Lane};
use crate::connections::Listener;
use crate::model::span::Role;

/// Segments that may wait for an earlier one: more than are ever under way at once.
const HELD_SEGMENTS: usize = 64;

/// A segment that came before one it has to follow.
#[derive(Debug)]
pub(super) struct Held {
    segment: Segment,
    captured: Vec<u8>,
}

/// What the kernel takes the process for, on the connection.
fn role_of(segment: &Segment) -> Option<Role> {
    match segment.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    }
}

fn lane_of(segment: &Segment) -> usize {
    if segment.flags & flag::EGRESS != 0 { EGRESS } else { INGRESS }
}

impl Connection {
    /// Takes a segment when its turn has come.
    pub(crate) fn segment(&mut self, segment: &Segment, captured: &[u8], listener: &mut dyn Listener) {
        if self.exited.is_some() && self.tgid != segment.tgid {
            // It has not ended with that process.
            self.exited = None;
            self.ending = self.ending.filter(|ending| ending.why != Close::ProcessExit);
        }
        self.tgid = segment.tgid;
        self.last_activity = segment.time;
        self.from_start |= segment.flags & flag::FROM_START != 0;
        self.unix |= segment.flags & flag::UNIX != 0;
        self.role = self.role.or_else(|| role_of(segment));
        let own = lane_of(segment);
        if self.lanes[own].next.is_none() {
            // One that was forgotten, or whose first record was lost, is met again in its middle.
            self.underway |= segment.run != 0 || segment.flags & flag::BEGINS == 0;
            self.lanes[own].next = Some(segment.position);
            self.lanes[1 - own].next.get_or_insert(segment.opposite);
        }
        if !self.is_next(segment) {
            if self.held.len() == HELD_SEGMENTS {
                self.counters.segments_held_too_many.add(1);
                self.let_through(u64::MAX, 0, listener);
            }
            self.held.push(Held { segment: *segment, captured: captured.to_vec() });
        } else {
            self.deliver(segment, captured, listener);
        }
        if !self.held.is_empty() {
            self.catch_up(listener);
        }
    }

    /// Whether everything that must come before the segment has come.
    fn is_next(&self, segment: &Segment) -> bool {
        let own = lane_of(segment);
        let reached = |lane: usize, position: u64| self.lanes[lane].next.is_some_and(|next| position <= next);
        reached(own, segment.position) && reached(1 - own, segment.opposite)
    }

    /// Delivers what was held and has its turn now.
    fn catch_up(&mut self, listener: &mut dyn Listener) {
        let next = |connection: &Self| connection.held.iter().position(|held| connection.is_next(&held.segment));
        while let Some(index) = next(self).or_else(|| self.in_each_others_way()) {
            let held = self.held.swap_remove(index);
            self.deliver(&held.segment, &held.captured, listener);
        }
    }

    /// Of two segments that wait for each other the one on the request side. Where one thread reads an answer while another
    /// has not come back from sending what it answers, each has seen the other.
    fn in_each_others_way(&self) -> Option<usize> {
        let waits = |lane: usize| {
            let at = self.lanes[lane].next;
            self.held.iter().position(|held| lane_of(&held.segment) == lane && Some(held.segment.position) == at)
        };
        let (ingress, egress) = (waits(INGRESS)?, waits(EGRESS)?);
        let [read, sent] = [ingress, egress].map(|index| &self.held[index].segment);
        let comes_to =
            |waiting: &Segment, other: &Segment| waiting.opposite <= other.position + u64::from(other.length);
        let asked = if self.is_request_lane(INGRESS)? { ingress } else { egress };
        (comes_to(read, sent) && comes_to(sent, read)).then_some(asked)
    }

    /// Declares the holes before segments that have waited for `hold`, in the order of their time.
    pub(super) fn let_through(&mut self, now: u64, hold: u64, listener: &mut dyn Listener) {
        while let Some(index) = (0..self.held.len()).min_by_key(|&index| self.held[index].segment.time) {
            if now.saturating_sub(self.held[index].segment.time) < hold {
                return;
            }
            let held = self.held.swap_remove(index);
            self.deliver(&held.segment, &held.captured, listener);
            self.catch_up(listener);
        }
    }

    fn deliver(&mut self, segment: &Segment, captured: &[u8], listener: &mut dyn Listener) {
        let own = lane_of(segment);
        let lane = &self.lanes[own];
        let at = Moment { nanos: segment.time, position: segment.position, run: segment.run };
        let next = lane.next.unwrap_or(segment.position);
        if segment.position < next {
            // Told already, as a hole: its event was thought lost and was only late.
            self.counters.segments_too_late.add(1);
            let requests = matches!(self.speaks, Speaks::Known(_)) && self.is_request_lane(own) == Some(true);
            if requests && segment.flags & flag::BEGINS != 0 {
                self.counters.requests_lost_too_late.add(1);
            }
            return;
        }
        self.hole(own, segment.position, listener);
        self.lanes[own] = Lane {
            next: Some(segment.position + u64::from(segment.length)),
            before: segment.time,
            run: segment.run,
            ..self.lanes[own]
        };
        if segment.flags & flag::FIN != 0 {
            self.end_lane(own, segment.time, listener);
            if self.unix && self.open.is_empty() {
                self.closing(Close::Normal, segment.time);
            }
            return;
        }
        if self.is_request_lane(own) != Some(false) {
            self.origins.note(segment);
        }
        self.pieces(own, segment, captured, at, listener);
        if segment.flags & flag::BEGINS != 0 && self.is_request_lane(own) == Some(true) {
            self.tell_of_rest(segment, listener);
        }
    }

    /// A run on the request side with which no request begins is the rest of one: its body, after 100 (Continue).
    fn tell_of_rest(&self, segment: &Segment, listener: &mut dyn Listener) {
        if let Some(&newest) = self.open.back()
            && newest.position < segment.position
            && matches!(self.speaks, Speaks::Known(_))
        {
            listener.goes_on(self.place(), newest, &segment.message);
        }
    }

    /// What comes before `position` and was never told is a hole.
    pub(super) fn hole(&mut self, lane: usize, position: u64, listener: &mut dyn Listener) {
        let Lane { next: Some(next), before, run, .. } = self.lanes[lane] else { return };
        if position > next {
            self.counters.bytes_missing.add(position - next);
            self.lanes[lane].next = Some(position);
            if self.is_request_lane(lane) != Some(false) {
                self.untold = next..position;
            }
            self.in_hole = true;
            self.piece(lane, &[], position - next, Moment { nanos: before, position: next, run }, listener);
            self.in_hole = false;
        }
    }

    /// A segment is its captured beginning, what was not captured, and the tail.
    fn pieces(&mut self, own: usize, segment: &Segment, captured: &[u8], at: Moment, listener: &mut dyn Listener) {
        let length = segment.length as usize;
        // A send that waited for room handed its first byte over long before its last.
        let first = if segment.began != 0 { Moment { nanos: segment.began, ..at } } else { at };
        if !captured.is_empty() {
            self.piece(own, captured, 0, first, listener);
        }
        let kept = usize::from(segment.tail_length).min(length - captured.len());
        let missing = length - captured.len() - kept;
        if missing > 0 {
            self.piece(own, &[], missing as u64, at.advanced(captured.len() as u64), listener);
        }
        if kept > 0 {
            let tail = &segment.tail[segment.tail.len() - kept..];
            self.piece(own, tail, 0, at.advanced((length - kept) as u64), listener);
        }
    }
}
