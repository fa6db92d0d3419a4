//! Cuts one direction of a connection into heads and bodies, across pieces and holes.
//!
//! ```text
//!            head complete               end of the body
//!   Head ───────────────────► Body ───────────────────────► Head
//!    │  └─ CONNECT ─► Tunnel   │ a hole hides the framing
//!    │ a hole hides the rest   ▼
//!    └──────────────────────► Adrift ── a run begins like a message, or the end is recognized ──► Head
//! ```
//!
//! A side knows nothing of the other direction. It returns [`Step`]s. The parser reads the head among them and sets the
//! framing of the body that follows. The content of bodies goes to a reader, without the transfer coding.

use std::borrow::Cow;

use super::body::{Body, Hidden, Passed};
use super::framing::Framing;
use super::head;
use super::incoming::Incoming;
use super::lines::Lines;
use super::tail::{EndMark, Shown};
use crate::kit::looks::Looks;
use crate::kit::pieces::{Content, Piece};
use crate::kit::tail::Tail;
use crate::{Direction, Moment};

#[derive(Debug)]
pub(super) struct Side {
    state: State,
    incoming: Incoming,
    /// The first byte of the current or last head, and its end.
    start: Moment,
    end: Moment,
    /// The current head only looks like one. It may be in the middle of a message.
    by_looks: bool,
    /// A valid head passed.
    has_message: bool,
    /// The last message ended with this mark, which may be a part of its data.
    recognized: Option<EndMark>,
    /// The body may have ended unseen, so a run that begins like a message is one.
    may_be_over: bool,
    /// The moment of the last bytes that were held back for it.
    held: Moment,
    /// Where the last piece ended.
    passed: Option<Moment>,
}

#[derive(Debug)]
enum State {
    /// Before or in the head of a message.
    Head,
    Body(Body),
    /// A hole hides where the message ends.
    Adrift(Adrift),
    /// After the head of a CONNECT request, until its response. `used`: bytes passed since.
    Tunnel {
        used: bool,
    },
}

#[derive(Debug)]
struct Adrift {
    mark: EndMark,
    tail: Tail,
    /// The message may have ended with the last piece.
    may_have_ended: bool,
}

/// What the next part of a piece is.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Not known yet.
    Nothing,
    /// A complete head with its empty line. [`Side::lines`] and [`Side::head_span`] belong to it.
    Head(Cow<'a, [u8]>),
    /// A hole in a head, and the bytes of the head before the hole.
    HeadHidden(Vec<u8>),
    /// The body had ended before this part.
    Over,
    /// A part of a body. `content` is its size without the coding, if known.
    Passed { until: Moment, content: Option<u64>, ended: bool },
}

impl Side {
    pub(super) fn new(direction: Direction, from_start: bool) -> Self {
        let state = if from_start { State::Head } else { State::adrift(EndMark::Never) };
        Self {
            state,
            incoming: Incoming::new(direction),
            start: Moment::default(),
            end: Moment::default(),
            by_looks: false,
            has_message: false,
            recognized: None,
            may_be_over: false,
            held: Moment::default(),
            passed: None,
        }
    }

