//! Cuts one direction into lines and binary headers, and steps over data.
//!
//! ```text
//!            ┌───────────── data(length, ends) ────────────┐
//!            │                                              ▼
//!   Line / Header ── Step::Head ──► the caller judges it   Data ── Step::Data ──► Line / Header
//!            ▲                                │
//!            └────────── end(), more() ───────┘
//! ```
//!
//! A connection speaks text or binary from its first byte on. Data is stepped over by its length, through holes too. A
//! hole anywhere else hides where the next message begins.

use super::binary::{HEADER_BYTES, Header};
use crate::kit::pieces::Content;
use crate::moment::Moment;

/// Bytes of a line that are kept. A storage command is shorter: its key has at most 250 bytes. Only the keys of a `get`
/// may take more.
pub(super) const KEPT_BYTES: usize = 512;
/// Longest line: `get` with thousands of keys.
const LONGEST_LINE: usize = 1 << 20;
const CR_LF: &[u8; 2] = b"\r\n";

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Text,
    Binary,
}

impl Encoding {
    /// The encoding of a message with this first byte.
    pub(super) fn of(first: u8) -> Self {
        if matches!(first, super::binary::REQUEST | super::binary::RESPONSE) { Self::Binary } else { Self::Text }
    }
}

/// The part of a message that says what it is.
#[derive(Debug)]
pub(super) enum Head<'f> {
    Line(Line<'f>),
    /// With the key, if all of it was captured.
    Binary(Header, Option<&'f [u8]>),
}

/// A line without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'f> {
    /// At most [`KEPT_BYTES`].
    pub(super) text: &'f [u8],
    /// How many words the whole line has.
    pub(super) words: u32,
}

/// What a step has done. The first field is the number of bytes that it took.
#[derive(Debug)]
pub(super) enum Step<'f> {
    /// Nothing is complete yet.
    More(u64),
    /// A head is complete. The caller says what follows it: [`Frames::data`], [`Frames::more`] or [`Frames::end`].
    Head(u64, Head<'f>),
    /// Data is complete. `ends`: and its message with it.
    Data(u64, bool),
    /// A hole hides where the next message begins.
    Lost,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    /// The beginning of a line or header that came in parts.
    kept: Vec<u8>,
    /// The first byte of the message on its way, while one is.
    start: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Line {
        passed: usize,
        words: u32,
        in_word: bool,
    },
    /// A binary header, its extras and its key: so many bytes in all, as far as is known.
    Header {
        wanted: usize,
        has_hole: bool,
    },
    /// `left` includes the line end of text.
    Data {
        left: u64,
        encoding: Encoding,
        ends: bool,
    },
}

const NEXT: State = State::Line { passed: 0, words: 0, in_word: false };

impl Default for Frames {
    fn default() -> Self {
        Self { state: NEXT, kept: Vec::new(), start: None }
    }
}

impl Frames {
    /// The next byte begins a message.
    pub(super) fn restart(&mut self) {
        self.end();
        self.kept.clear();
    }

    /// The first byte of the message on its way.
    pub(super) fn begun(&self) -> Option<Moment> {
        self.start
    }

    /// The message is over.
    pub(super) fn end(&mut self) {
        self.state = NEXT;
        self.start = None;
    }

    /// Another head of the same message follows.
    pub(super) fn more(&mut self) {
        self.state = NEXT;
    }

    /// `length` bytes of data follow. `ends`: and end the message.
    pub(super) fn data(&mut self, encoding: Encoding, length: u64, ends: bool) {
        let line_end = if encoding == Encoding::Text { CR_LF.len() as u64 } else { 0 };
        self.state = State::Data { left: length + line_end, encoding, ends };
    }

