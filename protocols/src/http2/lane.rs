//! One direction: cuts it into frames, and knows whether the boundaries of frames are known.
//!
//! ```text
//!            a hole hides a boundary
//!   Locked ──────────────────────────► Lost
//!      ▲                               │  ▲
//!      │ the next header               │  │ the next header is none,
//!      │ is valid too       an operation  │ or a hole hides it
//!      │                 begins with a │  │
//!      │                  valid header ▼  │
//!      └──────────────────────────── Tentative
//! ```
//!
//! Holes within a payload lose nothing, because the header says how long the payload is.

use std::borrow::Cow;

use super::frame::{FrameHeader, HEADER_LENGTH, INITIAL_MAX_LENGTH, Kind, LARGEST_MAX_LENGTH, flag};
use crate::kit::pieces::{Content, Piece};
use crate::moment::{Direction, Moment};

/// RFC 9113 3.4
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A longer payload is stepped over, except for DATA. No program sends header blocks as long.
pub(super) const MAX_PAYLOAD: u32 = 64 * 1024;

/// Whether the boundaries of frames are known, see the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Locked,
    Tentative,
    Lost,
}

/// What has passed.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Nothing that matters.
    Nothing,
    /// A header. The frame's payload follows it.
    Header(FrameHeader),
    /// A whole frame that is not DATA.
    Frame(Frame<'a>),
    /// Part of a DATA frame. An empty frame has one empty part.
    Data(Data<'a>),
    /// A frame of which a hole hides some.
    Holed { header: FrameHeader, start: Moment, end: Moment },
    /// A boundary is unknown from here on.
    Lost,
}

#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) header: FrameHeader,
    pub(super) payload: Cow<'a, [u8]>,
    /// The first byte of its header, and just past its last byte.
    pub(super) start: Moment,
    pub(super) end: Moment,
}

#[derive(Debug)]
pub(super) struct Data<'a> {
    pub(super) header: FrameHeader,
    /// Without padding. Empty if only padding passed.
    pub(super) content: Content<'a>,
    /// It is unknown how much of the content is padding.
    pub(super) may_be_padding: bool,
    /// The frame is over.
    pub(super) is_last: bool,
    /// Just past what passed.
    pub(super) end: Moment,
}

#[derive(Debug)]
pub(super) struct Lane {
    direction: Direction,
    state: State,
    pub(super) sync: Sync,
    /// In `Tentative`: a valid header has passed.
    has_header: bool,
    /// The longest payload that the receiver allows, if it is known.
    max_length: Option<u32>,
    /// A header or payload that comes in parts.
    buffer: Vec<u8>,
    /// The padding at the end of the DATA frame on its way. `None` if a hole hides how long it is.
    padding: Option<u32>,
    /// First byte of the frame on its way.
    start: Moment,
    /// When the latest piece passed.
    newest: Option<u64>,
    is_first_frame: bool,
    /// A header block goes on in the next frame of this stream.
    continues: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// So many bytes of the client's preface have passed.
    Preface(usize),
    Header,
    Payload {
        header: FrameHeader,
        passed: u32,
        is_holed: bool,
    },
}

impl Lane {
    /// `from_start`: the first bytes are the connection's, or those behind its upgrade.
    pub(super) fn new(direction: Direction, from_start: bool) -> Self {
        let state = if from_start && direction == Direction::ToServer { State::Preface(0) } else { State::Header };
        Self {
            direction,
            state,
            sync: if from_start { Sync::Locked } else { Sync::Lost },
            has_header: false,
            max_length: from_start.then_some(INITIAL_MAX_LENGTH),
            buffer: Vec::new(),
            padding: None,
            start: Moment::default(),
            newest: None,
            is_first_frame: from_start,
            continues: None,
        }
    }

