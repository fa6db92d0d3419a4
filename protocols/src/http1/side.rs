//! One direction of a connection: where a message begins, goes on and ends, through cuts and holes.
//!
//! This half knows nothing of requests and responses belonging together. It takes pieces apart into [`Step`]s; the
//! parser reads the heads among them and tells it how the body that follows is framed.

use std::borrow::Cow;

use super::body::{Body, Framing, Hidden, Passed};
use super::incoming::Incoming;
use super::lines::Lines;
use super::piece::{Content, Piece};
use super::tail::{EndMark, Shown, Tail};
use crate::kit::looks::Looks;
use crate::{Direction, Moment};

#[derive(Debug)]
pub(super) struct Side {
    state: State,
    incoming: Incoming,
    /// The first byte of the head that is coming, or came last, and where that ended.
    start: Moment,
    end: Moment,
    /// The head that is coming is one by its looks only: that a message begins here is not known.
    by_looks: bool,
    /// The end of the last message was only recognised, by this.
    recognised: Option<EndMark>,
    /// The body may be over although its end was not seen: a run that begins like a message is one then.
    may_be_over: bool,
    /// When the last of what was held for that passed.
    held: Moment,
    /// Where the last piece ended.
    passed: Option<Moment>,
}

#[derive(Debug)]
enum State {
    /// A message begins here, or is within its head.
    Head,
    Body(Body),
    /// A hole hid where the message ends.
    Adrift(Adrift),
    /// After the head of a CONNECT request, until it is answered; `used` says whether anything passed.
    Tunnel {
        used: bool,
    },
}

#[derive(Debug)]
struct Adrift {
    mark: EndMark,
    tail: Tail,
    /// Whether the message may have ended with the last piece.
    may_have_ended: bool,
}

