//! One connection: its segments in order, its parser, and its open requests.

use std::sync::Arc;

use onlooker_common::connection::role;
use onlooker_common::plaintext::StreamKey;
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::{Capture, Close, Direction, End, Finding, Moment, Spec, tls};

use crate::content::{Content, Decision, Known, Piece, Undecided};
use crate::conversation::Conversation;
use crate::ending::{Ending, Lifetime};
use crate::hello::Hellos;
use crate::model::counters::Counters;
use crate::model::span::{Address, Encryption, Role};
use crate::observer::{Observer, Report};
use crate::order::{Order, Way};
use crate::pieces::each_piece;
use crate::preamble::{Outcome, Preamble};

/// A connection that is followed: a socket's bytes, or a plaintext stream.
#[derive(Debug)]
pub struct Connection {
    conversation: Conversation,
    /// Time of the latest segment.
    pub last_activity: u64,
    from_start: bool,
    is_unix: bool,
    /// The plaintext stream that it is, if it is no socket.
    stream: Option<StreamKey>,
    /// Of a socket that was followed from its first byte: the positions of the first bytes received and sent. Of a plaintext
    /// stream: those of its socket.
    first: Option<[u64; 2]>,
    /// It is a socket that carries a plaintext stream.
    has_plaintext: bool,
    /// The beginning of its TLS handshake, if it is a socket.
    hellos: Option<Box<Hellos>>,
    /// Something passed that the present parser did not receive.
    is_underway: bool,
    /// Something passed whose protocol is unknown.
    has_unknown: bool,
    order: Order,
    preamble: Preamble,
    content: Content,
    lifetime: Lifetime,
    found: Vec<Finding>,
    /// The kernel programs were asked to follow its frames.
    asked_for_frames: bool,
    /// The parser is about to receive a hole that a lost record left.
    in_hole: bool,
    counters: Arc<Counters>,
}

impl Connection {
    pub(crate) fn new(cookie: u64, counters: Arc<Counters>) -> Self {
        Self {
            conversation: Conversation::new(cookie, Arc::clone(&counters)),
            last_activity: 0,
            from_start: false,
            is_unix: false,
            stream: None,
            first: None,
            has_plaintext: false,
            hellos: None,
            is_underway: false,
            has_unknown: false,
            order: Order::default(),
            preamble: Preamble::default(),
            content: Content::Undecided(Undecided::default()),
            lifetime: Lifetime::default(),
            found: Vec::new(),
            asked_for_frames: false,
            in_hole: false,
            counters,
        }
    }

    /// A plaintext stream, to be reported under this cookie.
    pub(crate) fn plaintext(cookie: u64, stream: StreamKey, counters: Arc<Counters>) -> Self {
        let mut connection = Self { stream: Some(stream), ..Self::new(cookie, counters) };
        connection.conversation.encryption = Some(Encryption::default());
        connection
    }

    pub(crate) fn stream(&self) -> Option<StreamKey> {
        self.stream
    }

    /// Sets what the kernel knows of both ends.
    pub(crate) fn introduce(&mut self, tgid: u32, ends: (Option<Role>, Address, Address), from_start: bool) {
        self.conversation.tgid = tgid;
        self.set_ends(ends);
        self.from_start = from_start;
    }

    /// Whether its beginning was recorded.
    pub(crate) fn is_from_start(&self) -> bool {
        self.from_start
    }

    pub(crate) fn set_ends(&mut self, (role, local, peer): (Option<Role>, Address, Address)) {
        self.conversation.role = self.conversation.role.or(role);
        self.conversation.set_ends(local, peer);
    }

    /// The plaintext stream is carried by this socket.
    pub(crate) fn carried_by(&mut self, socket: &Self) {
        self.set_ends(socket.known_ends());
        self.conversation.set_client(socket.conversation.client.clone());
        self.first = socket.first;
        if let Some(hellos) = &socket.hellos {
            self.conversation.encryption = Some(hellos.encryption().clone());
        }
    }

    /// What is known of both ends.
    pub(crate) fn known_ends(&self) -> (Option<Role>, Address, Address) {
        let Conversation { role, local, peer, .. } = &self.conversation;
        (*role, local.clone(), peer.clone())
    }

