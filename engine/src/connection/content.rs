//! What a connection speaks: its runs are looked at until one can be made out, and parsed from then on.

use onlooker_protocols::detect::{Guess, Sample, detect};
use onlooker_protocols::{Close, Direction, Moment, PROTOCOLS, Parser, Spec, Transport};

use super::{Connection, INGRESS};
use crate::connections::Listener;
use crate::model::span::Role;

/// Bytes kept while it is not clear yet what a run is.
const UNDECIDED_BYTES: usize = 4 << 10;
/// Runs that may be looked at in vain before a connection is left alone.
const ATTEMPTS: u8 = 8;
#[derive(Debug)]
pub(super) enum Speaks {
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
    pub(super) const UNHEARD: Self = Self::Undecided { pieces: Vec::new(), attempts: 0, in_vain: None };
}

/// Bytes, or a hole, on their way to the parser.
#[derive(Debug)]
pub(super) struct Piece {
    lane: usize,
    bytes: Vec<u8>,
    missing: u64,
    at: Moment,
}

impl Connection {
    pub(super) fn piece(&mut self, lane: usize, bytes: &[u8], missing: u64, at: Moment, listener: &mut dyn Listener) {
        match &mut self.speaks {
            Speaks::Nothing => {}
            Speaks::Known(_) => self.parse(lane, bytes, missing, at, listener),
            Speaks::Undecided { pieces, in_vain, .. } => {
                self.unread = true;
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
        let ask = |direction, from_start| {
            let sample = Sample { transport: Transport::Stream, direction, from_start, bytes: &first };
            match detect(PROTOCOLS, &sample) {
                Guess::NeedMore if complete => Guess::Unknown,
                guess => guess,
            }
        };
        let mut guess = ask(direction, from_start);
        if guess == Guess::Unknown && from_start && self.unix {
            // Of a unix socket nobody can say whether something passed before.
            from_start = false;
            guess = ask(direction, from_start);
        }
        if guess == Guess::Unknown && direction.is_some() {
            // The kernel guesses the server where it did not see the connection's beginning. Some protocols' requests prove
            // it wrong.
            if let other @ Guess::Protocol(protocol, Direction::ToServer) = ask(None, from_start)
                && protocol.proves_roles
            {
                guess = other;
            }
        }
        match guess {
            Guess::NeedMore => {}
            Guess::Protocol(protocol, direction) => {
                let Some(new_parser) = protocol.parser else { return };
                let pieces = std::mem::take(pieces);
                self.unread = false;
                self.speaks = Speaks::Known(new_parser(from_start));
                // Where the kernel could not tell who serves, or something else listens on the port, content decides.
                let serves = (direction == Direction::ToServer) == (lane == INGRESS);
                self.role = Some(if serves { Role::Server } else { Role::Client });
                for piece in pieces {
                    self.piece(piece.lane, &piece.bytes, piece.missing, piece.at, listener);
                }
            }
            Guess::Unparsed(_) | Guess::Unknown => {
                *in_vain = pieces.first().map(|piece| (piece.lane, piece.at.run));
                pieces.clear();
                *attempts += 1;
                self.underway = true;
                let what = if let Guess::Unparsed(protocol) = guess { Some(protocol) } else { None };
                if what.is_some() || *attempts == ATTEMPTS {
                    self.leave(what);
                }
            }
        }
    }

    /// What passed so far is no beginning of what comes: it is looked at as in the middle of a connection.
    pub(super) fn listen_anew(&mut self) {
        self.speaks = Speaks::UNHEARD;
        self.underway = true;
    }

    /// There is nothing here to follow.
    fn leave(&mut self, protocol: Option<&Spec>) {
        self.speaks = Speaks::Nothing;
        self.unread = false;
        let counter = match protocol.map(|protocol| protocol.name) {
            Some("tls") => &self.counters.connections_tls,
            Some("http2") => &self.counters.connections_http2,
            _ => &self.counters.connections_unknown,
        };
        counter.add(1);
    }

    pub(super) fn parse(&mut self, lane: usize, bytes: &[u8], missing: u64, at: Moment, listener: &mut dyn Listener) {
        let (Some(direction), Speaks::Known(parser)) = (self.direction(lane), &mut self.speaks) else { return };
        let result = if missing > 0 {
            parser.gap(direction, missing, at, &mut self.found)
        } else {
            parser.bytes(direction, bytes, at, &mut self.found)
        };
        if let Err(unparsable) = result {
            tracing::debug!(cookie = self.cookie, %unparsable, "left");
            self.counters.connections_unparsable.add(1);
            parser.close(Close::Shutdown, at, &mut self.found);
            self.listen_anew();
        }
        self.tell(at, listener);
    }
}
