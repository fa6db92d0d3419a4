//! What a connection's bytes say: its parser is found, and receives them.

use onlooker_protocols::{Close, Direction, Finding, Moment, tls};

use super::Connection;
use crate::content::{Content, Decision, Known, Piece, Undecided};
use crate::model::span::{Address, Role};
use crate::observer::{Observer, Report};
use crate::order::Way;
use crate::preamble::{Outcome, Preamble};

impl Connection {
    pub(super) fn piece(&mut self, way: Way, bytes: &[u8], missing: u64, at: Moment, observer: &mut dyn Observer) {
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

    /// Reports what the parser found.
    pub(super) fn report(&mut self, at: Moment, observer: &mut dyn Observer) {
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
}
