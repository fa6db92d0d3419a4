//! Both ends of a connection or of a datagram flow, its protocol, and its open requests.

use std::sync::Arc;

use onlooker_common::owner::Owner;
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::{Capture, Direction, Facts, Finding, LossReason, Spec, by_name, http1};

use crate::lengths::Lengths;
use crate::model::counters::Counters;
use crate::model::span::{Address, Encryption, Ends, Role};
use crate::observer::{Observer, Place, Report};
use crate::open_requests::OpenRequests;
use crate::order::Way;
use crate::origin::Origin;
use crate::unit::Unit;

/// Turns what a parser finds into reports, with the place and the ends of each request.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) cookie: u64,
    /// The process that took part last.
    pub(crate) tgid: u32,
    pub(crate) role: Option<Role>,
    pub(crate) local: Address,
    pub(crate) peer: Address,
    /// The client that a PROXY header names. The peer is its proxy then.
    pub(crate) client: Option<Address>,
    /// The TLS that its bytes had around them.
    pub(crate) encryption: Option<Encryption>,
    /// The same, as spans share them: made for the first exchange.
    ends: Option<Arc<Ends>>,
    is_datagram: bool,
    pub(crate) protocol: Option<&'static Spec>,
    /// Bytes that passed and are not yet added to the protocol's counter.
    pub(crate) uncounted_bytes: u64,
    pub(crate) requests: OpenRequests,
    lengths: Lengths,
    pub(crate) counters: Arc<Counters>,
}

impl Conversation {
    pub(crate) fn new(cookie: u64, counters: Arc<Counters>) -> Self {
        Self {
            cookie,
            tgid: 0,
            role: None,
            local: Address::Unknown,
            peer: Address::Unknown,
            client: None,
            encryption: None,
            ends: None,
            is_datagram: false,
            protocol: None,
            uncounted_bytes: 0,
            requests: OpenRequests::default(),
            lengths: Lengths::default(),
            counters,
        }
    }

    /// A flow of datagrams.
    pub(crate) fn of_datagrams(cookie: u64, counters: Arc<Counters>) -> Self {
        Self { is_datagram: true, ..Self::new(cookie, counters) }
    }

    pub(crate) fn set_ends(&mut self, local: Address, peer: Address) {
        self.local = local;
        self.peer = peer;
        self.ends = None;
    }

    pub(crate) fn set_client(&mut self, client: Option<Address>) {
        self.client = client;
        self.ends = None;
    }

    /// The role that the kernel or the content shows; that of a client while it is unknown.
    pub(crate) fn role(&self) -> Role {
        self.role.unwrap_or(Role::Client)
    }

    /// Both ends, as far as they are known. The spans of a connection share them.
    pub(crate) fn ends(&mut self) -> Arc<Ends> {
        let role = self.role();
        let known = self.ends.take().filter(|ends| ends.role == role);
        let new = if self.is_datagram { Ends::of_datagrams } else { Ends::new };
        let ends = known.unwrap_or_else(|| {
            let ends = new(role, self.local.clone(), self.peer.clone());
            Arc::new(ends.for_client(self.client.clone()).encrypted(self.encryption.clone()))
        });
        Arc::clone(self.ends.insert(ends))
    }

    /// The way of requests that travel in this direction. `None` while the role is unknown.
    pub(crate) fn way(&self, direction: Direction) -> Option<Way> {
        let to_server = if self.role? == Role::Server { Way::Received } else { Way::Sent };
        Some(if direction == Direction::ToServer { to_server } else { to_server.other() })
    }

    pub(crate) fn direction(&self, way: Way) -> Option<Direction> {
        let to_server = self.way(Direction::ToServer)?;
        Some(if way == to_server { Direction::ToServer } else { Direction::ToClient })
    }

    /// Whether requests may come this way.
    pub(crate) fn carries_requests(&self, way: Way) -> bool {
        self.protocol.is_some_and(|protocol| protocol.concurrent) || self.direction(way) != Some(Direction::ToClient)
    }

    /// Counts the conversation as one of this protocol.
    pub(crate) fn speaks(&mut self, protocol: &'static Spec) {
        if self.protocol.replace(protocol) != Some(protocol)
            && let Some(of_protocol) = self.counters.protocol(protocol)
        {
            of_protocol.connections.add(1);
        }
    }

    /// Adds the bytes that passed to the protocol's counter.
    pub(crate) fn count_bytes(&mut self) {
        if let Some(of_protocol) = self.protocol.and_then(|protocol| self.counters.protocol(protocol)) {
            of_protocol.bytes.add(std::mem::take(&mut self.uncounted_bytes));
        }
    }

    pub(crate) fn place(&self, direction: Direction) -> Place {
        let role = if direction == Direction::ToServer { self.role() } else { self.role().other() };
        let in_order = self.protocol.is_none_or(|protocol| !protocol.concurrent);
        Place { cookie: self.cookie, tgid: self.tgid, role, in_order }
    }

