//! Finds out which protocol a connection speaks, by the first bytes of its runs.

use onlooker_protocols::detect::{Guess, Sample, detect};
use onlooker_protocols::{Direction, Moment, Parser, Spec, Transport};

use crate::order::Way;

/// Bytes of a run that are kept until its protocol is known.
const UNDECIDED_BYTES: usize = 4 << 10;

/// Runs that are looked at before a connection is left alone.
const ATTEMPTS: u8 = 8;

/// What a connection carries.
#[derive(Debug)]
pub(crate) enum Content {
    Undecided(Undecided),
    Parsed(Box<dyn Parser>),
    /// Nothing that there is a parser for.
    Unparsed,
}

/// The run that is looked at.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    pieces: Vec<Piece>,
    attempts: u8,
    /// The run that was looked at without result. What is in the middle of it may look like anything.
    rejected: Option<(Way, u32)>,
}

/// Bytes, or a hole, on their way to the parser.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) way: Way,
    pub(crate) bytes: Vec<u8>,
    pub(crate) missing: u64,
    pub(crate) at: Moment,
}

/// What is known of a connection before its protocol is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) direction: Option<Direction>,
    pub(crate) from_start: bool,
    /// It is unknown whether something passed on a unix socket before its first record.
    pub(crate) is_unix: bool,
}

/// The outcome of a look at a run.
#[derive(Debug)]
pub(crate) enum Decision {
    NeedMore,
    /// The run is of no known protocol. A later one may be.
    Rejected,
    Parsed {
        protocol: &'static Spec,
        parser: Box<dyn Parser>,
        direction: Direction,
        pieces: Vec<Piece>,
    },
    /// The connection is not looked at any more. It speaks the protocol, or an unknown one.
    Unparsed(Option<&'static Spec>),
}

impl Undecided {
    /// Looks at a piece together with the earlier ones of its run.
    pub(crate) fn look(
        &mut self,
        table: &[&'static Spec],
        known: Known,
        (way, bytes, missing, at): (Way, &[u8], u64, Moment),
    ) -> Decision {
        if self.rejected == Some((way, at.run)) {
            return Decision::NeedMore;
        }
        if self.pieces.last().is_some_and(|last| last.way != way || last.at.run != at.run) {
            self.pieces.clear();
        }
        if missing > 0 && self.pieces.is_empty() {
            return Decision::NeedMore;
        }
        self.pieces.push(Piece { way, bytes: bytes.to_vec(), missing, at });
        let (guess, from_start) = self.guess(table, known);
        match guess {
            Guess::NeedMore => Decision::NeedMore,
            Guess::Unparsed(protocol) => Decision::Unparsed(Some(protocol)),
            Guess::Protocol(protocol, direction) => match protocol.parser {
                None => Decision::Unparsed(Some(protocol)),
                Some(new_parser) => Decision::Parsed {
                    protocol,
                    parser: new_parser(from_start),
                    direction,
                    pieces: std::mem::take(&mut self.pieces),
                },
            },
            Guess::Unknown => {
                self.rejected = Some((way, at.run));
                self.pieces.clear();
                self.attempts += 1;
                if self.attempts == ATTEMPTS { Decision::Unparsed(None) } else { Decision::Rejected }
            }
        }
    }

    /// The guess, and whether the parser may believe that it sees the connection's first byte.
    fn guess(&self, table: &[&'static Spec], known: Known) -> (Guess, bool) {
        let Known { direction, from_start, is_unix } = known;
        let captured = self.pieces.iter().take_while(|piece| piece.missing == 0);
        let first: Vec<u8> = captured.flat_map(|piece| piece.bytes.iter().copied()).collect();
        let is_all = first.len() >= UNDECIDED_BYTES || self.pieces.iter().any(|piece| piece.missing > 0);
        let guess_as = |direction, from_start| {
            let sample = Sample { transport: Transport::Stream, direction, from_start, bytes: &first };
            match detect(table, &sample) {
                Guess::NeedMore if is_all => Guess::Unknown,
                guess => guess,
            }
        };
        let mut guess = (guess_as(direction, from_start), from_start);
        if guess.0 == Guess::Unknown && from_start && is_unix {
            guess = (guess_as(direction, false), false);
        }
        // The role of a connection that was open before the agent started is a guess. Some requests prove it wrong.
        if guess.0 == Guess::Unknown
            && direction.is_some()
            && let other @ Guess::Protocol(protocol, Direction::ToServer) = guess_as(None, guess.1)
            && protocol.proves_roles
        {
            guess.0 = other;
        }
        guess
    }
}
