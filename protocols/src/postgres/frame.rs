//! Cuts the bytes of one direction into messages.
//!
//! A message that is complete in one piece is borrowed. Otherwise the part that matters is assembled in a reused buffer.
//! Bodies are stepped over by their length, also through holes. Only a hole over a header loses the framing.

use super::message::{ANSWER, HEADER_LENGTH, Message, PACKET, PACKET_HEADER_LENGTH, Side, packet};
use crate::kit::pieces::BytePiece;
use crate::moment::Moment;

/// The buffer keeps this capacity for the next message.
const MAX_IDLE_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Framer {
    side: Side,
    state: State,
    /// The header that is not complete.
    header: [u8; HEADER_LENGTH],
    filled: usize,
    /// The beginning of a body that comes in several pieces.
    kept: Vec<u8>,
    /// The first byte of the current message.
    start: Moment,
    run: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the session: a length without a type byte.
    Packet,
    /// The byte that answers a request for encryption.
    Answer,
    Header,
    Body(Body),
    /// A header was not captured. The framing is unknown until a message is recognized.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Body {
    kind: u8,
    left: u64,
    /// How many of its bytes are kept.
    keep: usize,
    /// No byte of it has passed.
    fresh: bool,
}

/// Where a hole lies.
#[derive(Debug)]
pub(super) enum Hole<'a> {
    /// In the body of a message.
    Within,
    /// In the body of this message, and ends with it.
    Ends(Message<'a>),
    /// Over the end of this message and a header.
    Loses(Option<Message<'a>>),
    /// The framing had been lost before.
    Lost,
}

/// A message that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partial {
    pub(super) kind: u8,
    pub(super) start: Moment,
}

impl Framer {
    pub(super) fn new(side: Side) -> Self {
        let (header, start) = (Default::default(), Moment::default());
        Self { side, state: State::Header, header, filled: 0, kept: Vec::new(), start, run: None }
    }

    pub(super) fn expect_packet(&mut self) {
        self.state = State::Packet;
    }

    /// Whether the next bytes belong to a packet.
    pub(super) fn expects_packet(&self) -> bool {
        matches!(self.state, State::Packet | State::Body(Body { kind: PACKET, .. }))
    }

    pub(super) fn expect_answer(&mut self) {
        self.state = State::Answer;
    }

    pub(super) fn expect_message(&mut self) {
        self.state = State::Header;
        self.filled = 0;
    }

    pub(super) fn lose(&mut self) {
        self.state = State::Lost;
        self.filled = 0;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Whether a piece is the first of its run.
    pub(super) fn enters(&mut self, run: u32) -> bool {
        self.run.replace(run) != Some(run)
    }

    /// The current message, once its header is complete.
    pub(super) fn partial(&self) -> Option<Partial> {
        match self.state {
            State::Body(Body { kind, .. }) => Some(Partial { kind, start: self.start }),
            _ => None,
        }
    }

    /// The next message that ends in the piece. `None` if the piece is consumed. `Err` says why the bytes are no message.
    pub(super) fn next<'a, 'p: 'a>(
        &'a mut self,
        piece: &mut BytePiece<'p>,
    ) -> Result<Option<Message<'a>>, &'static str> {
        match self.state {
            State::Lost => {
                piece.take(piece.bytes.len());
                return Ok(None);
            }
            State::Answer => return Ok(self.answer(piece)),
            State::Packet | State::Header => {
                if self.state == State::Header
                    && self.filled == 0
                    && let Some(message) = self.whole(piece)?
                {
                    return Ok(Some(message));
                }
                if !self.read_header(piece)? {
                    return Ok(None);
                }
            }
            State::Body(_) => {}
        }
        Ok(self.read_body(piece))
    }

