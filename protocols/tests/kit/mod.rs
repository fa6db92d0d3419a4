//! What the tests of all parsers share: conversations, and the ways in which they can reach a parser.
//!
//! A [`Talk`] is written once, as it went over the wire. It is then played to a parser whole, byte by byte, cut at random,
//! with a hole anywhere, or as the kernel captures it. Every play checks the accounting: a request that is not reported
//! exactly once, or an exchange that did not begin, fails the test.

#![allow(dead_code, unreachable_pub, reason = "a module of each test binary, which uses its own part of it")]
#![allow(clippy::panic, reason = "a test fails by panicking")]

pub mod accounts;
pub mod http1;
pub mod http2;
pub mod memcached;
pub mod postgres;
pub mod recorded;
pub mod redis;
pub mod script;

use accounts::Accounts;
use onlooker_protocols::facts::Database;
use onlooker_protocols::{Close, Direction, End, Exchange, Finding, LossReason, Moment, Parser, Spec, Unparsable};

/// The time of the first piece. Each later step passes one millisecond after the one before.
pub const FIRST_NANOS: u64 = 1_000_000;
const STEP_NANOS: u64 = 1_000_000;

/// A parser of a protocol that has one.
pub fn parser(protocol: &Spec, from_start: bool) -> Box<dyn Parser> {
    protocol.parser.unwrap_or_else(|| panic!("{protocol:?} has no parser"))(from_start)
}

/// The status code of a command that failed, or a mark where it was not captured.
pub fn reported_error(facts: &Database) -> &str {
    if facts.failed && facts.status.is_empty() { "_OTHER" } else { &facts.status }
}

/// Asserts that an exchange ends as the real one does. If its end was not seen, only the earliest time of it is known.
pub fn assert_same_end(what: &str, reported: &Exchange, real: &Exchange) {
    if reported.end != End::Unseen {
        assert_eq!((reported.response_end, reported.end), (real.response_end, real.end), "{what}: {reported:#?}");
        return;
    }
    let [Some(seen), Some(meant)] = [reported.response_end, real.response_end] else { panic!("{what}: {reported:#?}") };
    assert_eq!((seen.position, real.end), (meant.position, End::Complete), "{what}: {reported:#?}");
    assert!(seen.nanos <= meant.nanos, "{what}: {reported:#?}");
}

/// One conversation on one connection.
#[derive(Debug, Clone)]
pub struct Talk {
    pieces: Vec<Piece>,
    close: Close,
    /// Steps in which nothing passed.
    silent: u64,
}

#[derive(Debug, Clone)]
struct Piece {
    direction: Direction,
    what: What,
    /// The step in which it was recorded. The parts of a cut piece share a step and so a time. Therefore the findings do
    /// not depend on the cuts.
    step: u64,
}

#[derive(Debug, Clone)]
enum What {
    Bytes(Vec<u8>),
    Gap(u64),
    /// Bytes whose record was lost. Only the next piece's position shows them.
    Lost(u64),
    End,
    /// Requests from before this step are given up.
    Age,
}

/// What a parser reported of a talk.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    pub unparsable: Option<Unparsable>,
}

impl Talk {
    pub fn new() -> Self {
        Self { pieces: Vec::new(), close: Close::Normal, silent: 0 }
    }

    pub fn request(self, bytes: impl AsRef<[u8]>) -> Self {
        self.says(Direction::ToServer, bytes)
    }

    pub fn response(self, bytes: impl AsRef<[u8]>) -> Self {
        self.says(Direction::ToClient, bytes)
    }

    pub fn says(self, direction: Direction, bytes: impl AsRef<[u8]>) -> Self {
        self.then(direction, What::Bytes(bytes.as_ref().to_vec()))
    }

    /// A response that was recorded before its request, the step before: one thread read it before the send of another
    /// had returned. It still reaches the parser after the request, in the order of cause.
    pub fn overtaking_response(self, bytes: impl AsRef<[u8]>) -> Self {
        let mut talk = self.response(bytes);
        if let [.., request, response] = &mut talk.pieces[..] {
            std::mem::swap(&mut request.step, &mut response.step);
        }
        talk
    }

    pub fn gap(self, direction: Direction, missing: u64) -> Self {
        self.then(direction, What::Gap(missing))
    }

