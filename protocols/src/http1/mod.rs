//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112).
//!
//! Each direction is taken apart by a [`Side`] into heads and bodies; [`Pairing`] knows
//! which response answers which request; [`Http1`] here hands what the one finds to the other. Bodies are stepped over
//! by position. Where a hole hides a boundary, a message's end is recognised from what ends an operation, and the next
//! message from the beginning of a run.
//!
//! Memory is bounded: a head that comes in parts takes at most 128 KiB per direction, an open request 6 KiB at its
//! worst (400 bytes as a rule), and there are at most 256 of them.

mod body;
mod detect;
mod head;
mod incoming;
mod lines;
mod open;
mod pairing;
mod piece;
mod side;
mod tail;
mod target;

use std::borrow::Cow;

use crate::kit::holes::{Hole, Released, ResponseHoles};
use crate::{
    Begun, Capture, Close, Direction, End, Exchange, Facts, Finding, Moment, Parser, Spec, Transport, Unparsable,
};
use body::{Body, Framing};
use head::{RequestHead, ResponseHead};
use incoming::{NO_REQUEST_LINE, NO_STATUS_LINE};
use lines::Lines;
use open::Open;
use pairing::{BodyEnd, Pairing};
use piece::Content;
use side::{Side, Step};
use tail::EndMark;

/// HTTP/1.0 and 1.1. Nothing else begins like its request line, so that line proves which end is the server.
pub static SPEC: Spec = Spec {
    name: "http1",
    title: "HTTP/1",
    transport: Transport::Stream,
    detect: detect::detect,
    parser: Some(|from_start| Box::new(Http1::new(from_start))),
    capture: Capture::Heads,
    concurrent: false,
    proves_roles: true,
};

/// The parser of one HTTP/1 connection.
///
/// It gives up ([`Unparsable`]) on a head that is none or longer than 64 KiB, and on chunks that have no size or are longer
/// than that. Where a hole hides whether a head begins, what is none is passed over.
#[derive(Debug)]
pub struct Http1 {
    requests: Side,
    responses: Side,
    pairing: Pairing,
    holes: ResponseHoles,
    /// Nothing more is looked at: the protocol was switched (`None`), or can't be followed for this reason.
    over: Option<Option<&'static str>>,
}

impl Http1 {
    /// `from_start`: the first bytes that come are the first of the connection. Otherwise they may be the middle of
    /// anything, and the first piece of a run that looks like a request is where it begins.
    #[must_use]
    pub fn new(from_start: bool) -> Self {
        Self {
            requests: Side::new(Direction::ToServer, from_start),
            responses: Side::new(Direction::ToClient, from_start),
            pairing: Pairing::new(from_start),
            holes: ResponseHoles::default(),
            over: None,
        }
    }