    /// The next message, if it is complete in the piece. Consecutive rows of a result are returned as one message, because
    /// only their end matters.
    fn whole<'p>(&self, piece: &mut BytePiece<'p>) -> Result<Option<Message<'p>>, &'static str> {
        let bytes = piece.bytes;
        let Some(&header) = bytes.first_chunk() else { return Ok(None) };
        let (length, keep) = self.side.body(header)?;
        let mut end = HEADER_LENGTH + length as usize;
        if end > bytes.len() {
            return Ok(None);
        }
        let (start, kind) = (piece.at, header[0]);
        let body = &bytes[HEADER_LENGTH..end.min(HEADER_LENGTH + keep)];
        while kind == self.side.row()
            && let Some(&next) = bytes[end..].first_chunk::<HEADER_LENGTH>()
            && next[0] == kind
            && let Ok((length, _)) = self.side.body(next)
            && let after = end + HEADER_LENGTH + length as usize
            && after <= bytes.len()
        {
            end = after;
        }
        piece.take(end);
        Ok(Some(Message { kind, body, start, end: piece.at }))
    }

    fn answer<'p>(&mut self, piece: &mut BytePiece<'p>) -> Option<Message<'p>> {
        let start = piece.at;
        let body = piece.take(1);
        if body.is_empty() {
            return None;
        }
        self.expect_message();
        if body == b"E" {
            // It is the first byte of an ErrorResponse.
            (self.start, self.header[0], self.filled) = (start, body[0], 1);
        }
        Some(Message { kind: ANSWER, body, start, end: piece.at })
    }

    /// Adds to the header. Returns whether it is complete. Then the state is that of the body.
    fn read_header(&mut self, piece: &mut BytePiece<'_>) -> Result<bool, &'static str> {
        let is_packet = self.state == State::Packet;
        // The header of a packet has no type byte.
        let offset = if is_packet { HEADER_LENGTH - PACKET_HEADER_LENGTH } else { 0 };
        if self.filled == 0 {
            self.start = piece.at;
            self.header[0] = PACKET;
        }
        let from = offset + self.filled;
        let taken = piece.take(HEADER_LENGTH - from);
        self.header[from..from + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        if offset + self.filled < HEADER_LENGTH {
            return Ok(false);
        }
        self.filled = 0;
        let kind = self.header[0];
        let (length, keep) = if is_packet { packet(self.header)? } else { self.side.body(self.header)? };
        self.kept.clear();
        self.kept.shrink_to(MAX_IDLE_BYTES);
        self.state = State::Body(Body { kind, left: u64::from(length), keep, fresh: true });
        Ok(true)
    }

    fn read_body<'a, 'p: 'a>(&'a mut self, piece: &mut BytePiece<'p>) -> Option<Message<'a>> {
        let State::Body(body) = &mut self.state else { return None };
        let taken = piece.take(usize::try_from(body.left).unwrap_or(usize::MAX));
        body.left -= taken.len() as u64;
        let whole = std::mem::replace(&mut body.fresh, false) && body.left == 0;
        if !whole {
            let room = body.keep.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&taken[..room.min(taken.len())]);
        }
        let Body { kind, left, keep, .. } = *body;
        if left > 0 {
            return None;
        }
        self.state = State::Header;
        let body = if whole { &taken[..keep.min(taken.len())] } else { self.kept.as_slice() };
        Some(Message { kind, body, start: self.start, end: piece.at })
    }

    pub(super) fn gap(&mut self, missing: u64, at: Moment) -> Hole<'_> {
        let State::Body(mut body) = self.state else {
            return if std::mem::replace(&mut self.state, State::Lost) == State::Lost {
                Hole::Lost
            } else {
                self.filled = 0;
                Hole::Loses(None)
            };
        };
        if missing < body.left {
            body.left -= missing;
            body.fresh = false;
            // Bytes after a hole do not continue the ones before.
            body.keep = self.kept.len();
            self.state = State::Body(body);
            return Hole::Within;
        }
        let message = Message { kind: body.kind, body: &self.kept, start: self.start, end: at.advanced(body.left) };
        if missing == body.left {
            self.state = State::Header;
            Hole::Ends(message)
        } else {
            self.state = State::Lost;
            Hole::Loses(Some(message))
        }
    }
}
