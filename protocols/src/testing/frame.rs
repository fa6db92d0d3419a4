//! Cuts one direction into messages.

use compact_str::CompactString;

use crate::kit::pieces::BytePiece;
use crate::moment::Moment;

pub(super) const MAGIC: u8 = b'~';
const HEADER_LENGTH: usize = 4;
const KEPT_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// A message, as far as it has passed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) id: u8,
    /// Length of its payload.
    pub(super) length: u8,
    /// The beginning of the payload, as far as it was captured without a hole.
    pub(super) payload: CompactString,
    pub(super) start: Moment,
    /// Just past the last byte that has passed.
    pub(super) end: Moment,
}

/// More of a message has passed.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) message: Message,
    /// Its header is complete only now.
    pub(super) is_new: bool,
    pub(super) is_over: bool,
}

#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    /// Run of the newest piece.
    run: u32,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: Vec<u8>,
        start: Moment,
    },
    Payload {
        message: Message,
        left: u64,
        /// Part of the payload was not captured: what follows it is not kept.
        has_hole: bool,
    },
    /// A hole swallowed a header. The next run begins with one.
    Lost,
}

/// The bytes are no message.
#[derive(Debug)]
pub(super) struct NoMessage;

impl Default for Framer {
    fn default() -> Self {
        Self { state: State::HEADER, run: 0 }
    }
}

impl State {
    const HEADER: Self = Self::Header { bytes: Vec::new(), start: Moment { nanos: 0, position: 0, run: 0 } };
}

impl Message {
    fn of_header(header: &[u8], start: Moment, end: Moment) -> Option<Self> {
        let [MAGIC, kind @ (b'?' | b'!'), id, length] = *header else { return None };
        let kind = if kind == b'?' { Kind::Request } else { Kind::Response };
        Some(Self { kind, id, length, payload: CompactString::default(), start, end })
    }

    /// A datagram is one message, no more and no less.
    pub(super) fn of_datagram(bytes: &[u8], missing: u64, at: Moment) -> Option<Self> {
        let (header, payload) = bytes.split_at_checked(HEADER_LENGTH)?;
        let length = payload.len() as u64 + missing;
        let mut message = Self::of_header(header, at, at.advanced(HEADER_LENGTH as u64 + length))?;
        message.keep(payload);
        (u64::from(message.length) == length).then_some(message)
    }

    fn keep(&mut self, payload: &[u8]) {
        for &byte in payload {
            let shown = if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
            if self.payload.len() < KEPT_BYTES {
                self.payload.push(shown);
            }
        }
    }
}

impl Framer {
    /// Consumes some of the piece. Called until nothing is left.
    pub(super) fn bytes(&mut self, piece: &mut BytePiece<'_>) -> Result<Option<Step>, NoMessage> {
        let begins_run = std::mem::replace(&mut self.run, piece.at.run) < piece.at.run;
        match &mut self.state {
            State::Lost => {
                if begins_run && piece.bytes.first() == Some(&MAGIC) {
                    self.state = State::HEADER;
                } else {
                    piece.take(piece.bytes.len());
                }
                Ok(None)
            }
            State::Header { bytes: header, start } => {
                if header.is_empty() {
                    *start = piece.at;
                }
                let start = *start;
                header.extend_from_slice(piece.take(HEADER_LENGTH - header.len()));
                if header.len() < HEADER_LENGTH {
                    return Ok(None);
                }
                let message = Message::of_header(header, start, piece.at).ok_or(NoMessage)?;
                let step = Step { message: message.clone(), is_new: true, is_over: message.length == 0 };
                self.state = if step.is_over {
                    State::HEADER
                } else {
                    State::Payload { left: message.length.into(), message, has_hole: false }
                };
                Ok(Some(step))
            }
            State::Payload { message, left, has_hole } => {
                let seen = piece.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= seen.len() as u64;
                if !*has_hole {
                    message.keep(seen);
                }
                message.end = piece.at;
                let step = Step { message: message.clone(), is_new: false, is_over: *left == 0 };
                Ok(Some(self.after(step)))
            }
        }
    }

    /// Skips a hole. `None` if it hides where messages begin.
    pub(super) fn gap(&mut self, missing: u64, at: Moment) -> Option<Step> {
        self.run = at.run;
        match &mut self.state {
            State::Payload { message, left, has_hole } if missing <= *left => {
                *left -= missing;
                *has_hole = true;
                message.end = at.advanced(missing);
                let step = Step { message: message.clone(), is_new: false, is_over: *left == 0 };
                Some(self.after(step))
            }
            state => {
                *state = State::Lost;
                None
            }
        }
    }

    /// The next message begins behind a payload that is over.
    fn after(&mut self, step: Step) -> Step {
        if step.is_over {
            self.state = State::HEADER;
        }
        step
    }
}
