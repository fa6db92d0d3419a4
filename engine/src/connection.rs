//! One connection: its two lanes, what it speaks, and what is held until it can be told.

mod content;
mod order;
pub(crate) mod origin;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use onlooker_protocols::{Close, Direction, End, Finding, LossReason, Moment, Spec};

use content::Speaks;
use order::Held;
use origin::Origins;

use crate::connections::{Listener, Place};
use crate::model::counters::Counters;
use crate::model::span::{Address, Ends, Role};

/// A connection that is followed.
#[derive(Debug)]
pub struct Connection {
    pub cookie: u64,
    /// The process that used it last.
    pub tgid: u32,
    pub role: Option<Role>,
    pub(crate) local: Address,
    pub(crate) peer: Address,
    /// The same, as spans have them: from the first exchange on.
    pub(crate) ends: Option<Arc<Ends>>,
    /// Time of its latest segment.
    pub last_activity: u64,
    from_start: bool,
    unix: bool,
    /// Something passed that its present parser was not told of.
    underway: bool,
    /// Something passed of which it is not known what it is.
    unread: bool,
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
    /// The parser is being told of bytes whose event was lost.
    in_hole: bool,
    counters: Arc<Counters>,
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

impl Connection {
    pub(crate) fn new(cookie: u64, counters: Arc<Counters>) -> Self {
        counters.connections_seen.add(1);
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
            unread: false,
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
            in_hole: false,
            counters,
        }
    }

    /// The kernel says who it is.
    pub(crate) fn introduce(
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

    /// What content showed, where the kernel could not tell.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.unwrap_or(Role::Client)
    }

    /// Both ends, as far as they are known; its spans share them.
    pub fn ends(&mut self) -> Arc<Ends> {
        let role = self.role();
        let known = self.ends.take().filter(|ends| ends.role == role);
        let ends = known.unwrap_or_else(|| Arc::new(Ends::new(role, self.local.clone(), self.peer.clone())));
        Arc::clone(self.ends.insert(ends))
    }

    #[must_use]
    pub fn protocol(&self) -> Option<&'static Spec> {
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

    pub(crate) fn is_busy(&self) -> bool {
        !self.open.is_empty() || !self.held.is_empty()
    }

    pub(crate) fn wants_attention(&self) -> bool {
        !self.held.is_empty() || self.ending.is_some_and(|ending| self.was_read(&ending))
    }

    /// Whether nothing more will be read that came before the end.
    fn was_read(&self, ending: &Ending) -> bool {
        self.lanes[INGRESS].next.is_none_or(|next| next >= ending.arrived)
    }

    /// This side sent its FIN at `time`.
    pub(crate) fn finished(&mut self, time: u64, listener: &mut dyn Listener) {
        // Held segments come before it; the connection's end will tell the same, later.
        if self.held.is_empty() {
            self.end_lane(EGRESS, time, listener);
        }
    }

    /// The connection is closed: what is held is let through first.
    pub(crate) fn closing(&mut self, why: Close, time: u64) {
        self.ending.get_or_insert(Ending { why, time, positions: [0; 2], arrived: 0 });
    }

    /// The kernel says that it is closed, how far each direction had come, and how far what came can still be read.
    pub(crate) fn closed(&mut self, why: Close, time: u64, positions: [u64; 2], arrived: u64) {
        // What the kernel closes for a process that ends, that did not close itself.
        let why = if why == Close::Normal && self.exited.is_some() { Close::ProcessExit } else { why };
        let arrived = if self.exited.is_some() { 0 } else { arrived };
        self.lanes[INGRESS].next.get_or_insert(positions[INGRESS]);
        self.ending = Some(Ending { why, time, positions, arrived });
    }

    /// The socket is gone: what was not read never will be.
    pub(crate) fn destroyed(&mut self, positions: [u64; 2]) {
        if let Some(ending) = &mut self.ending {
            ending.positions = positions;
            ending.arrived = 0;
        }
    }

    /// The process that used it last has ended. Another one may have it too, and go on.
    pub(crate) fn process_ended(&mut self, time: u64) {
        self.exited = Some(time);
        if let Some(ending) = &mut self.ending {
            ending.arrived = 0;
        }
        if self.unix {
            self.closing(Close::ProcessExit, time);
        }
    }

    /// `None` while the role is not known.
    fn is_request_lane(&self, lane: usize) -> Option<bool> {
        self.role.map(|role| (role == Role::Server) == (lane == INGRESS))
    }

    fn direction(&self, lane: usize) -> Option<Direction> {
        Some(if self.is_request_lane(lane)? { Direction::ToServer } else { Direction::ToClient })
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
                Finding::Orphan(_) => self.counters.responses_without_request.add(1),
                // What an event that was lost hides, no capture would have shown.
                Finding::CaptureMore(_) if self.in_hole => {}
                Finding::CaptureMore(direction) => listener.head_cut(place, direction),
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
    pub(crate) fn advance(&mut self, now: u64, hold: u64, listener: &mut dyn Listener) -> bool {
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
    pub(crate) fn give_up_before(&mut self, oldest: u64, now: u64, listener: &mut dyn Listener) {
        if self.open.front().is_some_and(|start| start.nanos < oldest)
            && let Speaks::Known(parser) = &mut self.speaks
        {
            let lane = &self.lanes[EGRESS];
            let at = Moment { nanos: now, position: lane.next.unwrap_or(0), run: lane.run };
            parser.give_up_before(oldest, at, &mut self.found);
            self.tell(at, listener);
        }
    }

    /// Ends it at once.
    pub(crate) fn end(mut self, why: Close, time: u64, listener: &mut dyn Listener) {
        if !self.advance(u64::MAX, 0, listener) {
            self.close(why, time, listener);
        }
        self.forget(listener);
    }

    /// It is forgotten.
    pub(crate) fn forget(self, listener: &mut dyn Listener) {
        if self.unread {
            self.counters.connections_unknown.add(1);
        }
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
