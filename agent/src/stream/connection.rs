//! One connection: its two lanes, what it speaks, and what is held until it can be told.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use onlooker_common::event::{self, flag, role};
use onlooker_protocols::detect::{self, Guess};
use onlooker_protocols::{Close, Direction, End, Finding, LossReason, Moment, Parser, Protocol};

use super::origin::Origins;
use super::{Listener, Place};
use crate::metrics::Metrics;
use crate::span::{Address, Ends, Role};

/// Bytes kept while it is not clear yet what a run is.
const UNDECIDED_BYTES: usize = 4 << 10;
/// Runs that may be looked at in vain before a connection is left alone.
const ATTEMPTS: u8 = 8;
/// Segments that may wait for an earlier one: more than are ever under way at once.
const HELD_SEGMENTS: usize = 64;

/// A connection that is followed.
#[derive(Debug)]
pub struct Connection {
    pub cookie: u64,
    /// The process that used it last.
    pub tgid: u32,
    pub role: Option<Role>,
    pub(super) local: Address,
    pub(super) peer: Address,
    /// The same, as spans have them: from the first exchange on.
    pub(super) ends: Option<Arc<Ends>>,
    /// Time of its latest segment.
    pub last_activity: u64,
    from_start: bool,
    unix: bool,
    /// Something passed that its present parser was not told of.
    underway: bool,
    lanes: [Lane; 2],
    held: Vec<Held>,
    speaks: Speaks,
    origins: Origins,
    /// The latest positions on the request side that no segment told of.
    untold: Range<u64>,
    /// Starts of the requests that are open, for their age.
    open: VecDeque<Moment>,
    is_pipelined: bool,
    /// When the process ended that used it last.
    exited: Option<u64>,
    ending: Option<Ending>,
    found: Vec<Finding>,
    metrics: Arc<Metrics>,
}

/// A connection's end, until what came before it has been let through.
#[derive(Debug, Clone, Copy)]
struct Ending {
    why: Close,
    time: u64,
    /// Where each direction ended; 0 where that is not known.
    positions: [u64; 2],
    /// How far what had come can still be read.
    arrived: u64,
}

/// One direction of a connection.
#[derive(Debug, Default, Clone, Copy)]
struct Lane {
    /// Position of the next byte, once any was seen.
    next: Option<u64>,
    /// When the piece before it passed, and in which run.
    before: u64,
    run: u32,
    finished: bool,
}

/// Index of a lane, and of what is not it.
const INGRESS: usize = 0;
const EGRESS: usize = 1;

/// A segment that came before one it has to follow.
#[derive(Debug)]
struct Held {
    segment: event::Segment,
    captured: Vec<u8>,
}

#[derive(Debug)]
enum Speaks {
    /// Not known yet: the pieces of the run that is looked at.
    Undecided {
        pieces: Vec<Piece>,
        /// Runs that were looked at in vain, and the lane and number of the last of them.
        attempts: u8,
        in_vain: Option<(usize, u32)>,
    },
    Known(Box<dyn Parser>),
    /// Nothing there is a parser for.
    Nothing,
}

impl Speaks {
    const UNHEARD: Self = Self::Undecided { pieces: Vec::new(), attempts: 0, in_vain: None };
}

/// Bytes, or a hole, on their way to the parser.
#[derive(Debug)]
struct Piece {
    lane: usize,
    bytes: Vec<u8>,
    missing: u64,
    at: Moment,
}

/// What the kernel takes the process for, on the connection.
fn role_of(segment: &event::Segment) -> Option<Role> {
    match segment.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    }
}

fn lane_of(segment: &event::Segment) -> usize {
    if segment.flags & flag::EGRESS != 0 { EGRESS } else { INGRESS }
}

impl Connection {
    pub(super) fn new(cookie: u64, metrics: Arc<Metrics>) -> Self {
        metrics.connections_seen.add(1);
        Self {
            cookie,
            tgid: 0,
            role: None,
            local: Address::Unknown,
            peer: Address::Unknown,
            ends: None,
            last_activity: 0,
            from_start: false,
            unix: false,
            underway: false,
            lanes: [Lane::default(); 2],
            held: Vec::new(),
            speaks: Speaks::UNHEARD,
            origins: Origins::default(),
            untold: 0..0,
            open: VecDeque::new(),
            is_pipelined: false,
            exited: None,
            ending: None,
            found: Vec::new(),
            metrics,
        }
    }

    /// The kernel says who it is.
    pub(super) fn introduce(
        &mut self,
        tgid: u32,
        (role, local, peer): (Option<Role>, Address, Address),
        from_start: bool,
    ) {
        self.tgid = tgid;
        self.role = self.role.or(role);
        self.local = local;
        self.peer = peer;
        self.ends = None;
        self.from_start = from_start;
    }