    /// Bytes of one operation whose record was lost.
    pub fn lost(self, direction: Direction, bytes: impl AsRef<[u8]>) -> Self {
        self.then(direction, What::Lost(bytes.as_ref().len() as u64))
    }

    pub fn end(self, direction: Direction) -> Self {
        self.then(direction, What::End)
    }

    /// Requests from before this step are given up.
    pub fn age(self) -> Self {
        self.then(Direction::ToServer, What::Age)
    }

    /// How the connection ends. The default is [`Close::Normal`].
    pub fn closes(mut self, why: Close) -> Self {
        self.close = why;
        self
    }

    /// Nothing passes for this many milliseconds.
    pub fn pauses(mut self, milliseconds: u64) -> Self {
        self.silent += milliseconds;
        self
    }

    fn then(mut self, direction: Direction, what: What) -> Self {
        let step = self.pieces.len() as u64 + self.silent;
        self.pieces.push(Piece { direction, what, step });
        self
    }

    /// The bytes of each step, in either direction.
    pub fn said(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().filter_map(|piece| match &piece.what {
            What::Bytes(bytes) => Some(&**bytes),
            _ => None,
        })
    }

    /// The bytes of both directions together.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// The same talk, one byte at a time.
    pub fn byte_at_a_time(&self) -> Self {
        self.cut(&(0..self.len()).collect::<Vec<_>>())
    }

    /// The same talk, cut at these offsets. Offsets count the bytes of both directions, and have any order.
    pub fn cut(&self, offsets: &[usize]) -> Self {
        let mut offsets = offsets.to_vec();
        offsets.sort_unstable();
        let mut pieces = Vec::new();
        let mut begin = 0;
        for piece in &self.pieces {
            let end = begin + piece.len();
            let What::Bytes(bytes) = &piece.what else {
                pieces.push(piece.clone());
                continue;
            };
            let mut from = begin;
            for &offset in offsets.iter().filter(|&&o| begin < o && o < end) {
                if offset > from {
                    pieces.push(piece.of(&bytes[from - begin..offset - begin]));
                    from = offset;
                }
            }
            pieces.push(piece.of(&bytes[from - begin..]));
            begin = end;
        }
        Self { pieces, ..*self }
    }

    /// The same talk without the bytes `[offset, offset + missing)`. The hole ends at the latest with its piece.
    pub fn with_gap(&self, offset: usize, missing: usize) -> Self {
        let mut pieces = Vec::new();
        let mut begin = 0;
        for piece in &self.pieces {
            let end = begin + piece.len();
            match &piece.what {
                What::Bytes(bytes) if missing > 0 && begin <= offset && offset < end => {
                    let hole = offset - begin..(offset - begin + missing).min(bytes.len());
                    if hole.start > 0 {
                        pieces.push(piece.of(&bytes[..hole.start]));
                    }
                    pieces.push(Piece { what: What::Gap(hole.len() as u64), ..*piece });
                    if hole.end < bytes.len() {
                        pieces.push(piece.of(&bytes[hole.end..]));
                    }
                }
                _ => pieces.push(piece.clone()),
            }
            begin = end;
        }
        Self { pieces, ..*self }
    }

    /// The talk with one hole, at every offset in turn and of each of these lengths.
    pub fn gap_everywhere<'a>(&'a self, lengths: &'a [usize]) -> impl Iterator<Item = (String, Self)> + 'a {
        (0..self.len()).flat_map(move |offset| {
            lengths
                .iter()
                .map(move |&missing| (format!("{missing} missing at {offset}"), self.with_gap(offset, missing)))
        })
    }

