//! RESP2 and RESP3, the protocol of Redis, Valkey and KeyDB.
//!
//! [`frame`] cuts each direction into values; [`command`] says what a request is; [`session`] matches replies with
//! requests in order, and knows the ways in which Redis does not answer one with one.

mod command;
mod frame;
mod session;

use compact_str::CompactString;

use crate::exchange::Finding;
use crate::parser::{Close, Direction, Moment, Parser, Protocol, Unparsable};
use command::Requests;
use frame::{Frames, Step};
use session::Session;

/// What a span needs of one Redis command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Command {
    /// Upper-case, container commands with their subcommand: `GET`, `CONFIG SET`.
    pub operation: CompactString,
    /// The command with every argument replaced by `?`.
    pub text: CompactString,
    /// The database number SELECTed on this connection, where that was seen.
    pub database: Option<u32>,
    /// First word of an error reply, e.g. `WRONGTYPE`.
    pub error_code: CompactString,
}

/// One connection to a Redis server.
#[derive(Debug)]
pub struct Redis {
    requests: Lane<Requests>,
    replies: Lane<session::Replies>,
    session: Session,
}

/// One direction: its framing, and what its values are made into.
#[derive(Debug)]
struct Lane<T> {
    frames: Frames,
    /// The run in which the framing was lost, if it is: the next one begins with a value again.
    lost_in: Option<u32>,
    what: T,
}

impl<T: Default> Lane<T> {
    fn new(lost_in: Option<u32>) -> Self {
        Self { frames: Frames::default(), lost_in, what: T::default() }
    }
}

impl Redis {
    /// `from_start`: nothing passed on the connection before what this parser is fed.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        Self { requests: Lane::new(None), replies: Lane::new(None), session: Session::new(from_start) }
    }

    fn request(&mut self, bytes: &[u8], at: Moment, found: &mut Vec<Finding>) -> Result<(), Unparsable> {
        let lane = &mut self.requests;
        if lane.is_lost(at) {
            return Ok(());
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let at = at.advanced(taken as u64);
            match lane.frames.step(&bytes[taken..], frame::Kinds::Request)? {
                Step::More(used) => taken += used,
                Step::Token(used, token) => {
                    taken += used;
                    let end = at.advanced(used as u64);
                    if let Some(request) = lane.what.token(&token, at, end) {
                        self.session.asked(request, found);
                    }
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, bytes: &[u8], at: Moment, found: &mut Vec<Finding>) -> Result<(), Unparsable> {
        let lane = &mut self.replies;
        let was_lost = lane.lost_in;
        if lane.is_lost(at) {
            return Ok(());
        }
        if was_lost.is_some() {
            self.session.lost_replies_before(at.run, found);
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let at = at.advanced(taken as u64);
            match lane.frames.step(&bytes[taken..], frame::Kinds::Reply)? {
                Step::More(used) => {
                    lane.what.begin(at);
                    taken += used;
                }
                Step::Token(used, token) => {
                    taken += used;
                    let end = at.advanced(used as u64);
                    if let Some(reply) = lane.what.token(&token, at, end) {
                        self.session.answered(reply, found);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<T: Default> Lane<T> {
    /// Whether the framing is lost still: it is found again where a later run begins.
    fn is_lost(&mut self, at: Moment) -> bool {
        match self.lost_in {
            Some(run) if run == at.run => true,
            Some(_) => {
                self.lost_in = None;
                self.frames = Frames::default();
                self.what = T::default();
                false
            }
            None => false,
        }
    }

    /// Whether a hole was stepped over.
    fn gap(&mut self, missing: u64, at: Moment) -> bool {
        if self.lost_in.is_some() || self.frames.skip(missing) {
            return true;
        }
        self.lost_in = Some(at.run);
        false
    }
}

impl Parser for Redis {
    fn protocol(&self) -> Protocol {
        Protocol::Redis
    }

    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        match direction {
            Direction::Request => self.request(bytes, at, found),
            Direction::Response => self.reply(bytes, at, found),
        }
    }

    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        match direction {
            // Requests that the hole took whole were never begun; one that it cut is not told of either.
            Direction::Request => {
                if !self.requests.gap(missing, at) {
                    self.session.lost_requests();
                }
            }
            Direction::Response => {
                self.replies.gap(missing, at);
            }
        }
        // A value may have ended with the hole's last byte: the next byte says so.
        let _ = found;
        Ok(())
    }

    fn end(&mut self, _direction: Direction, _at: Moment, _found: &mut Vec<Finding>) {
        // A value has its own end: a FIN only says that no other will come, which `close` tells.
    }

    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.session.close(why, at, self.replies.lost_in.is_some(), found);
    }

    fn open(&self) -> usize {
        self.session.open()
    }
}