    /// Takes as much of `content`, which is not empty, as belongs together. Fails with the reason if it is no memcached.
    pub(super) fn step<'f>(&'f mut self, content: Content<'f>, at: Moment) -> Result<Step<'f>, &'static str> {
        if let (State::Line { passed: 0, .. }, None, Content::Bytes(&[first, ..])) = (self.state, self.start, content) {
            self.start = Some(at);
            self.choose(first);
        } else if let (State::Line { passed: 0, .. }, Content::Bytes(&[first, ..])) = (self.state, content) {
            self.choose(first);
        }
        match (self.state, content) {
            (State::Line { passed, words, in_word }, Content::Bytes(bytes)) => self.line(passed, words, in_word, bytes),
            (State::Header { wanted, has_hole }, Content::Bytes(bytes)) => self.header(wanted, has_hole, bytes),
            (State::Header { wanted, .. }, Content::Hole(missing)) => Ok(self.skip_key(wanted, missing)),
            (State::Line { .. }, Content::Hole(_)) => Ok(Step::Lost),
            (State::Data { left, encoding, ends }, _) => self.pass_data(left, encoding, ends, content),
        }
    }

    fn choose(&mut self, first: u8) {
        self.kept.clear();
        if Encoding::of(first) == Encoding::Binary {
            self.state = State::Header { wanted: HEADER_BYTES, has_hole: false };
        }
    }

    fn line<'f>(
        &'f mut self,
        passed: usize,
        mut words: u32,
        mut in_word: bool,
        bytes: &'f [u8],
    ) -> Result<Step<'f>, &'static str> {
        let end = memchr::memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        for &byte in &bytes[..used] {
            let is_blank = matches!(byte, b' ' | b'\r' | b'\n');
            words += u32::from(!is_blank && !in_word);
            in_word = !is_blank;
        }
        let total = passed.saturating_add(used);
        if total > LONGEST_LINE {
            return Err("a line without end");
        }
        if end.is_none() || passed > 0 {
            let room = KEPT_BYTES.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&bytes[..used.min(room)]);
        }
        if end.is_none() {
            self.state = State::Line { passed: total, words, in_word };
            return Ok(Step::More(used as u64));
        }
        self.state = NEXT;
        let text = if passed > 0 { &self.kept[..] } else { &bytes[..used.min(KEPT_BYTES)] };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Step::Head(used as u64, Head::Line(Line { text, words })))
    }

    fn header<'f>(&'f mut self, wanted: usize, has_hole: bool, bytes: &'f [u8]) -> Result<Step<'f>, &'static str> {
        let used = bytes.len().min(wanted - self.kept.len());
        self.kept.extend_from_slice(&bytes[..used]);
        if self.kept.len() < wanted {
            return Ok(Step::More(used as u64));
        }
        let header = Header::of(&self.kept).ok_or("a binary header with impossible lengths")?;
        if self.kept.len() < header.head_bytes() {
            self.state = State::Header { wanted: header.head_bytes(), has_hole };
            return Ok(Step::More(used as u64));
        }
        let key = &self.kept[header.head_bytes() - usize::from(header.key_bytes)..];
        Ok(Step::Head(used as u64, Head::Binary(header, (!has_hole).then_some(key))))
    }

    /// A hole in a header hides where the next message begins. In the extras or the key it hides only those.
    fn skip_key(&mut self, wanted: usize, missing: u64) -> Step<'_> {
        let Some(header) = Header::of(&self.kept) else { return Step::Lost };
        let used = missing.min((wanted - self.kept.len()) as u64);
        self.kept.resize(self.kept.len() + used as usize, 0);
        if self.kept.len() < wanted {
            self.state = State::Header { wanted, has_hole: true };
            return Step::More(used);
        }
        Step::Head(used, Head::Binary(header, None))
    }

    fn pass_data(
        &mut self,
        left: u64,
        encoding: Encoding,
        ends: bool,
        content: Content<'_>,
    ) -> Result<Step<'_>, &'static str> {
        let used = content.len().min(left);
        if let (Encoding::Text, Content::Bytes(bytes)) = (encoding, content) {
            // How many of these bytes are before the line end.
            let before = left.saturating_sub(CR_LF.len() as u64).min(used) as usize;
            let line_end = &bytes[before..used as usize];
            let seen = CR_LF.len().saturating_sub(left.min(CR_LF.len() as u64) as usize);
            if !CR_LF[seen..].starts_with(line_end) {
                return Err("data longer than its length");
            }
        }
        if used < left {
            self.state = State::Data { left: left - used, encoding, ends };
            return Ok(Step::More(used));
        }
        if ends {
            self.end();
        } else {
            self.more();
        }
        Ok(Step::Data(used, ends))
    }
}