    fn content(
        &mut self,
        direction: Direction,
        content: Content<'_>,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        match (direction, content) {
            (Direction::ToServer, Content::Bytes(_)) => {
                let released = self.holes.request();
                self.released(released, found)?;
                self.follow(|this| this.request(content, at, found))
            }
            (Direction::ToServer, Content::Gap(_)) => self.follow(|this| this.request(content, at, found)),
            (Direction::ToClient, _) => {
                let is_ambiguous = self.holes.is_ambiguous(at);
                let released = self.holes.response(at);
                self.released(released, found)?;
                match content {
                    Content::Gap(missing) if is_ambiguous => self.holes.hold(missing, at),
                    _ => self.follow(|this| this.response(content, at, Hole::Skipped, found))?,
                }
                Ok(())
            }
        }
    }

    /// A hole in the responses was held back, and it is known now what it is.
    #[inline]
    fn released(&mut self, released: Option<Released>, found: &mut Vec<Finding>) -> Result<(), Unparsable> {
        let Some((missing, at, hole)) = released else { return Ok(()) };
        self.follow(|this| this.response(Content::Gap(missing), at, hole, found))
    }

    fn follow(&mut self, step: impl FnOnce(&mut Self) -> Result<(), &'static str>) -> Result<(), Unparsable> {
        let result = match self.over {
            Some(None) => Ok(()),
            Some(Some(reason)) => Err(reason),
            None => step(self),
        };
        result.map_err(|reason| {
            self.over = Some(Some(reason));
            Unparsable { protocol: &SPEC, reason }
        })
    }

    fn request(&mut self, content: Content<'_>, at: Moment, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        let mut piece = self.requests.piece(content, at);
        if piece.begins_run() {
            self.pairing.request_run(at);
        }
        while !piece.is_used_up() {
            match self.requests.step(&mut piece)? {
                Step::Nothing => {}
                Step::Head(head) => self.request_head(head, found)?,
                Step::HeadHidden(_) => {
                    found.push(Finding::CaptureMore(Direction::ToServer));
                    let (start, _) = self.requests.head_span();
                    self.settle_before(start, found);
                    self.pairing.begin_hidden(start, found);
                }
                Step::Over => self.pairing.end_request(),
                Step::Passed { until, content, ended } => self.pairing.sent(until, content, ended),
            }
        }
        Ok(())
    }

    fn request_head(&mut self, head: Cow<'_, [u8]>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        let Some(parsed) = RequestHead::parse(&head, self.requests.lines()) else {
            return self.requests.refuse(NO_REQUEST_LINE);
        };
        let (start, end) = self.requests.head_span();
        self.settle_before(start, found);
        let begun = Begun {
            direction: Direction::ToServer,
            start,
            context: target::context(&parsed),
            correlation: target::correlation(&parsed),
        };
        let framing = parsed.framing();
        let connect = parsed.method == b"CONNECT";
        let request = Open {
            exchange: Box::new(Exchange {
                direction: Direction::ToServer,
                request_start: start,
                request_end: end,
                response_start: None,
                response_end: None,
                end: End::Complete,
                facts: Facts::Http(target::http(&parsed)),
            }),
            last_run: end.run,
            expects_continue: parsed.fields.expects_continue,
            is_sending: !connect && Body::new(framing).is_some(),
        };
        if self.requests.is_by_looks() {
            self.pairing.hole_before_request(start.run);
        }
        self.pairing.begin(begun, request, found);
        match framing {
            _ if connect => self.requests.enter_tunnel(),
            Framing::Broken => self.requests.lose_boundary(EndMark::Never),
            framing => self.requests.enter(framing),
        }
        self.requests.give_back(head);
        Ok(())
    }

    fn settle_before(&mut self, start: Moment, found: &mut Vec<Finding>) {
        if self.responses.is_adrift() {
            self.pairing.settle_before(start, self.responses.passed(), found);
        }
    }

    fn response(
        &mut self,
        content: Content<'_>,
        at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        // A hole in a run that is over is shown only now as well.
        let is_earlier = matches!(content, Content::Gap(_)) && self.pairing.is_overtaken(at.run);
        let hole = if is_earlier { Hole::Unrecorded } else { hole };
        if hole == Hole::Unrecorded {
            self.pairing.hear();
        }
        // The client went on and is answered: a body that ends with the connection would have ended with it.
        if self.responses.is_until_close() && self.pairing.went_on_before(at.run) {
            self.responses.expect_message();
        }
        let mut piece = self.responses.piece(content, at);
        if piece.begins_run() {
            self.pairing.response_run(at);
        }
        while !piece.is_used_up() && self.over.is_none() {
            match self.responses.step(&mut piece)? {
                Step::Nothing => {}
                Step::Head(head) => self.response_head(head, found)?,
                Step::HeadHidden(seen) => {
                    found.push(Finding::CaptureMore(Direction::ToClient));
                    let (start, until) = self.responses.head_span();
                    self.response_head_hidden(&seen, start, until, found);
                    self.pairing.received(until, None, self.body_end(hole));
                }
                Step::Over => self.pairing.finish(found),
                Step::Passed { until, content, ended: false } => {
                    self.pairing.received(until, content, self.body_end(hole));
                }
                Step::Passed { until, content, ended: true } => {
                    let end = if hole == Hole::Unrecorded { BodyEnd::PerhapsUnrecorded } else { BodyEnd::Perhaps };
                    self.pairing.received(until, content, end);
                    self.pairing.end_body(found);
                }
            }
        }
        Ok(())
    }

    fn response_head(&mut self, head: Cow<'_, [u8]>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        let Some(parsed) = ResponseHead::parse(&head, self.responses.lines()) else {
            return self.responses.refuse(NO_STATUS_LINE);
        };
        let (start, end) = self.responses.head_span();
        if is_interim(parsed.status) {
            self.responses.enter(Framing::None);
            return Ok(());
        }
        let Some(request) = self.pairing.answer(start, found) else {
            self.responses.lose_boundary(EndMark::Never);
            return Ok(());
        };
        request.respond(parsed.status, start, end, Some(0));
        if switches(request.method(), parsed.status) {
            self.switch(found);
            return Ok(());
        }
        let framing = parsed.framing(request.method() == "HEAD");
        if request.method() == "CONNECT" {
            self.requests.leave_tunnel();
        } else if request.waits_to_send() {
            self.requests.expect_message();
        }
        self.responses.enter(framing);
        match Body::new(framing) {
            Some(_) => self.pairing.begin_body(None),
            None => self.pairing.finish(found),
        }
        self.responses.give_back(head);
        Ok(())
    }

    /// A hole cut the response's head off: it is told if its status was seen.
    fn response_head_hidden(&mut self, seen: &[u8], start: Moment, until: Moment, found: &mut Vec<Finding>) {
        let parsed = ResponseHead::parse(seen, &Lines::of(seen)).filter(|parsed| !is_interim(parsed.status));
        let Some(parsed) = parsed else {
            self.pairing.miss();
            return;
        };
        let Some(request) = self.pairing.answer(start, found) else { return };
        request.respond(parsed.status, start, until, None);
        if switches(request.method(), parsed.status) {
            self.switch(found);
            return;
        }
        if request.method() == "CONNECT" {
            self.requests.leave_tunnel();
        }
        let framing = parsed.framing(request.method() == "HEAD");
        self.responses.expect_end(match framing {
            Framing::None | Framing::Length(0) => EndMark::EmptyLine,
            Framing::Chunked { trailers: true } => EndMark::Trailers,
            Framing::Chunked { trailers: false } => EndMark::LastChunk,
            // The field that says how it is framed may be in the hole.
            Framing::UntilClose => EndMark::Perhaps,
            Framing::Length(length) => {
                EndMark::NotBefore(start.position.saturating_add(seen.len() as u64).saturating_add(length))
            }
            Framing::Broken => EndMark::Never,
        });
        self.pairing.begin_body(framing.length());
    }

    fn body_end(&self, hole: Hole) -> BodyEnd {
        match (self.responses.end_may_be_hidden(), hole) {
            (true, Hole::Skipped) => BodyEnd::Perhaps,
            (true, Hole::Unrecorded) => BodyEnd::PerhapsUnrecorded,
            (false, Hole::Unrecorded) if self.responses.is_until_close() => BodyEnd::PerhapsUnrecorded,
            (false, _) => BodyEnd::Ahead,
        }
    }

    /// No more comes: a hole that is held back was not recorded.
    fn release_last(&mut self, found: &mut Vec<Finding>) {
        let released = self.holes.end();
        // If it cannot be followed, `over` says so from now on.
        let _ = self.released(released, found);
    }

    fn switch(&mut self, found: &mut Vec<Finding>) {
        self.pairing.finish(found);
        found.push(Finding::SwitchedProtocol);
        self.over = Some(None);
    }
}

