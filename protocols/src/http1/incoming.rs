//! Assembles a head. Nearly all heads come whole in one piece and are not copied.

use std::borrow::Cow;

use super::head;
use super::lines::Lines;
use crate::Direction;
use crate::kit::looks::Looks;
use crate::spec::ENOUGH;

pub(super) const NO_REQUEST_LINE: &str = "not a request line";
pub(super) const NO_STATUS_LINE: &str = "not a status line";
const TOO_LONG: &str = "head too long";

#[derive(Debug)]
pub(super) struct Incoming {
    direction: Direction,
    /// The beginning of a head that has not ended.
    bytes: Vec<u8>,
    lines: Lines,
    /// The first line is complete and valid.
    line_checked: bool,
}

/// A head with its empty line, and how many of the next bytes belong to it.
pub(super) type Whole<'a> = (Cow<'a, [u8]>, usize);

impl Incoming {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, bytes: Vec::new(), lines: Lines::default(), line_checked: false }
    }

    /// Whether no head has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.restart();
    }

    /// Takes the beginning of the head out.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.restart();
        std::mem::take(&mut self.bytes)
    }

    /// Starts to look for lines from the beginning.
    fn restart(&mut self) {
        self.lines.clear();
        self.line_checked = false;
    }

    /// Adds the next bytes. Returns the head once it is complete, or why the bytes are no head.
    #[inline]
    pub(super) fn bytes<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Whole<'a>>, &'static str> {
        if !self.is_empty() {
            return self.more_bytes(bytes);
        }
        self.restart();
        match self.lines.find_end(bytes) {
            length if length.unwrap_or(bytes.len()) > head::MAX_LENGTH || self.lines.are_too_many() => Err(TOO_LONG),
            Some(length) => Ok(Some((Cow::Borrowed(&bytes[..length]), length))),
            None => {
                self.bytes.extend_from_slice(bytes);
                self.check().map(|()| None)
            }
        }
    }

    fn more_bytes<'a>(&mut self, bytes: &[u8]) -> Result<Option<Whole<'a>>, &'static str> {
        let before = self.bytes.len();
        // One byte more than allowed proves that it is too long.
        let room = head::MAX_LENGTH + 1 - before;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match self.lines.find_end(&self.bytes) {
            Some(length) if length <= head::MAX_LENGTH => {
                self.bytes.truncate(length);
                Ok(Some((Cow::Owned(std::mem::take(&mut self.bytes)), length - before)))
            }
            _ if self.bytes.len() > head::MAX_LENGTH => Err(TOO_LONG),
            _ => self.check().map(|()| None),
        }
    }

    /// Checks that the bytes so far can begin a head.
    fn check(&mut self) -> Result<(), &'static str> {
        if self.lines.are_too_many() {
            return Err(TOO_LONG);
        }
        if self.line_checked {
            return Ok(());
        }
        let line = self.lines.first(&self.bytes);
        let (is_right, reason) = match (self.direction, line) {
            (Direction::ToServer, Some(line)) => (head::is_request_line(line), NO_REQUEST_LINE),
            (Direction::ToServer, None) => (head::may_be_request(&self.bytes), NO_REQUEST_LINE),
            (Direction::ToClient, Some(line)) => (head::is_status_line(line), NO_STATUS_LINE),
            (Direction::ToClient, None) => (head::may_be_response(&self.bytes), NO_STATUS_LINE),
        };
        self.line_checked = line.is_some();
        if is_right { Ok(()) } else { Err(reason) }
    }

    /// The lines of the last complete head.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Reuses the buffer of a head.
    pub(super) fn give_back(&mut self, head: Cow<'_, [u8]>) {
        if let Cow::Owned(mut bytes) = head {
            bytes.clear();
            self.bytes = bytes;
        }
    }
}

/// Bytes that may be a head or belong to the message before.
impl Incoming {
    /// Whether the held bytes and `bytes` look like a head. If they may become one, `bytes` are held as well.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> Looks {
        let held = self.bytes.len();
        if held == 0 {
            self.restart();
        }
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(ENOUGH)]);
        let looks = self.looks(&self.bytes);
        if looks != Looks::RightSoFar {
            self.bytes.truncate(held);
        }
        looks
    }

    /// Whether the heads are those of requests.
    pub(super) fn is_of_requests(&self) -> bool {
        self.direction == Direction::ToServer
    }

    pub(super) fn looks(&self, bytes: &[u8]) -> Looks {
        match self.direction {
            Direction::ToServer => head::looks_like_request(bytes),
            Direction::ToClient => head::looks_like_response(bytes),
        }
    }

    /// Begins a head with these bytes.
    pub(super) fn begin_with(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.restart();
    }
}