    /// A piece comes. Returns whether it can be read: a lane that is lost waits for the beginning of an operation.
    pub(super) fn enter(&mut self, content: Content<'_>, at: Moment) -> bool {
        let begins_operation = self.newest.replace(at.nanos) != Some(at.nanos);
        if self.sync != Sync::Lost {
            return true;
        }
        let Content::Bytes(bytes) = content else { return false };
        if begins_operation {
            self.restart();
            // A late observer may see the beginning after all, for example behind a PROXY header.
            if self.direction == Direction::ToServer && bytes.starts_with(&PREFACE[..bytes.len().min(PREFACE.len())]) {
                self.state = State::Preface(0);
            }
            self.sync = Sync::Tentative;
        }
        begins_operation
    }

    /// Whether a frame, or the preface before the first, begins with the next byte.
    pub(super) fn begins_frame(&self) -> bool {
        let is_between = matches!(self.state, State::Header | State::Preface(0)) && self.buffer.is_empty();
        is_between && self.sync == Sync::Locked
    }

    /// The boundaries are unknown.
    pub(super) fn lose(&mut self) {
        self.restart();
        self.sync = Sync::Lost;
    }

    fn restart(&mut self) {
        self.state = State::Header;
        self.buffer.clear();
        self.is_first_frame = false;
        self.has_header = false;
        self.continues = None;
    }

    /// The receiver allows payloads of this length. Shorter ones than before are allowed later than this is known.
    pub(super) fn allow(&mut self, length: u32) {
        self.max_length = self.max_length.max(Some(length));
    }

    /// A header of a tentative lane. The second valid one proves the boundaries. Returns false if this one is none.
    pub(super) fn judge(&mut self, header: &FrameHeader, is_expected: bool) -> bool {
        if !is_expected || !header.is_usual(self.max_length.unwrap_or(INITIAL_MAX_LENGTH)) {
            return false;
        }
        if std::mem::replace(&mut self.has_header, true) {
            self.sync = Sync::Locked;
        }
        true
    }