    pub(super) fn followed_protocol(&self) -> Option<Protocol> {
        match &self.speaks {
            Speaks::Known(parser) => Some(parser.protocol()),
            _ => None,
        }
    }

    /// How many of its requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty() || !self.held.is_empty()
    }

    pub(super) fn wants_attention(&self) -> bool {
        !self.held.is_empty() || self.ending.is_some_and(|ending| self.was_read(&ending))
    }

    /// Whether nothing more will be read that came before the end.
    fn was_read(&self, ending: &Ending) -> bool {
        self.lanes[INGRESS].next.is_none_or(|next| next >= ending.arrived)
    }

    /// This side sent its FIN at `time`.
    pub(super) fn finished(&mut self, time: u64, listener: &mut dyn Listener) {
        // Held segments come before it; the connection's end will tell the same, later.
        if self.held.is_empty() {
            self.end_lane(EGRESS, time, listener);
        }
    }

    /// The connection is closed: what is held is let through first.
    pub(super) fn closing(&mut self, why: Close, time: u64) {
        self.ending.get_or_insert(Ending { why, time, positions: [0; 2], arrived: 0 });
    }

    /// The kernel says that it is closed, how far each direction had come, and how far what came can still be read.
    pub(super) fn closed(&mut self, why: Close, time: u64, positions: [u64; 2], arrived: u64) {
        // What the kernel closes for a process that ends, that did not close itself.
        let why = if why == Close::Normal && self.exited.is_some() { Close::ProcessExit } else { why };
        let arrived = if self.exited.is_some() { 0 } else { arrived };
        self.lanes[INGRESS].next.get_or_insert(positions[INGRESS]);
        self.ending = Some(Ending { why, time, positions, arrived });
    }

    /// The socket is gone: what was not read never will be.
    pub(super) fn destroyed(&mut self, positions: [u64; 2]) {
        if let Some(ending) = &mut self.ending {
            ending.positions = positions;
            ending.arrived = 0;
        }
    }

    /// The process that used it last has ended. Another one may have it too, and go on.
    pub(super) fn process_ended(&mut self, time: u64) {
        self.exited = Some(time);
        if let Some(ending) = &mut self.ending {
            ending.arrived = 0;
        }
        if self.unix {
            self.closing(Close::ProcessExit, time);
        }
    }

    /// Takes a segment when its turn has come.
    pub(super) fn segment(&mut self, segment: &event::Segment, captured: &[u8], listener: &mut dyn Listener) {
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
            self.lanes[own].next = Some(segment.position);
            self.lanes[1 - own].next.get_or_insert(segment.opposite);
        }
        if !self.is_next(segment) {
            if self.held.len() == HELD_SEGMENTS {
                self.metrics.segments_held_too_many.add(1);
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
    fn is_next(&self, segment: &event::Segment) -> bool {
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
        let comes_to = |waiting: &event::Segment, other: &event::Segment| {
            waiting.opposite <= other.position + u64::from(other.length)
        };
        let asked = if self.is_request_lane(INGRESS)? { ingress } else { egress };
        (comes_to(read, sent) && comes_to(sent, read)).then_some(asked)
    }

    /// Declares the holes before segments that have waited for `hold`, in the order of their time.
    fn let_through(&mut self, now: u64, hold: u64, listener: &mut dyn Listener) {
        while let Some(index) = (0..self.held.len()).min_by_key(|&index| self.held[index].segment.time) {
            if now.saturating_sub(self.held[index].segment.time) < hold {
                return;
            }
            let held = self.held.swap_remove(index);
            self.deliver(&held.segment, &held.captured, listener);
            self.catch_up(listener);
        }
    }

    fn deliver(&mut self, segment: &event::Segment, captured: &[u8], listener: &mut dyn Listener) {
        let own = lane_of(segment);
        let lane = &self.lanes[own];
        let at = Moment { nanos: segment.time, position: segment.position, run: segment.run };
        let next = lane.next.unwrap_or(segment.position);
        if segment.position < next {
            // Told already, as a hole: its event was thought lost and was only late.
            self.metrics.segments_too_late.add(1);
            let requests = matches!(self.speaks, Speaks::Known(_)) && self.is_request_lane(own) == Some(true);
            if requests && segment.flags & flag::BEGINS != 0 {
                self.metrics.requests_lost_too_late.add(1);
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
    }

    /// What comes before `position` and was never told is a hole.
    fn hole(&mut self, lane: usize, position: u64, listener: &mut dyn Listener) {
        let Lane { next: Some(next), before, run, .. } = self.lanes[lane] else { return };
        if position > next {
            self.metrics.bytes_missing.add(position - next);
            self.lanes[lane].next = Some(position);
            if self.is_request_lane(lane) != Some(false) {
                self.untold = next..position;
            }
            self.piece(lane, &[], position - next, Moment { nanos: before, position: next, run }, listener);
        }
    }

    /// A segment is its captured beginning, what was not captured, and the tail.
    fn pieces(
        &mut self,
        own: usize,
        segment: &event::Segment,
        captured: &[u8],
        at: Moment,
        listener: &mut dyn Listener,
    ) {
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

    /// `None` while the role is not known.
    fn is_request_lane(&self, lane: usize) -> Option<bool> {
        self.role.map(|role| (role == Role::Server) == (lane == INGRESS))
    }

    fn direction(&self, lane: usize) -> Option<Direction> {
        Some(if self.is_request_lane(lane)? { Direction::Request } else { Direction::Response })
    }

    fn piece(&mut self, lane: usize, bytes: &[u8], missing: u64, at: Moment, listener: &mut dyn Listener) {
        match &mut self.speaks {
            Speaks::Nothing => {}
            Speaks::Known(_) => self.parse(lane, bytes, missing, at, listener),
            Speaks::Undecided { pieces, in_vain, .. } => {
                if *in_vain == Some((lane, at.run)) {
                    // What is in the middle of it may look like anything.
                    return;
                }
                // Only the run that is being looked at can be made out.
                if pieces.last().is_some_and(|last| last.lane != lane || last.at.run != at.run) {
                    pieces.clear();
                }
                if missing > 0 && pieces.is_empty() {
                    return;
                }
                pieces.push(Piece { lane, bytes: bytes.to_vec(), missing, at });
                self.decide(lane, listener);
            }
        }
    }

    /// Looks at the run so far.
    fn decide(&mut self, lane: usize, listener: &mut dyn Listener) {
        let direction = self.direction(lane);
        let mut from_start = self.from_start && !self.underway;
        let Speaks::Undecided { pieces, attempts, in_vain } = &mut self.speaks else { return };
        let first: Vec<u8> =
            pieces.iter().take_while(|piece| piece.missing == 0).flat_map(|p| p.bytes.iter().copied()).collect();
        let complete = first.len() >= UNDECIDED_BYTES || pieces.iter().any(|piece| piece.missing > 0);
        let ask = |direction, from_start| match detect::detect(direction, from_start, &first) {
            Guess::NeedMore if complete => Guess::Unknown("unknown"),
            guess => guess,
        };
        let mut guess = ask(direction, from_start);
        if guess == Guess::Unknown("unknown") && from_start && self.unix {
            // Of a unix socket nobody can say whether something passed before.
            from_start = false;
            guess = ask(direction, from_start);
        }
        if guess == Guess::Unknown("unknown") && direction.is_some() {
            // The kernel may have been wrong about who serves, where it did not see the connection's beginning. The line with
            // which a request of HTTP begins is nothing else.
            if let other @ Guess::Protocol(Protocol::Http1, Direction::Request) = ask(None, from_start) {
                guess = other;
            }
        }
        match guess {
            Guess::NeedMore => {}
            Guess::Protocol(protocol, direction) => {
                let pieces = std::mem::take(pieces);
                self.speaks = Speaks::Known(onlooker_protocols::parser(protocol, from_start));
                // Where the kernel could not tell who serves, or something else listens on the port, content decides.
                let serves = (direction == Direction::Request) == (lane == INGRESS);
                self.role = Some(if serves { Role::Server } else { Role::Client });
                for piece in pieces {
                    self.piece(piece.lane, &piece.bytes, piece.missing, piece.at, listener);
                }
            }
            Guess::Unknown(name) => {
                *in_vain = pieces.first().map(|piece| (piece.lane, piece.at.run));
                pieces.clear();
                *attempts += 1;
                self.underway = true;
                if name != "unknown" || *attempts == ATTEMPTS {
                    self.leave(name);
                }
            }
        }
    }

    /// What passed so far is no beginning of what comes: it is looked at as in the middle of a connection.
    fn listen_anew(&mut self) {
        self.speaks = Speaks::UNHEARD;
        self.underway = true;
    }

    /// There is nothing here to follow.
    fn leave(&mut self, what: &str) {
        self.speaks = Speaks::Nothing;
        let counter = match what {
            "tls" => &self.metrics.connections_tls,
            "http2" => &self.metrics.connections_http2,
            _ => &self.metrics.connections_unknown,
        };
        counter.add(1);
    }

    fn parse(&mut self, lane: usize, bytes: &[u8], missing: u64, at: Moment, listener: &mut dyn Listener) {
        let (Some(direction), Speaks::Known(parser)) = (self.direction(lane), &mut self.speaks) else { return };
        let result = if missing > 0 {
            parser.gap(direction, missing, at, &mut self.found)
        } else {
            parser.bytes(direction, bytes, at, &mut self.found)
        };
        if let Err(unparsable) = result {
            tracing::debug!(cookie = self.cookie, %unparsable, "left");
            self.metrics.connections_unparsable.add(1);
            parser.close(Close::Shutdown, at, &mut self.found);
            self.listen_anew();
        }
        self.tell(at, listener);
    }

    fn end_lane(&mut self, lane: usize, time: u64, listener: &mut dyn Listener) {
        if std::mem::replace(&mut self.lanes[lane].finished, true) {
            return;
        }
        let at = Moment { nanos: time, position: self.lanes[lane].next.unwrap_or(0), run: self.lanes[lane].run };
        if let (Some(direction), Speaks::Known(parser)) = (self.direction(lane), &mut self.speaks) {
            parser.end(direction, at, &mut self.found);
        }
        if self.exited.is_some() {
            for finding in &mut self.found {
                if let Finding::Exchange(exchange) = finding
                    && let End::Closed(why @ Close::Normal, _) = &mut exchange.end
                {
                    *why = Close::ProcessExit;
                }
            }
        }
        self.tell(at, listener);
    }

    /// Passes on what the parser found until `at`, with where it came from.
    fn tell(&mut self, at: Moment, listener: &mut dyn Listener) {
        let mut found = std::mem::take(&mut self.found);
        if found.iter().any(|finding| matches!(finding, Finding::SwitchedProtocol))
            && let Speaks::Known(parser) = &mut self.speaks
        {
            // Requests behind the one that switched will not be answered in this protocol.
            parser.close(Close::Shutdown, at, &mut found);
            self.listen_anew();
        }
        let place = self.place();
        for finding in found.drain(..) {
            match finding {
                Finding::Begun(begun) => {
                    self.open.push_back(begun.start);
                    listener.begun(place, &begun, self.origins.of(begun.start.position));
                    if self.open.len() > 1 && !std::mem::replace(&mut self.is_pipelined, true) {
                        listener.pipelined(place);
                    }
                }
                Finding::Exchange(exchange) => {
                    self.is_answered(exchange.request_start);
                    listener.exchanged(place, exchange, self.ends(), self.open.len());
                }
                Finding::Lost(lost) => {
                    self.is_answered(lost.start);
                    // Where its event was lost, it was counted.
                    if lost.reason == LossReason::RequestHeadMissing && self.untold.contains(&lost.start.position) {
                        listener.untold(place, lost.start);
                    } else {
                        listener.lost(place, lost);
                    }
                }
                Finding::Orphan(_) => self.metrics.responses_without_request.add(1),
                Finding::SwitchedProtocol => {}
            }
        }
        self.found = found;
    }

    fn place(&self) -> Place {
        Place { cookie: self.cookie, tgid: self.tgid, role: self.role() }
    }

    /// The request that began at `start` is not open any more. It is nearly always the oldest.
    fn is_answered(&mut self, start: Moment) {
        if let Some(at) = self.open.iter().position(|open| *open == start) {
            self.open.remove(at);
        }
    }

    /// Lets time pass. Whether the connection is over.
    pub(super) fn advance(&mut self, now: u64, hold: u64, listener: &mut dyn Listener) -> bool {
        self.let_through(now, hold, listener);
        let Some(ending) = self.ending else { return false };
        let Ending { why, time, positions, .. } = ending;
        // Other processors' segments from before the end may still be on their way.
        if !self.held.is_empty() || now.saturating_sub(time) < hold || !self.was_read(&ending) {
            return false;
        }
        for (lane, position) in positions.into_iter().enumerate() {
            self.hole(lane, position, listener);
        }
        if why == Close::Normal {
            // What it had to say, it has said.
            self.end_lane(EGRESS, time, listener);
        }
        self.close(why, time, listener);
        true
    }

    /// Requests from before `oldest` are not waited for any longer.
    pub(super) fn give_up_before(&mut self, oldest: u64, now: u64, listener: &mut dyn Listener) {
        if self.open.front().is_some_and(|start| start.nanos < oldest) {
            self.close(Close::Aged, now, listener);
            self.listen_anew();
        }
    }

    /// Ends it at once.
    pub(super) fn end(mut self, why: Close, time: u64, listener: &mut dyn Listener) {
        if !self.advance(u64::MAX, 0, listener) {
            self.close(why, time, listener);
        }
        self.forget(listener);
    }

    /// It is forgotten.
    pub(super) fn forget(self, listener: &mut dyn Listener) {
        listener.forgotten(self.place());
    }

    fn close(&mut self, why: Close, time: u64, listener: &mut dyn Listener) {
        let position = self.lanes[EGRESS].next.unwrap_or(0);
        let at = Moment { nanos: time, position, run: self.lanes[EGRESS].run.max(self.lanes[INGRESS].run) };
        if let Speaks::Known(parser) = &mut self.speaks {
            parser.close(why, at, &mut self.found);
        }
        self.tell(at, listener);
    }
}