    /// Makes a piece of the next input.
    pub(super) fn piece<'a>(&mut self, content: Content<'a>, at: Moment) -> Piece<'a> {
        let begins_run = self.passed.is_none_or(|passed| passed.run != at.run);
        let piece = Piece::new(content, at, begins_run);
        self.passed = Some(at.advanced(piece.content().len()));
        piece
    }

    /// Consumes the next part of the piece, and hands the content of bodies to `reader`. Fails if the bytes are not HTTP/1.
    #[inline]
    pub(super) fn step<'a>(
        &mut self,
        piece: &mut Piece<'a>,
        mut reader: impl FnMut(Content<'_>),
    ) -> Result<Step<'a>, &'static str> {
        if self.may_be_over && (piece.begins_run() || !self.incoming.is_empty()) {
            match self.look_for_message(piece, &mut reader)? {
                Some(step) => return Ok(step),
                None => self.may_be_over = false,
            }
        }
        self.take_back_end(piece);
        match (&mut self.state, piece.content()) {
            (State::Head, Content::Bytes(bytes)) => self.head(bytes, piece),
            (State::Head, Content::Hole(_)) => Ok(self.hole_in_head(piece)),
            (State::Body(body), Content::Bytes(bytes)) => match body.bytes(bytes, &mut reader) {
                Ok(passed) => Ok(self.body_passed(passed, piece)),
                Err(reason) => {
                    self.refuse(reason)?;
                    Ok(self.drift(piece))
                }
            },
            (State::Body(body), Content::Hole(missing)) => match body.gap(missing, &mut reader) {
                Ok(passed) => Ok(self.body_passed(passed, piece)),
                Err(Hidden(mark)) => {
                    self.lose_boundary(mark);
                    Ok(self.drift(piece))
                }
            },
            (State::Adrift(_), Content::Bytes(bytes))
                if piece.begins_run() && self.incoming.looks(bytes) != Looks::Wrong =>
            {
                self.state = State::Head;
                self.by_looks = true;
                self.head(bytes, piece)
            }
            (State::Adrift(_), _) => Ok(self.drift(piece)),
            (State::Tunnel { used }, _) => {
                *used = true;
                piece.use_up();
                Ok(Step::Nothing)
            }
        }
    }

    /// Sets the framing of the body after the last head.
    pub(super) fn enter(&mut self, framing: Framing) {
        self.by_looks = false;
        self.has_message = true;
        self.state = Body::new(framing).map_or(State::Head, State::Body);
    }

    /// Enters the tunnel of a CONNECT request. The response decides what it is.
    pub(super) fn enter_tunnel(&mut self) {
        self.by_looks = false;
        self.has_message = true;
        self.state = State::Tunnel { used: false };
    }

    /// CONNECT was refused.
    pub(super) fn leave_tunnel(&mut self) {
        match self.state {
            State::Tunnel { used: true } => self.lose_boundary(EndMark::Never),
            State::Tunnel { used: false } => self.state = State::Head,
            _ => {}
        }
    }

    /// The next message's beginning is unknown from here on. `mark` is how the end of this message will look.
    pub(super) fn lose_boundary(&mut self, mark: EndMark) {
        self.by_looks = false;
        self.may_be_over = false;
        self.state = State::adrift(mark);
    }

    /// Sets how the end of the message will look, from a head that a hole cut off.
    pub(super) fn expect_end(&mut self, mark: EndMark) {
        if let State::Adrift(adrift) = &mut self.state {
            adrift.mark = mark;
        }
    }

    /// The bytes are no head, or no part of a body. Servers answer the requests before such bytes, so those stay open.
    pub(super) fn refuse(&mut self, reason: &'static str) -> Result<(), &'static str> {
        let follows_request = self.has_message && self.incoming.is_of_requests();
        if !self.by_looks && !follows_request {
            return Err(reason);
        }
        self.lose_boundary(EndMark::Never);
        Ok(())
    }

    /// The first byte of the last head, and the position just past it or past the hole that hides its end.
    pub(super) fn head_span(&self) -> (Moment, Moment) {
        (self.start, self.end)
    }

    /// Whether messages before the last head may have passed unseen.
    pub(super) fn is_by_looks(&self) -> bool {
        self.by_looks
    }

    /// The lines of the last head.
    pub(super) fn lines(&self) -> &Lines {
        self.incoming.lines()
    }

    /// Reuses the buffer of a head.
    pub(super) fn give_back(&mut self, head: Cow<'_, [u8]>) {
        self.incoming.give_back(head);
    }

    /// The current body may have ended, or may be left out.
    pub(super) fn expect_message(&mut self) {
        self.may_be_over = matches!(self.state, State::Body(_));
    }

    pub(super) fn is_adrift(&self) -> bool {
        matches!(self.state, State::Adrift(_))
    }

    /// Whether the end of the message may have passed with the last piece.
    pub(super) fn end_may_be_hidden(&self) -> bool {
        match &self.state {
            State::Adrift(Adrift { mark: EndMark::NotBefore(position), .. }) => self.has_reached(*position),
            State::Adrift(adrift) => adrift.may_have_ended || !adrift.mark.is_sure(),
            _ => false,
        }
    }

    pub(super) fn is_until_close(&self) -> bool {
        matches!(self.state, State::Body(Body::UntilClose))
    }

    /// Whether an orderly end of the connection ends the message.
    pub(super) fn ends_with_connection(&self) -> bool {
        match &self.state {
            State::Body(_) => self.is_until_close(),
            State::Adrift(Adrift { mark: EndMark::NotBefore(position), .. }) => self.has_reached(*position),
            State::Adrift(adrift) => !adrift.mark.is_sure(),
            State::Head | State::Tunnel { .. } => false,
        }
    }

    fn has_reached(&self, position: u64) -> bool {
        self.passed.is_some_and(|passed| passed.position >= position)
    }

    /// Where the last piece ended.
    pub(super) fn passed(&self) -> Option<Moment> {
        self.passed
    }

    #[inline]
    fn head<'a>(&mut self, mut bytes: &'a [u8], piece: &mut Piece<'a>) -> Result<Step<'a>, &'static str> {
        if self.incoming.is_empty() {
            let empty_lines = head::empty_lines(bytes);
            bytes = &bytes[empty_lines..];
            self.start = piece.advance(empty_lines as u64);
            if bytes.is_empty() {
                return Ok(Step::Nothing);
            }
        }
        match self.incoming.bytes(bytes) {
            Ok(Some((head, taken))) => {
                self.end = piece.advance(taken as u64);
                Ok(Step::Head(head))
            }
            Ok(None) => {
                piece.use_up();
                Ok(Step::Nothing)
            }
            Err(reason) => self.no_head(reason, piece),
        }
    }

    /// The bytes are no head.
    fn no_head<'a>(&mut self, reason: &'static str, piece: &mut Piece<'a>) -> Result<Step<'a>, &'static str> {
        self.incoming.clear();
        self.refuse(reason)?;
        Ok(self.drift(piece))
    }

    fn hole_in_head<'a>(&mut self, piece: &mut Piece<'a>) -> Step<'a> {
        let seen = self.incoming.take();
        if seen.is_empty() {
            self.start = piece.at();
        }
        let known = !self.by_looks || self.incoming.looks(&seen) == Looks::Right;
        self.lose_boundary(EndMark::Never);
        if !known {
            return self.drift(piece);
        }
        if let State::Adrift(adrift) = &mut self.state {
            adrift.may_have_ended = true;
        }
        self.end = piece.use_up();
        Step::HeadHidden(seen)
    }

    fn body_passed<'a>(&mut self, passed: Passed, piece: &mut Piece<'a>) -> Step<'a> {
        self.may_be_over = false;
        if passed.ended {
            self.state = State::Head;
        }
        let until = piece.advance(passed.bytes);
        Step::Passed { until, content: Some(passed.content), ended: passed.ended }
    }

    fn drift<'a>(&mut self, piece: &mut Piece<'a>) -> Step<'a> {
        let State::Adrift(adrift) = &mut self.state else { return Step::Nothing };
        let shown = match piece.content() {
            Content::Bytes(bytes) => {
                adrift.tail.push(bytes);
                adrift.mark.shown_by(adrift.tail.bytes())
            }
            Content::Hole(_) => {
                adrift.tail.clear();
                Shown::Perhaps
            }
        };
        adrift.may_have_ended = shown != Shown::No;
        let ended = shown == Shown::Yes;
        if ended {
            self.recognized = Some(adrift.mark);
            self.state = State::Head;
            self.by_looks = true;
        }
        Step::Passed { until: piece.use_up(), content: None, ended }
    }

    /// A recognized end was wrong if its run continues, and not with another message.
    fn take_back_end(&mut self, piece: &Piece<'_>) {
        if let Some(mark) = self.recognized.take()
            && let Content::Bytes(bytes) = piece.content()
            && !piece.begins_run()
            && self.incoming.looks(bytes) == Looks::Wrong
        {
            self.state = State::adrift(mark);
        }
    }

    /// Looks for a message in place of more of the body, and holds bytes back while they may become one. `None` if this is
    /// the body, and nothing was held back.
    fn look_for_message<'a>(
        &mut self,
        piece: &mut Piece<'a>,
        reader: &mut impl FnMut(Content<'_>),
    ) -> Result<Option<Step<'a>>, &'static str> {
        let is_first = self.incoming.is_empty();
        let looks = match piece.content() {
            Content::Bytes(bytes) => self.incoming.hold(bytes),
            Content::Hole(_) => Looks::Wrong,
        };
        match looks {
            Looks::Right => {
                self.may_be_over = false;
                self.state = State::Head;
                Ok(Some(Step::Over))
            }
            Looks::RightSoFar => {
                if is_first {
                    self.start = piece.at();
                }
                self.held = piece.use_up();
                Ok(Some(Step::Nothing))
            }
            Looks::Wrong if is_first => Ok(None),
            Looks::Wrong => self.release(reader).map(Some),
        }
    }

    /// The bytes that were held back belong to the body.
    fn release<'a>(&mut self, reader: &mut impl FnMut(Content<'_>)) -> Result<Step<'a>, &'static str> {
        let State::Body(body) = &mut self.state else { return Ok(Step::Nothing) };
        self.may_be_over = false;
        let mut held = self.incoming.take();
        let Passed { bytes, content, ended } = body.bytes(&held, reader)?;
        let until = Moment { position: self.start.position.wrapping_add(bytes), ..self.held };
        if ended {
            self.state = State::Head;
            // `bytes` is at most their length.
            held.drain(..bytes as usize);
            let empty_lines = head::empty_lines(&held);
            held.drain(..empty_lines);
            self.start = until.advanced(empty_lines as u64);
            self.incoming.begin_with(held);
        }
        Ok(Step::Passed { until, content: Some(content), ended })
    }
}

impl State {
    fn adrift(mark: EndMark) -> Self {
        Self::Adrift(Adrift { mark, tail: Tail::default(), may_have_ended: false })
    }
}