    /// Consumes some of the piece, which is not used up. Fails if the bytes are not HTTP/2.
    pub(super) fn step<'p>(&mut self, piece: &mut Piece<'p>) -> Result<Step<'p>, &'static str> {
        match self.state {
            State::Preface(passed) => self.preface(passed, piece),
            State::Header => self.header(piece),
            State::Payload { header, passed, .. } if header.kind == Kind::Data => self.data(header, passed, piece),
            State::Payload { header, passed, is_holed } => Ok(self.payload(header, passed, is_holed, piece)),
        }
    }

    fn preface<'p>(&mut self, passed: usize, piece: &mut Piece<'p>) -> Result<Step<'p>, &'static str> {
        let expected = &PREFACE[passed..];
        let part = piece.content().first(expected.len() as u64);
        match part {
            Content::Bytes(bytes) if !expected.starts_with(bytes) => return Err("the client's preface is missing"),
            Content::Hole(_) if self.sync != Sync::Locked => return Ok(Step::Lost),
            Content::Bytes(_) | Content::Hole(_) => {}
        }
        piece.advance(part.len());
        self.state = match passed + part.len() as usize {
            passed if passed == PREFACE.len() => State::Header,
            passed => State::Preface(passed),
        };
        if let (State::Header, Sync::Tentative) = (self.state, self.sync) {
            (self.sync, self.is_first_frame) = (Sync::Locked, true);
        }
        Ok(Step::Nothing)
    }

    fn header<'p>(&mut self, piece: &mut Piece<'p>) -> Result<Step<'p>, &'static str> {
        let Content::Bytes(bytes) = piece.content() else { return Ok(Step::Lost) };
        if self.buffer.is_empty() {
            self.start = piece.at();
        }
        let header = match bytes.first_chunk::<HEADER_LENGTH>() {
            Some(whole) if self.buffer.is_empty() => {
                piece.advance(HEADER_LENGTH as u64);
                FrameHeader::parse(whole)
            }
            _ => {
                let part = piece.content().first((HEADER_LENGTH - self.buffer.len()) as u64);
                if let Content::Bytes(part) = part {
                    self.buffer.extend_from_slice(part);
                }
                piece.advance(part.len());
                let Some(whole) = self.buffer.first_chunk::<HEADER_LENGTH>() else { return Ok(Step::Nothing) };
                let header = FrameHeader::parse(whole);
                self.buffer.clear();
                header
            }
        };
        self.accept(&header)?;
        self.state = State::Payload { header, passed: 0, is_holed: false };
        Ok(Step::Header(header))
    }

    /// RFC 9113 4.3, 6.10: nothing comes between the frames of a header block.
    fn accept(&mut self, header: &FrameHeader) -> Result<(), &'static str> {
        header.check(self.max_length.unwrap_or(LARGEST_MAX_LENGTH))?;
        if std::mem::take(&mut self.is_first_frame) && header.kind != Kind::Settings {
            return Err("the first frame is not SETTINGS");
        }
        let continues = self.continues.take();
        if (header.kind == Kind::Continuation).then_some(header.stream) != continues {
            return Err("a header block is interrupted");
        }
        let is_block = matches!(header.kind, Kind::Headers | Kind::PushPromise | Kind::Continuation);
        self.continues = (is_block && !header.has(flag::END_HEADERS)).then_some(header.stream);
        Ok(())
    }

    /// Whether the header that passed last is of a frame without a payload, which is over.
    pub(super) fn has_empty_frame(&self) -> bool {
        matches!(self.state, State::Payload { header, .. } if header.length == 0)
    }

    /// RFC 9113 6.1: if the frame is padded, the first byte of its payload says how long the padding at its end is.
    fn data<'p>(&mut self, header: FrameHeader, passed: u32, piece: &mut Piece<'p>) -> Result<Step<'p>, &'static str> {
        let is_length = passed == 0 && header.has(flag::PADDED);
        if passed == 0 {
            self.padding = (!is_length).then_some(0);
        }
        let left = match self.padding {
            _ if is_length => header.length.min(1),
            Some(padding) if passed < header.length - padding => header.length - padding - passed,
            _ => header.length - passed,
        };
        let is_padding = self.padding.is_some_and(|padding| padding > 0 && passed >= header.length - padding);
        let part = piece.content().first(left.into());
        let end = piece.advance(part.len());
        if is_length {
            self.padding = match part {
                Content::Bytes(&[padding]) if u32::from(padding) < header.length => Some(padding.into()),
                Content::Bytes(_) => return Err("the padding of a frame is longer than the frame"),
                Content::Hole(_) => None,
            };
        }
        let passed = passed + part.len() as u32;
        let is_last = passed == header.length;
        self.state = if is_last { State::Header } else { State::Payload { header, passed, is_holed: false } };
        let content = if is_length || is_padding { Content::Bytes(&[]) } else { part };
        Ok(Step::Data(Data { header, content, may_be_padding: self.padding.is_none(), is_last, end }))
    }

    fn payload<'p>(&mut self, header: FrameHeader, passed: u32, is_holed: bool, piece: &mut Piece<'p>) -> Step<'p> {
        let left = header.length - passed;
        let content = piece.content().first(left.into());
        let end = piece.advance(content.len());
        let is_over = content.len() == u64::from(left);
        let is_holed = is_holed || matches!(content, Content::Hole(1..));
        self.state = if is_over {
            State::Header
        } else {
            State::Payload { header, passed: passed + content.len() as u32, is_holed }
        };
        if !header.is_read() {
            return Step::Nothing;
        }
        let start = self.start;
        if is_holed || header.length > MAX_PAYLOAD {
            self.buffer.clear();
            return if is_over { Step::Holed { header, start, end } } else { Step::Nothing };
        }
        let Content::Bytes(bytes) = content else { return Step::Nothing };
        if is_over && self.buffer.is_empty() {
            return Step::Frame(Frame { header, payload: Cow::Borrowed(bytes), start, end });
        }
        self.buffer.extend_from_slice(bytes);
        if !is_over {
            return Step::Nothing;
        }
        Step::Frame(Frame { header, payload: Cow::Owned(std::mem::take(&mut self.buffer)), start, end })
    }

    /// Takes the memory of a payload back.
    pub(super) fn give_back(&mut self, payload: Cow<'_, [u8]>) {
        if let Cow::Owned(mut buffer) = payload
            && self.buffer.capacity() == 0
        {
            buffer.clear();
            self.buffer = buffer;
        }
    }
}