    /// Its bytes are ciphertext whose plaintext is recorded as well: they are not parsed any more.
    pub(crate) fn carries_plaintext(&mut self, time: u64, observer: &mut dyn Observer) {
        if !std::mem::replace(&mut self.has_plaintext, true) {
            self.counters.connections_tls_read.add(1);
        }
        self.conversation.speaks(&tls::SPEC);
        self.close(Close::Shutdown, time, observer);
        self.content = Content::Unparsed;
        self.has_unknown = false;
    }

    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.conversation.cookie
    }

    /// The process that used the connection last.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.conversation.tgid
    }

    /// What the process is on the connection, once the kernel or the content shows it.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.conversation.role
    }

    /// The protocol, once it is known.
    #[must_use]
    pub fn protocol(&self) -> Option<&'static Spec> {
        self.conversation.protocol.filter(|_| matches!(self.content, Content::Parsed(_)))
    }

    /// The number of its requests that have begun and are not over.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.conversation.requests.len()
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.conversation.requests.is_empty() || self.order.is_holding()
    }

    pub(crate) fn wants_attention(&self) -> bool {
        self.order.is_holding() || self.lifetime.is_ending(self.order.next(Way::Received))
    }

    /// Takes a segment, and delivers it when all before it has been delivered.
    pub(crate) fn segment(&mut self, segment: &Segment, captured: &[u8], observer: &mut dyn Observer) {
        if self.lifetime.has_exited() && self.conversation.tgid != segment.tgid {
            self.lifetime.used_by_another();
        }
        self.conversation.tgid = segment.tgid;
        self.last_activity = segment.time;
        self.from_start |= segment.flags & flag::FROM_START != 0;
        self.is_unix |= segment.flags & flag::UNIX != 0;
        self.conversation.role = self.conversation.role.or(match segment.role {
            role::CLIENT => Some(Role::Client),
            role::SERVER => Some(Role::Server),
            _ => None,
        });
        if self.order.start(segment) {
            if self.from_start && self.stream.is_none() && segment.run == 0 {
                let (own, other) = (segment.position, segment.opposite);
                self.first = Some(if Way::of(segment.flags) == Way::Received { [own, other] } else { [other, own] });
            }
            // One that was forgotten, or whose first record was lost, begins in its middle.
            self.is_underway |= segment.run != 0 || segment.flags & flag::BEGINS == 0;
        }
        if self.order.is_next(segment) {
            self.deliver(segment, captured, observer);
        } else {
            if self.order.is_full() {
                self.counters.segments_held_too_many.add(1);
                self.let_through(u64::MAX, 0, observer);
            }
            self.order.hold(segment, captured);
        }
        if self.order.is_holding() {
            self.catch_up(observer);
        }
    }

    /// Delivers held segments that are next.
    fn catch_up(&mut self, observer: &mut dyn Observer) {
        while let Some(held) = self.order.take_next(self.conversation.way(Direction::ToServer)) {
            self.deliver(&held.segment, &held.captured, observer);
        }
    }

    /// Delivers the segments that have waited for `hold`, with the holes before them.
    fn let_through(&mut self, now: u64, hold: u64, observer: &mut dyn Observer) {
        while let Some(held) = self.order.take_overdue(now, hold) {
            self.deliver(&held.segment, &held.captured, observer);
            self.catch_up(observer);
        }
    }

    fn deliver(&mut self, segment: &Segment, captured: &[u8], observer: &mut dyn Observer) {
        let way = Way::of(segment.flags);
        let begins = segment.flags & flag::BEGINS != 0;
        let is_parsed = matches!(self.content, Content::Parsed(_));
        if self.order.is_too_late(segment) {
            self.counters.segments_too_late.add(1);
            if begins && is_parsed && self.conversation.direction(way) == Some(Direction::ToServer) {
                self.counters.requests_lost_too_late.add(1);
            }
            return;
        }
        self.skip_to(way, segment.position, observer);
        self.order.pass(segment);
        if segment.flags & flag::FIN != 0 {
            self.end_way(way, segment.time, observer);
            if self.is_unix && self.conversation.requests.is_empty() {
                self.closing(Close::Normal, segment.time);
            }
            return;
        }
        if self.conversation.carries_requests(way) {
            let offsets = match self.stream {
                None => Some([0, 0]),
                // Both ends count the same plaintext, if they have seen all of it.
                Some(_) => self.first.filter(|_| self.from_start),
            };
            let is_concurrent = self.conversation.protocol.is_some_and(|protocol| protocol.concurrent);
            // Where requests are concurrent, the two ends need not agree on how far the other way had come. They agree on
            // where it started, if both saw that.
            let opposite =
                if is_concurrent && self.from_start { self.order.first(way.other()) } else { segment.opposite };
            self.conversation.requests.note(way, &Segment { opposite, ..*segment }, offsets);
        }
        if way == Way::Sent && self.conversation.direction(way) == Some(Direction::ToClient) {
            self.conversation.response_written(segment, observer);
        }
        if way == Way::Received && self.conversation.direction(way) == Some(Direction::ToClient) {
            self.conversation.response_received(segment, observer);
        }
        self.agree_on_frames(way, segment, observer);
        if self.stream.is_none() && (self.hellos.is_some() || Hellos::begin_with(captured)) {
            self.hellos.get_or_insert_default().take(way, captured);
        }
        each_piece(segment, captured, |bytes, missing, at| self.piece(way, bytes, missing, at, observer));
        self.conversation.captured(way, captured.len(), observer);
        if begins && self.conversation.direction(way) == Some(Direction::ToServer) {
            self.continue_newest(segment, observer);
        }
    }

    /// Where the protocol has frames that the kernel programs do not follow yet: asks them to, and confirms where frames begin.
    fn agree_on_frames(&mut self, way: Way, segment: &Segment, observer: &mut dyn Observer) {
        let Content::Parsed(parser) = &self.content else { return };
        if !self.conversation.protocol.is_some_and(|protocol| protocol.capture == Capture::Frames)
            || segment.flags & flag::FRAMES != 0
        {
            return;
        }
        let Some(direction) = self.conversation.direction(way) else { return };
        let report = if !std::mem::replace(&mut self.asked_for_frames, true) {
            Report::FollowFrames
        } else if segment.flags & flag::PROPOSES != 0 && parser.begins_frame(direction) {
            Report::FrameBegins { sent: way == Way::Sent, position: segment.position }
        } else {
            return;
        };
        observer.observe(self.conversation.place(direction), report);
    }

    /// A run in which no request begins continues the newest request: with its body, after 100 (Continue). Where requests
    /// are concurrent, it is unknown which request it continues, or whether it is a response.
    fn continue_newest(&self, segment: &Segment, observer: &mut dyn Observer) {
        if let Some(newest) =
            self.conversation.requests.newest().filter(|newest| newest.start.position < segment.position)
            && matches!(self.content, Content::Parsed(_))
            && self.conversation.protocol.is_some_and(|protocol| !protocol.concurrent)
        {
            let report = Report::Continued { start: newest.start, ids: &segment.message };
            observer.observe(self.conversation.place(newest.direction), report);
        }
    }

    /// Passes on the hole before `position`, if there is one.
    fn skip_to(&mut self, way: Way, position: u64, observer: &mut dyn Observer) {
        let Some(hole) = self.order.skip_to(way, position) else { return };
        self.counters.bytes_missing.add(hole.bytes);
        if self.conversation.carries_requests(way) {
            self.conversation.requests.note_hole(way, hole);
        }
        self.in_hole = true;
        self.piece(way, &[], hole.bytes, hole.at, observer);
        self.in_hole = false;
    }

    fn piece(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
        self.conversation.uncounted_bytes += bytes.len() as u64 + missing;
        if self.preamble.is_over(bytes) {
            self.take(way, bytes, missing, at, observer);
        } else {
            self.begin(way, bytes, missing, at, observer);
        }
    }

    /// Takes a piece of the connection's beginning, which may be a PROXY header.
    #[cold]
    fn begin(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
        let from_start = self.from_start && !self.is_underway && self.stream.is_none();
        if !from_start || self.conversation.direction(way) == Some(Direction::ToClient) {
            // Whatever was held is no header, because its other end speaks.
            let held = match std::mem::replace(&mut self.preamble, Preamble::Over) {
                Preamble::Held(pieces) => pieces,
                _ => Vec::new(),
            };
            for Piece { way, bytes, missing, at } in held {
                self.take(way, &bytes, missing, at, observer);
            }
            return self.take(way, bytes, missing, at, observer);
        }
        let own = match self.preamble.take(way, bytes, missing, at) {
            Outcome::Taken => {
                self.has_unknown = true;
                Vec::new()
            }
            Outcome::Released(pieces) => pieces,
            Outcome::Rest(piece) => vec![piece],
            Outcome::Header(way, client, rest) => {
                self.conversation.role = Some(if way == Way::Received { Role::Server } else { Role::Client });
                self.conversation.set_client(client.map(Address::from));
                Vec::from_iter(rest)
            }
        };
        for Piece { way, bytes, missing, at } in own {
            self.take(way, &bytes, missing, at, observer);
        }
    }

    fn take(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
        match self.content {
            Content::Unparsed => {}
            Content::Parsed(_) => self.parse(way, bytes, missing, at, observer),
            Content::Undecided(_) => self.decide(way, bytes, missing, at, observer),
        }
    }

    fn parse(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
        let (Some(direction), Content::Parsed(parser)) = (self.conversation.direction(way), &mut self.content) else {
            return;
        };
        let result = if missing > 0 {
            parser.gap(direction, missing, at, &mut self.found)
        } else {
            parser.bytes(direction, bytes, at, &mut self.found)
        };
        if let Err(unparsable) = result {
            let protocol = self.conversation.protocol;
            tracing::debug!(cookie = self.conversation.cookie, ?protocol, %unparsable, "connection is detected anew");
            self.counters.connections_unparsable.add(1);
            parser.close(Close::Shutdown, at, &mut self.found);
            self.detect_anew();
        }
        self.report(at, observer);
    }

    fn decide(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
        let from_start = self.from_start && !self.is_underway;
        let (direction, is_unix) = (self.conversation.direction(way), self.is_unix);
        let known = Known { direction, from_start, is_new: !self.is_underway, is_unix };
        let Content::Undecided(undecided) = &mut self.content else { return };
        self.has_unknown = true;
        match undecided.look(self.counters.protocols(), known, (way, bytes, missing, at)) {
            Decision::NeedMore => {}
            Decision::Rejected => self.is_underway = true,
            Decision::Unparsed(protocol) => {
                self.is_underway = true;
                self.has_unknown = false;
                self.content = Content::Unparsed;
                match protocol {
                    Some(protocol) => {
                        self.conversation.speaks(protocol);
                        if protocol == &tls::SPEC {
                            observer.observe(self.conversation.place(Direction::ToServer), Report::Encrypted);
                        }
                    }
                    None => {
                        self.conversation.protocol = None;
                        self.counters.connections_unknown.add(1);
                    }
                }
            }
            Decision::Parsed { protocol, parser, direction, pieces, from_start } => {
                self.from_start |= from_start;
                self.has_unknown = false;
                self.content = Content::Parsed(parser);
                // The content outranks the kernel, which guesses by ports if it did not see the beginning.
                let is_server = (direction == Direction::ToServer) == (way == Way::Received);
                self.conversation.role = Some(if is_server { Role::Server } else { Role::Client });
                self.conversation.speaks(protocol);
                for Piece { way, bytes, missing, at } in pieces {
                    self.take(way, &bytes, missing, at, observer);
                }
            }
        }
    }

    /// Adds the bytes that passed to the protocol's counter.
    pub(crate) fn count_bytes(&mut self) {
        if !matches!(self.content, Content::Undecided(_)) {
            self.conversation.count_bytes();
        }
    }

    /// Looks at what comes as at the middle of a connection.
    fn detect_anew(&mut self) {
        self.count_bytes();
        self.content = Content::Undecided(Undecided::default());
        self.is_underway = true;
    }

    /// The socket that carries the stream has received all that will come.
    pub(crate) fn input_finished(&mut self, time: u64, observer: &mut dyn Observer) {
        if !self.order.is_holding() {
            self.end_way(Way::Received, time, observer);
        }
    }

    fn end_way(&mut self, way: Way, time: u64, observer: &mut dyn Observer) {
        if !self.order.end(way) {
            return;
        }
        let at = self.order.moment(way, time);
        if let (Some(direction), Content::Parsed(parser)) = (self.conversation.direction(way), &mut self.content) {
            parser.end(direction, at, &mut self.found);
        }
        if self.lifetime.ends_by_exit() {
            for finding in &mut self.found {
                if let Finding::Exchange(exchange) = finding
                    && let End::Closed(why @ Close::Normal, _) = &mut exchange.end
                {
                    *why = Close::ProcessExit;
                }
            }
        }
        self.report(at, observer);
    }

    /// Reports what the parser found.
    fn report(&mut self, at: Moment, observer: &mut dyn Observer) {
        if self.found.iter().any(|finding| matches!(finding, Finding::SwitchedProtocol))
            && let Content::Parsed(parser) = &mut self.content
        {
            // Requests behind the one that switched will not be answered in this protocol.
            parser.close(Close::Shutdown, at, &mut self.found);
            self.detect_anew();
        }
        for finding in self.found.drain(..) {
            self.conversation.report(finding, self.in_hole, observer);
        }
    }

    /// This end sent its FIN at `time`.
    pub(crate) fn finished(&mut self, time: u64, observer: &mut dyn Observer) {
        // Held segments come before it. The connection's end will report it again.
        if !self.order.is_holding() {
            self.end_way(Way::Sent, time, observer);
        }
    }

    /// This end sent its FIN at `time`, and receives no more.
    pub(crate) fn finished_both(&mut self, time: u64, observer: &mut dyn Observer) {
        self.lifetime.finished_both();
        self.finished(time, observer);
    }

    /// The connection ends once its held segments have been delivered.
    pub(crate) fn closing(&mut self, why: Close, time: u64) {
        self.lifetime.close(why, time);
    }

    /// The kernel reports the end: where each way ended, and how far the received bytes may still be read.
    pub(crate) fn closed(&mut self, why: Close, time: u64, positions: [u64; 2], arrived: u64) {
        self.order.start_at(Way::Received, positions[Way::Received as usize]);
        self.lifetime.closed(why, time, positions, arrived);
    }

    /// The socket is gone: unread bytes will never be read.
    pub(crate) fn destroyed(&mut self, positions: [u64; 2]) {
        self.lifetime.destroyed(positions);
    }

    /// The process that used the connection last has ended. Another process may have the connection too.
    pub(crate) fn process_ended(&mut self, time: u64) {
        self.lifetime.process_ended();
        if self.is_unix || self.stream.is_some() {
            self.closing(Close::ProcessExit, time);
        }
    }

    /// Lets time pass. Returns whether the connection is over.
    pub(crate) fn advance(&mut self, now: u64, hold: u64, observer: &mut dyn Observer) -> bool {
        self.let_through(now, hold, observer);
        if self.order.is_holding() {
            return false;
        }
        let next = self.order.next(Way::Received);
        let Some(Ending { why, time, positions, .. }) = self.lifetime.due(now, hold, next) else { return false };
        for way in Way::BOTH {
            self.skip_to(way, positions[way as usize], observer);
        }
        if why == Close::Normal {
            self.end_way(Way::Sent, time, observer);
        }
        self.close(why, time, observer);
        true
    }

    /// When each open request began that began before `time`.
    pub(crate) fn requests_before(&self, time: u64) -> impl Iterator<Item = u64> {
        self.conversation.requests.begun_before(time)
    }

    /// Stops waiting for requests that began before `oldest`.
    pub(crate) fn give_up_before(&mut self, oldest: u64, now: u64, observer: &mut dyn Observer) {
        if self.conversation.requests.oldest().is_some_and(|request| request.start.nanos < oldest)
            && let Content::Parsed(parser) = &mut self.content
        {
            let at = self.order.moment(Way::Sent, now);
            parser.give_up_before(oldest, at, &mut self.found);
            self.report(at, observer);
        }
    }

    /// Tells the parser the time, if it may hold a request back.
    pub(crate) fn pass_time(&mut self, now: u64, observer: &mut dyn Observer) {
        if !self.conversation.requests.is_empty()
            && let Content::Parsed(parser) = &mut self.content
        {
            parser.pass_time(now, &mut self.found);
            if !self.found.is_empty() {
                let at = self.order.moment(Way::Sent, now);
                self.report(at, observer);
            }
        }
    }

    /// Ends the connection at once, and forgets it.
    pub(crate) fn end(mut self, why: Close, time: u64, observer: &mut dyn Observer) {
        if !self.advance(u64::MAX, 0, observer) {
            self.close(why, time, observer);
        }
        self.forget(observer);
    }

    pub(crate) fn forget(mut self, observer: &mut dyn Observer) {
        if self.has_unknown {
            self.counters.connections_unknown.add(1);
        }
        self.count_bytes();
        observer.observe(self.conversation.place(Direction::ToServer), Report::Forgotten);
    }

    fn close(&mut self, why: Close, time: u64, observer: &mut dyn Observer) {
        let at = Moment { run: self.order.newest_run(), ..self.order.moment(Way::Sent, time) };
        if let Content::Parsed(parser) = &mut self.content {
            parser.close(why, at, &mut self.found);
        }
        self.report(at, observer);
    }
}