    /// Notes that bytes of a run were captured, and reports if they are too many of one message.
    #[inline]
    pub(crate) fn captured(&mut self, way: Way, bytes: usize, observer: &mut dyn Observer) {
        let direction = self.direction(way);
        // Where there are frames, the kernel programs capture what is needed of each. Until they do, a limit would hide frames.
        let has_frames = self.protocol.is_some_and(|protocol| protocol.capture == Capture::Frames);
        if self.lengths.capture(way, direction, bytes) && !self.requests.was_pipelined() && !has_frames {
            let capture = match self.protocol {
                // A request that is hidden may not be counted, so there is room for a short pipeline.
                Some(protocol) if direction == Some(Direction::ToServer) && protocol.parser.is_some() => Capture::Most,
                Some(protocol) => protocol.capture,
                None => Capture::Heads,
            };
            let place = self.place(direction.unwrap_or(Direction::ToServer));
            observer.observe(place, Report::CaptureLess(direction, capture));
        }
    }

    /// Notes an operation with bytes of responses, and reports who responds. Where requests are concurrent, it is known only
    /// at the end of an exchange which request a response belonged to.
    pub(crate) fn response_written(&mut self, segment: &Segment, observer: &mut dyn Observer) {
        let unit = Unit::of(segment);
        self.requests.note_response(segment.position, unit);
        if let Some(unit) = unit
            && segment.flags & flag::BEGINS != 0
            && let Some(oldest) = self.requests.oldest().filter(|oldest| oldest.direction == Direction::ToServer)
            && let place @ Place { in_order: true, .. } = self.place(oldest.direction)
        {
            observer.observe(place, Report::Responded { start: oldest.start, unit, nanos: segment.time });
        }
    }

    /// Reports the owner that a response carries, of the call that it answers. Outside of HTTP/1 the owner becomes unknown: there
    /// the task may have been woken for the next call, which it sends while this one is in flight.
    pub(crate) fn response_received(&mut self, segment: &Segment, observer: &mut dyn Observer) {
        if segment.owner.cookie != 0
            && self.requests.len() == 1
            && let Some(call) = self.requests.oldest().filter(|call| call.direction == Direction::ToServer)
        {
            let is_alone = self.protocol.is_some_and(|protocol| protocol.name == http1::SPEC.name);
            let owner = if is_alone { segment.owner } else { Owner::default() };
            let report = Report::OwnerCorrected { start: call.start, owner: &owner };
            observer.observe(self.place(call.direction), report);
        }
    }

    /// A message in this direction begins or ends.
    fn pass_message(&mut self, direction: Direction) {
        if let Some(way) = self.way(direction) {
            self.lengths.pass(way);
        }
    }

    /// Reports one finding. `in_hole`: the parser just received a hole that a lost record left.
    pub(crate) fn report(&mut self, finding: Finding, in_hole: bool, observer: &mut dyn Observer) {
        match finding {
            Finding::Begun(begun) => {
                let is_alone = self.requests.is_empty();
                self.requests.begin(begun.direction, begun.start);
                self.pass_message(begun.direction);
                let (place, way) = (self.place(begun.direction), self.way(begun.direction));
                let origin = way.and_then(|way| self.requests.origin(way, begun.start.position, is_alone));
                let has_frames = self.protocol.is_some_and(|protocol| protocol.capture == Capture::Frames);
                // One unit may read and write the streams of many, so what was found out about a run is true of no stream.
                let unfollowed = origin.filter(|origin| has_frames && !origin.has_frames).map(Origin::without_owner);
                let origin = unfollowed.as_ref().or(origin);
                observer.observe(place, Report::Begun { begun: &begun, origin, protocol: self.protocol });
                if self.requests.becomes_pipelined() {
                    // Its runs hold several messages. A limit would hide the later ones.
                    observer.observe(place, Report::CaptureMore(None));
                }
            }
            Finding::Exchange(exchange) => {
                let place = self.place(exchange.direction);
                // The libraries of gRPC write a response from whichever thread is at hand.
                if place.role == Role::Server
                    && !matches!(exchange.facts, Facts::Rpc(_))
                    && let Some(begun) = exchange.response_start
                    && let Some(unit) = self.requests.responder(begun.position)
                {
                    let report = Report::Responded { start: exchange.request_start, unit, nanos: begun.nanos };
                    observer.observe(place, report);
                }
                let open = self.requests.end(exchange.direction, exchange.request_start);
                self.pass_message(exchange.direction.opposite());
                observer.observe(place, Report::Ended { exchange, ends: self.ends(), open });
            }
            Finding::Lost(lost) => {
                self.requests.end(lost.direction, lost.start);
                self.pass_message(lost.direction.opposite());
                let is_unreported =
                    self.way(lost.direction).is_some_and(|way| self.requests.is_unreported(way, lost.start.position));
                let report = match lost.reason {
                    LossReason::RequestHeadMissing if is_unreported => Report::Discarded { start: lost.start },
                    _ => Report::Lost(lost),
                };
                observer.observe(self.place(lost.direction), report);
            }
            Finding::Orphan(_) => self.counters.responses_without_request.add(1),
            // No capture would have shown what a lost record hides.
            Finding::CaptureMore(_) if in_hole => {}
            Finding::CaptureMore(direction) => {
                observer.observe(self.place(direction), Report::CaptureMore(Some(direction)));
            }
            Finding::TableNotKept => self.counters.http2_tables_not_kept.add(1),
            Finding::StatementForgotten => self.counters.postgres_statements_forgotten.add(1),
            Finding::Upgraded(name) => {
                if let Some(protocol) = by_name(name) {
                    self.speaks(protocol);
                }
            }
            Finding::SwitchedProtocol => {}
        }
    }
}
