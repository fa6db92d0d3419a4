//! One connection: its segments in order, its parser, and its open requests.

mod closing;
mod parsing;

use std::sync::Arc;

use onlooker_common::connection::role;
use onlooker_common::plaintext::StreamKey;
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::{Capture, Close, Direction, Finding, Spec, tls};

use crate::content::{Content, Undecided};
use crate::conversation::Conversation;
use crate::ending::Lifetime;
use crate::hello::Hellos;
use crate::model::counters::Counters;
use crate::model::span::{Address, Encryption, Role};
use crate::observer::{Observer, Report};
use crate::order::{Order, Way};
use crate::origin::Counts;
use crate::pieces::each_piece;
use crate::preamble::Preamble;

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
            let counts = match self.stream {
                None => Counts::From([0, 0]),
                // Both ends count the same plaintext, if they have seen all of it.
                Some(_) => self.first.filter(|_| self.from_start).map_or(Counts::Alone, Counts::From),
            };
            let is_concurrent = self.conversation.protocol.is_some_and(|protocol| protocol.concurrent);
            // Where requests are concurrent, the two ends need not agree on how far the other way had come. They agree on
            // where it started, if both saw that.
            let opposite =
                if is_concurrent && self.from_start { self.order.first(way.other()) } else { segment.opposite };
            self.conversation.requests.note(way, segment, opposite, counts);
        }
        if self.conversation.direction(way) == Some(Direction::ToClient) {
            match way {
                Way::Sent => self.conversation.response_written(segment, observer),
                Way::Received => self.conversation.response_received(segment, observer),
            }
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
}