impl Parser for Http1 {
    fn protocol(&self) -> &'static Spec {
        &SPEC
    }

    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        if bytes.is_empty() { Ok(()) } else { self.content(direction, Content::Bytes(bytes), at, found) }
    }

    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        if missing == 0 { Ok(()) } else { self.content(direction, Content::Gap(missing), at, found) }
    }

    /// A response side that ended answers nothing more: what is open is reported at once.
    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>) {
        if direction == Direction::ToClient {
            self.release_last(found);
            if self.over.is_none() && self.responses.ends_with_connection() {
                self.pairing.end_with_connection(found);
            }
            self.pairing.close(Close::Normal, at, self.over.is_some(), found);
        }
    }

    /// Without [`end`](Parser::end) before it, the server had not said all it had to say (RFC 9112 8): the client went
    /// away, whatever it had read.
    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.release_last(found);
        self.pairing.close(why, at, self.over.is_some(), found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        self.pairing.give_up_before(oldest, at, found);
    }

    fn open(&self) -> usize {
        self.pairing.open()
    }
}

/// RFC 9110 15.2: more responses to the same request follow, but for 101, after which nothing of HTTP/1 does.
fn is_interim(status: u16) -> bool {
    matches!(status, 100..200) && status != 101
}

/// RFC 9110 7.8 and 9.3.6
fn switches(method: &str, status: u16) -> bool {
    status == 101 || (method == "CONNECT" && matches!(status, 200..300))
}