    /// The talk with the record of one step lost, of each step in turn.
    pub fn loss_everywhere(&self) -> impl Iterator<Item = (String, Self)> + '_ {
        self.losses_everywhere(1)
    }

    /// The talk with the records of `count` adjacent steps lost, beginning with each step in turn.
    pub fn losses_everywhere(&self, count: usize) -> impl Iterator<Item = (String, Self)> + '_ {
        (0..(self.pieces.len() + 1).saturating_sub(count)).map(move |first| {
            let mut pieces = self.pieces.clone();
            for piece in &mut pieces[first..first + count] {
                piece.what = What::Lost(piece.len() as u64);
            }
            (format!("steps {first} to {} lost", first + count - 1), Self { pieces, ..*self })
        })
    }

    /// The talk without its first steps, as an agent sees it that starts late, and how many bytes of each direction they
    /// had.
    pub fn without_first(&self, steps: usize) -> (Self, [u64; 2]) {
        let (first, rest) = self.pieces.split_at(steps.min(self.pieces.len()));
        let mut skipped = [0; 2];
        first.iter().for_each(|piece| skipped[piece.direction as usize] += piece.len() as u64);
        (Self { pieces: rest.to_vec(), ..*self }, skipped)
    }

    /// The talk `times` times, each time with other records lost, one in `one_in`. The choice is the same in every run.
    pub fn losses_at_random(&self, one_in: u64, times: u64) -> impl Iterator<Item = (String, Self)> + '_ {
        (1..=times).map(move |seed| {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut lost = Vec::new();
            let mut pieces = self.pieces.clone();
            for (step, piece) in pieces.iter_mut().enumerate() {
                // xorshift64
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random.is_multiple_of(one_in) {
                    piece.what = What::Lost(piece.len() as u64);
                    lost.push(step);
                }
            }
            (format!("steps {lost:?} lost"), Self { pieces, ..*self })
        })
    }

    /// The talk as the kernel captures it: the first `prefix` and the last `tail` bytes of each piece.
    pub fn captured(&self, prefix: usize, tail: usize) -> Self {
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            match &piece.what {
                What::Bytes(bytes) if bytes.len() > prefix + tail => {
                    let rest = bytes.len() - tail;
                    if prefix > 0 {
                        pieces.push(piece.of(&bytes[..prefix]));
                    }
                    pieces.push(Piece { what: What::Gap((rest - prefix) as u64), ..*piece });
                    if tail > 0 {
                        pieces.push(piece.of(&bytes[rest..]));
                    }
                }
                _ => pieces.push(piece.clone()),
            }
        }
        Self { pieces, ..*self }
    }

    /// Plays the talk to a parser, closes the connection, and checks the accounting after every call.
    ///
    /// After a parser has failed or reported a switched protocol, it receives no more bytes, as promised.
    pub fn play(&self, mut parser: Box<dyn Parser>) -> Outcome {
        let mut findings = Vec::new();
        let mut unparsable = None;
        let mut accounts = Accounts::default();
        // For each direction: the position of the next byte, the bytes of lost records, and the piece before.
        let mut positions = [0_u64; 2];
        let mut lost = [0_u64; 2];
        let mut before = [Moment { nanos: FIRST_NANOS, position: 0, run: 0 }; 2];
        for (piece, run) in self.pieces.iter().zip(self.runs()) {
            let way = piece.direction as usize;
            let at = Moment { nanos: FIRST_NANOS + piece.step * STEP_NANOS, position: positions[way], run };
            if let What::Lost(missing) = piece.what {
                lost[way] += missing;
                positions[way] += missing;
                continue;
            }
            let seen = findings.len();
            let mut result = Ok(());
            if lost[way] > 0 {
                let hole = Moment { position: positions[way] - lost[way], ..before[way] };
                result = parser.gap(piece.direction, std::mem::take(&mut lost[way]), hole, &mut findings);
            }
            if result.is_ok() && !findings[seen..].contains(&Finding::SwitchedProtocol) {
                result = match &piece.what {
                    What::Bytes(bytes) => parser.bytes(piece.direction, bytes, at, &mut findings),
                    What::Gap(missing) => parser.gap(piece.direction, *missing, at, &mut findings),
                    What::End | What::Lost(_) => {
                        parser.end(piece.direction, at, &mut findings);
                        Ok(())
                    }
                    What::Age => {
                        parser.give_up_before(at.nanos, at, &mut findings);
                        Ok(())
                    }
                };
            }
            positions[way] += match &piece.what {
                What::Bytes(bytes) => bytes.len() as u64,
                What::Gap(missing) => *missing,
                What::Lost(_) | What::End | What::Age => 0,
            };
            before[way] = at;
            accounts.take(&findings[seen..]);
            accounts.check_open(parser.open());
            unparsable = result.err();
            if unparsable.is_some() || accounts.switched() {
                break;
            }
        }
        let seen = findings.len();
        for direction in [Direction::ToServer, Direction::ToClient] {
            let way = direction as usize;
            if lost[way] > 0 && unparsable.is_none() && !accounts.switched() {
                let hole = Moment { position: positions[way] - lost[way], ..before[way] };
                unparsable = parser.gap(direction, lost[way], hole, &mut findings).err();
            }
        }
        // The end of a connection has no position, and comes last.
        let last = self.pieces.iter().map(|piece| piece.step).max().unwrap_or_default();
        let run = self.runs().into_iter().max().unwrap_or_default();
        let closed_at = Moment { nanos: FIRST_NANOS + (last + 1) * STEP_NANOS, position: 0, run };
        parser.close(self.close, closed_at, &mut findings);
        accounts.take(&findings[seen..]);
        accounts.check_open(parser.open());
        accounts.check_closed();
        Outcome { findings, unparsable }
    }

    /// Plays each piece to a parser as a datagram of which the first `captured` bytes were captured. Lost pieces are not
    /// reported: nothing shows that a datagram is missing.
    pub fn play_datagrams(&self, mut parser: Box<dyn Parser>, captured: usize) -> Outcome {
        let mut outcome = Outcome { findings: Vec::new(), unparsable: None };
        let mut accounts = Accounts::default();
        let mut positions = [0_u64; 2];
        let mut step = 0;
        for piece in &self.pieces {
            step = piece.step;
            let position = &mut positions[piece.direction as usize];
            let at = Moment { nanos: FIRST_NANOS + step * STEP_NANOS, position: *position, run: 0 };
            let seen = outcome.findings.len();
            if let What::Bytes(bytes) = &piece.what {
                let (first, rest) = bytes.split_at(bytes.len().min(captured));
                let result = parser.datagram(piece.direction, first, rest.len() as u64, at, &mut outcome.findings);
                outcome.unparsable = outcome.unparsable.or(result.err());
                *position += bytes.len() as u64;
            } else if let What::Age = piece.what {
                parser.give_up_before(at.nanos, at, &mut outcome.findings);
            }
            accounts.take(&outcome.findings[seen..]);
            accounts.check_open(parser.open());
        }
        let seen = outcome.findings.len();
        let closed_at = Moment { nanos: FIRST_NANOS + (step + 1) * STEP_NANOS, position: 0, run: 0 };
        parser.close(self.close, closed_at, &mut outcome.findings);
        accounts.take(&outcome.findings[seen..]);
        accounts.check_closed();
        outcome
    }

    /// The run of each piece. The conversation turns in the order of recording.
    fn runs(&self) -> Vec<u32> {
        let mut recorded: Vec<_> = self.pieces.iter().enumerate().collect();
        recorded.sort_by_key(|(_, piece)| piece.step);
        let mut runs = vec![0; self.pieces.len()];
        let (mut run, mut turned_to) = (0, None);
        for (index, piece) in recorded {
            let turns = turned_to.is_some_and(|direction| direction != piece.direction);
            if matches!(piece.what, What::Age) {
                runs[index] = run;
                continue;
            }
            run += u32::from(turns && !matches!(piece.what, What::End));
            turned_to = Some(piece.direction);
            runs[index] = run;
        }
        runs
    }
}

impl Piece {
    fn len(&self) -> usize {
        match &self.what {
            What::Bytes(bytes) => bytes.len(),
            What::Gap(_) | What::Lost(_) | What::End | What::Age => 0,
        }
    }

    fn of(&self, bytes: &[u8]) -> Self {
        Self { what: What::Bytes(bytes.to_vec()), ..*self }
    }
}

impl Outcome {
    pub fn exchanges(&self) -> Vec<&Exchange> {
        self.findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::Exchange(exchange) => Some(&**exchange),
                _ => None,
            })
            .collect()
    }

    pub fn begun(&self) -> usize {
        self.findings.iter().filter(|finding| matches!(finding, Finding::Begun(_))).count()
    }

    pub fn orphans(&self) -> usize {
        self.findings.iter().filter(|finding| matches!(finding, Finding::Orphan(_))).count()
    }

    /// Why requests were lost, in the order in which it was reported.
    pub fn lost(&self) -> Vec<LossReason> {
        self.findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::Lost(lost) => Some(lost.reason),
                _ => None,
            })
            .collect()
    }

    pub fn switched(&self) -> bool {
        self.findings.contains(&Finding::SwitchedProtocol)
    }
}
