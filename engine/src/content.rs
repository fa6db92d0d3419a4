//! Finds out which protocol a connection speaks, by the first bytes of its runs.

use onlooker_protocols::detect::{Guess, Sample, detect, detect_answered, may_be};
use onlooker_protocols::{Capture, Direction, Moment, Parser, Spec, Transport};

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

/// The run that is looked at, and an ambiguous one before it.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    run: Run,
    before: Option<Run>,
    attempts: u8,
    /// The run that was looked at without result. What is in the middle of it may look like anything.
    rejected: Option<(Way, u32)>,
}

/// The pieces of a run, from its first byte on.
#[derive(Debug, Default)]
struct Run {
    pieces: Vec<Piece>,
    /// Its first byte is the connection's.
    from_start: bool,
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
    /// Nothing of it was seen before. More may have passed unseen.
    pub(crate) is_new: bool,
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
        /// The first of the pieces is the connection's beginning.
        from_start: bool,
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
        if self.run.pieces.last().is_some_and(|last| last.way != way || last.at.run != at.run) {
            // It was ambiguous. The next run may tell what it is.
            self.before = Some(std::mem::take(&mut self.run));
            self.attempts += 1;
            if self.attempts == ATTEMPTS {
                return Decision::Unparsed(None);
            }
        }
        if missing > 0 && self.run.pieces.is_empty() {
            return Decision::NeedMore;
        }
        self.run.from_start = known.from_start && self.before.is_none();
        self.run.pieces.push(Piece { way, bytes: bytes.to_vec(), missing, at });
        match self.guess(table, known) {
            Guess::NeedMore => Decision::NeedMore,
            Guess::Unparsed(protocol) => Decision::Unparsed(Some(protocol)),
            Guess::Protocol(protocol, direction) => match protocol.parser {
                None => Decision::Unparsed(Some(protocol)),
                Some(new_parser) => {
                    let before = self.before.take().filter(|before| {
                        let first = before.captured();
                        may_be(protocol, direction.opposite(), &before.sample(known.other_direction(), &first))
                    });
                    let from_start = before.as_ref().map_or(self.run.from_start, |before| before.from_start);
                    let mut pieces = before.map(|before| before.pieces).unwrap_or_default();
                    pieces.append(&mut self.run.pieces);
                    Decision::Parsed { protocol, parser: new_parser(from_start), direction, pieces, from_start }
                }
            },
            Guess::Unknown => {
                self.rejected = Some((way, at.run));
                self.run.pieces.clear();
                self.before = None;
                self.attempts += 1;
                if self.attempts == ATTEMPTS { Decision::Unparsed(None) } else { Decision::Rejected }
            }
        }
    }

    /// The guess. Clears `from_start` if the parser must not believe that it sees the connection's first byte.
    fn guess(&mut self, table: &[&'static Spec], known: Known) -> Guess {
        let Known { direction, is_unix, .. } = known;
        let first = self.run.captured();
        let is_all = first.len() >= UNDECIDED_BYTES || self.run.pieces.iter().any(|piece| piece.missing > 0);
        let guess_as = |direction, from_start| {
            let sample = Sample { transport: Transport::Stream, direction, from_start, bytes: &first };
            match detect(table, &sample) {
                Guess::NeedMore if is_all => Guess::Unknown,
                guess => guess,
            }
        };
        // Ends of HTTP/2 say that they begin. Where a server does so before it reads, the kernel does not know it.
        if known.is_new
            && !self.run.from_start
            && self.before.is_none()
            && let begins @ Guess::Protocol(protocol, _) = guess_as(None, true)
            && protocol.capture == Capture::Frames
        {
            self.run.from_start = true;
            return begins;
        }
        let mut guess = guess_as(direction, self.run.from_start);
        if guess == Guess::Unknown && self.run.from_start && is_unix {
            guess = guess_as(direction, false);
            self.run.from_start = false;
        }
        // The role of a connection that was open before the agent started is a guess. Some requests prove it wrong.
        if guess == Guess::Unknown
            && direction.is_some()
            && let other @ Guess::Protocol(protocol, Direction::ToServer) = guess_as(None, self.run.from_start)
            && protocol.proves_roles
        {
            guess = other;
        }
        match &self.before {
            // A complete line that other protocols have as well.
            Some(before) if guess == Guess::NeedMore && before.from_start && first.ends_with(b"\n") => {
                let asked = before.captured();
                let (asked, answered) =
                    (before.sample(known.other_direction(), &asked), self.run.sample(direction, &first));
                match detect_answered(table, &asked, &answered) {
                    Guess::Protocol(protocol, direction) => Guess::Protocol(protocol, direction.opposite()),
                    other => other,
                }
            }
            _ => guess,
        }
    }
}

impl Run {
    /// The bytes before the first hole.
    fn captured(&self) -> Vec<u8> {
        let captured = self.pieces.iter().take_while(|piece| piece.missing == 0);
        captured.flat_map(|piece| piece.bytes.iter().copied()).collect()
    }

    fn sample<'a>(&self, direction: Option<Direction>, bytes: &'a [u8]) -> Sample<'a> {
        Sample { transport: Transport::Stream, direction, from_start: self.from_start, bytes }
    }
}

impl Known {
    /// The direction of the runs before and after.
    fn other_direction(self) -> Option<Direction> {
        self.direction.map(Direction::opposite)
    }
}