/// What was learnt from the next part of a piece.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Nothing yet.
    Nothing,
    /// A head came to its end, with its empty line. The side knows its [lines](Side::lines) and [where](Side::head_span) it
    /// was.
    Head(Cow<'a, [u8]>),
    /// Bytes of a head were not captured; this is what came of it before.
    HeadHidden(Vec<u8>),
    /// The body that was under way had ended before.
    Over,
    /// A part of a message's body passed; `content` says how much, if that is known.
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
            recognised: None,
            may_be_over: false,
            held: Moment::default(),
            passed: None,
        }
    }

    /// Takes note that this comes next.
    pub(super) fn piece<'a>(&mut self, content: Content<'a>, at: Moment) -> Piece<'a> {
        let begins_run = self.passed.is_none_or(|passed| passed.run != at.run);
        let piece = Piece::new(content, at, begins_run);
        self.passed = Some(at.advanced(piece.len()));
        piece
    }

    /// Takes the next part off the piece. `Err` if the bytes can't be followed any further.
    #[inline]
    pub(super) fn step<'a>(&mut self, piece: &mut Piece<'a>) -> Result<Step<'a>, &'static str> {
        if self.may_be_over && (piece.begins_run() || !self.incoming.is_empty()) {
            match self.look_for_message(piece)? {
                Some(step) => return Ok(step),
                None => self.may_be_over = false,
            }
        }
        self.take_back_end(piece);
        match (&mut self.state, piece.content()) {
            (State::Head, Content::Bytes(bytes)) => self.head(bytes, piece),
            (State::Head, Content::Gap(_)) => Ok(self.hole_in_head(piece)),
            (State::Body(body), Content::Bytes(bytes)) => {
                let passed = body.bytes(bytes)?;
                Ok(self.body_passed(passed, piece))
            }
            (State::Body(body), Content::Gap(missing)) => match body.gap(missing) {
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

    /// The head that was handed out is read, and its body is framed like this.
    pub(super) fn enter(&mut self, framing: Framing) {
        self.by_looks = false;
        self.state = Body::new(framing).map_or(State::Head, State::Body);
    }

    /// The same for a request to CONNECT: what follows is known when it is answered.
    pub(super) fn enter_tunnel(&mut self) {
        self.state = State::Tunnel { used: false };
    }

    /// The answer to CONNECT was no.
    pub(super) fn leave_tunnel(&mut self) {
        match self.state {
            State::Tunnel { used: true } => self.lose_boundary(EndMark::Never),
            State::Tunnel { used: false } => self.state = State::Head,
            _ => {}
        }
    }

    /// Where the next message begins is not known any more; `mark` is how the end of this one will look.
    pub(super) fn lose_boundary(&mut self, mark: EndMark) {
        self.by_looks = false;
        self.may_be_over = false;
        self.state = State::adrift(mark);
    }

    /// The head that a hole cut off says how the end of the message will look.
    pub(super) fn expect_end(&mut self, mark: EndMark) {
        if let State::Adrift(adrift) = &mut self.state {
            adrift.mark = mark;
        }
    }

    /// The head that was handed out is none after all.
    pub(super) fn refuse(&mut self, reason: &'static str) -> Result<(), &'static str> {
        if !self.by_looks {
            return Err(reason);
        }
        self.lose_boundary(EndMark::Never);
        Ok(())
    }

    /// The first byte of the head that was handed out last, and just past its last, or past what hides that.
    pub(super) fn head_span(&self) -> (Moment, Moment) {
        (self.start, self.end)
    }

    /// Messages before the head that was handed out last may have passed unseen.
    pub(super) fn is_by_looks(&self) -> bool {
        self.by_looks
    }

    /// The lines of the head that was handed out last.
    pub(super) fn lines(&self) -> &Lines {
        self.incoming.lines()
    }

    /// The buffer of a head that was handed out can be used again.
    pub(super) fn give_back(&mut self, head: Cow<'_, [u8]>) {
        self.incoming.give_back(head);
    }

    /// The body that is under way may be over, or be left out.
    pub(super) fn expect_message(&mut self) {
        self.may_be_over = matches!(self.state, State::Body(_));
    }

    pub(super) fn is_adrift(&self) -> bool {
        matches!(self.state, State::Adrift(_))
    }

    /// Whether the end of the message could have passed unnoticed in what came last.
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

    /// Whether an end of the connection in order is that of the message.
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
            // RFC 9112 2.2: empty lines before a message are ignored.
            let empty_lines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
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

    /// What should be a head can't be one.
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
                adrift.tail.shows(adrift.mark)
            }
            Content::Gap(_) => {
                adrift.tail = Tail::default();
                Shown::Perhaps
            }
        };
        adrift.may_have_ended = shown != Shown::No;
        let ended = shown == Shown::Yes;
        if ended {
            self.recognised = Some(adrift.mark);
            self.state = State::Head;
            self.by_looks = true;
        }
        Step::Passed { until: piece.use_up(), content: None, ended }
    }

    /// What was recognised as a message's end was none if its run goes on, and not with another message.
    fn take_back_end(&mut self, piece: &Piece<'_>) {
        if let Some(mark) = self.recognised.take()
            && let Content::Bytes(bytes) = piece.content()
            && !piece.begins_run()
            && self.incoming.looks(bytes) == Looks::Wrong
        {
            self.state = State::adrift(mark);
        }
    }

    /// Whether a message begins here instead of more of the body. As long as it may, what passes is held. `None` if it
    /// does not, and nothing was held.
    fn look_for_message<'a>(&mut self, piece: &mut Piece<'a>) -> Result<Option<Step<'a>>, &'static str> {
        let is_first = self.incoming.is_empty();
        let looks = match piece.content() {
            Content::Bytes(bytes) => self.incoming.hold(bytes),
            Content::Gap(_) => Looks::Wrong,
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
            Looks::Wrong => self.release().map(Some),
        }
    }

    /// What was held is of the body after all.
    fn release<'a>(&mut self) -> Result<Step<'a>, &'static str> {
        let State::Body(body) = &mut self.state else { return Ok(Step::Nothing) };
        self.may_be_over = false;
        let mut held = self.incoming.take();
        let Passed { bytes, content, ended } = body.bytes(&held)?;
        let until = Moment { position: self.start.position.wrapping_add(bytes), ..self.held };
        if ended {
            self.state = State::Head;
            // No more of it than there is.
            held.drain(..bytes as usize);
            let empty_lines = held.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
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
