//! Follows the requests and responses of one connection, and decides what each hole in the responses is.

use super::holes::{Hole, Released, ResponseHoles};
use super::pieces::Content;
use crate::exchange::Finding;
use crate::moment::{Close, Direction, Moment};
use crate::parser::{Parser, Unparsable};

/// A protocol in which one end asks and the other answers. [`Follower`] makes a [`Parser`] of it.
///
/// An error ends it: from then on only `close`, `give_up_before` and `open` are called, with `is_broken`.
pub trait TwoWay: Send + std::fmt::Debug + Sized {
    /// `from_start`: the first bytes that come are the first of the connection.
    fn new(from_start: bool) -> Self;

    /// The next piece from the client. It is not empty.
    fn request(&mut self, content: Content<'_>, at: Moment, found: &mut Vec<Finding>) -> Result<(), &'static str>;

    /// The next piece from the server. It is not empty. `hole` says what hides the bytes if they are missing.
    fn response(
        &mut self,
        content: Content<'_>,
        at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str>;

    /// The server sends no more, and ended its direction in order.
    fn end_responses(&mut self, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        self.close(Close::Normal, at, is_broken, found);
    }

    /// See [`Parser::close`].
    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>);

    /// See [`Parser::give_up_before`].
    fn give_up_before(&mut self, oldest: u64, at: Moment, is_broken: bool, found: &mut Vec<Finding>);

    /// See [`Parser::pass_time`].
    fn pass_time(&mut self, _now: u64, _found: &mut Vec<Finding>) {}

    /// See [`Parser::begins_frame`].
    fn begins_frame(&self, _direction: Direction) -> bool {
        false
    }

    /// See [`Parser::open`].
    fn open(&self) -> usize;
}

/// The parser of one connection of a [`TwoWay`] protocol.
#[derive(Debug)]
pub struct Follower<P> {
    protocol: P,
    holes: ResponseHoles,
    /// Why the connection cannot be parsed any further.
    broken: Option<Unparsable>,
}

impl<P: TwoWay> Follower<P> {
    /// `from_start`: the first bytes that come are the first of the connection. Otherwise they may be the middle of a message.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        Self { protocol: P::new(from_start), holes: ResponseHoles::default(), broken: None }
    }

    #[inline]
    fn content(
        &mut self,
        direction: Direction,
        content: Content<'_>,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        if content.len() == 0 {
            return self.step(|_| Ok(()));
        }
        match (direction, content) {
            (Direction::ToServer, Content::Bytes(_)) => {
                if self.holes.is_holding() {
                    let released = self.holes.request();
                    self.release(released, found)?;
                }
                self.step(|protocol| protocol.request(content, at, found))
            }
            (Direction::ToServer, Content::Hole(_)) => self.step(|protocol| protocol.request(content, at, found)),
            (Direction::ToClient, _) => {
                if self.holes.is_holding() {
                    let released = self.holes.response(at);
                    self.release(released, found)?;
                }
                let is_ambiguous = matches!(content, Content::Hole(_)) && self.holes.is_ambiguous(at);
                self.holes.note(at);
                match content {
                    Content::Hole(missing) if is_ambiguous => {
                        self.holes.hold(missing, at);
                        Ok(())
                    }
                    _ => self.step(|protocol| protocol.response(content, at, Hole::Skipped, found)),
                }
            }
        }
    }

    /// Processes a hole in the responses that was held back.
    #[cold]
    fn release(&mut self, released: Option<Released>, found: &mut Vec<Finding>) -> Result<(), Unparsable> {
        let Some((missing, at, hole)) = released else { return Ok(()) };
        self.step(|protocol| protocol.response(Content::Hole(missing), at, hole, found))
    }

    /// No more responses come, so a hole that is held back is processed as it is.
    fn release_last(&mut self, found: &mut Vec<Finding>) {
        let released = self.holes.end();
        // If it cannot be followed, `broken` says so from now on.
        let _ = self.release(released, found);
    }

    #[inline]
    fn step(&mut self, step: impl FnOnce(&mut P) -> Result<(), &'static str>) -> Result<(), Unparsable> {
        if let Some(unparsable) = self.broken {
            return Err(unparsable);
        }
        step(&mut self.protocol).map_err(|reason| *self.broken.insert(Unparsable { reason }))
    }
}

impl<P: TwoWay> Parser for Follower<P> {
    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        self.content(direction, Content::Bytes(bytes), at, found)
    }

    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        self.content(direction, Content::Hole(missing), at, found)
    }

    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>) {
        // A client may stop sending and still read responses.
        if direction == Direction::ToClient {
            self.release_last(found);
            self.protocol.end_responses(at, self.broken.is_some(), found);
        }
    }

    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.release_last(found);
        self.protocol.close(why, at, self.broken.is_some(), found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        self.protocol.give_up_before(oldest, at, self.broken.is_some(), found);
    }

    /// What a lost record hides is reported together with the piece behind it. So a hole that nothing has followed is the end
    /// of its operation.
    fn pass_time(&mut self, now: u64, found: &mut Vec<Finding>) {
        if self.holes.is_holding() {
            let released = self.holes.request();
            // The next call fails as this one does.
            let _ = self.release(released, found);
        }
        if self.broken.is_none() {
            self.protocol.pass_time(now, found);
        }
    }

    fn begins_frame(&self, direction: Direction) -> bool {
        self.broken.is_none() && self.protocol.begins_frame(direction)
    }

    fn open(&self) -> usize {
        self.protocol.open()
    }
}
