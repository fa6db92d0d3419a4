//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112).
//!
//! ```text
//!   bytes and holes ──► Side (requests)  ──► heads, ends ──┐
//!                                                          ├─► Pairing ──► exchanges
//!   bytes and holes ──► Side (responses) ──► heads, ends ──┘
//! ```
//!
//! A [`Side`] cuts one direction into heads and bodies. [`Pairing`] knows which response answers which request. [`Http1`]
//! connects them. Bodies are stepped over by their length. Those of calls of gRPC-Web and Connect go to [`crate::grpc`], which
//! counts their messages.
//!
//! If a hole hides where a message ends, the last bytes of an operation show the end, and the beginning of a run shows
//! the next message.
//!
//! Memory is bounded to about 16 MiB. A head that comes in parts takes at most 128 KiB per direction. At most 16,384
//! requests are open. Each takes 400 bytes and its texts, which are no longer than its head. A call takes 1.5 KiB more.

mod body;
mod detect;
mod facts;
mod framing;
mod head;
mod incoming;
mod lines;
mod open;
mod pairing;
mod side;
mod tail;

use std::borrow::Cow;

use crate::http2;
use crate::kit::follower::{Follower, TwoWay};
use crate::kit::holes::Hole;
use crate::kit::pieces::Content;
use crate::{Begun, Capture, Close, Direction, End, Exchange, Facts, Finding, Moment, Spec, Transport};
use body::Body;
use framing::Framing;
use head::{RequestHead, ResponseHead};
use incoming::{NO_REQUEST_LINE, NO_STATUS_LINE};
use lines::Lines;
use open::Open;
use pairing::{BodyEnd, Pairing};
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
pub type Http1 = Follower<Dialogue>;

/// The requests and responses of one connection.
///
/// It is [`Unparsable`](crate::Unparsable) if its first request is invalid, or if a response is: its head is invalid or
/// longer than 64 KiB, or a chunk has no size or is longer than it. Bytes that are no request are skipped if they follow
/// a request, and so are bytes that are no head after a hole. The next message is then the next run that looks like one.
#[derive(Debug)]
pub struct Dialogue {
    requests: Side,
    responses: Side,
    pairing: Pairing,
    /// Another protocol follows (RFC 9110 7.8, 9.3.6). Everything else is ignored, unless it is HTTP/2.
    has_switched: bool,
    /// Follows the connection after its upgrade to HTTP/2.
    upgraded: Option<Box<http2::Dialogue>>,
}

impl TwoWay for Dialogue {
    /// `from_start`: the first bytes are the first of the connection. Otherwise they may be the middle of a message, and
    /// parsing starts with the first run that looks like a request.
    fn new(from_start: bool) -> Self {
        Self {
            requests: Side::new(Direction::ToServer, from_start),
            responses: Side::new(Direction::ToClient, from_start),
            pairing: Pairing::new(from_start),
            has_switched: false,
            upgraded: None,
        }
    }

    fn request(&mut self, content: Content<'_>, at: Moment, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        if let Some(upgraded) = &mut self.upgraded {
            return upgraded.request(content, at, found);
        }
        if self.has_switched {
            return Ok(());
        }
        let mut piece = self.requests.piece(content, at);
        if piece.begins_run() {
            self.pairing.request_run(at);
        }
        while !piece.is_used_up() {
            match self.requests.step(&mut piece, |content| self.pairing.read_request(content))? {
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

    fn response(
        &mut self,
        content: Content<'_>,
        at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        if let Some(upgraded) = &mut self.upgraded {
            return upgraded.response(content, at, hole, found);
        }
        if self.has_switched {
            return Ok(());
        }
        // A hole in an earlier run was not recorded either.
        let is_earlier = matches!(content, Content::Hole(_)) && self.pairing.is_overtaken(at.run);
        let hole = if is_earlier { Hole::Unrecorded } else { hole };
        if hole == Hole::Unrecorded {
            self.pairing.note_response();
        }
        // A body that ends with the connection has no next response. So it ended differently.
        if self.responses.is_until_close() && self.pairing.went_on_before(at.run) {
            self.responses.expect_message();
        }
        let mut piece = self.responses.piece(content, at);
        if piece.begins_run() {
            self.pairing.response_run(at);
        }
        while !piece.is_used_up() && !self.has_switched {
            match self.responses.step(&mut piece, |content| self.pairing.read_response(content))? {
                Step::Nothing => {}
                Step::Head(head) => self.response_head(head, found)?,
                Step::HeadHidden(seen) => {
                    found.push(Finding::CaptureMore(Direction::ToClient));
                    let (start, until) = self.responses.head_span();
                    self.response_head_hidden(&seen, start, until, found);
                    self.pairing.received(until, None, self.body_end(hole));
                }
                Step::Over => self.pairing.end_body_early(found),
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
        match &mut self.upgraded {
            // The server may begin at once.
            Some(upgraded) if !piece.is_used_up() => upgraded.response(piece.content(), piece.at(), hole, found),
            _ => Ok(()),
        }
    }

    /// Reports all open requests, because no more responses can come.
    fn end_responses(&mut self, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if !is_broken && !self.has_switched && self.responses.ends_with_connection() {
            self.pairing.end_with_connection(self.responses.is_until_close(), found);
        }
        self.close(Close::Normal, at, is_broken, found);
    }

    /// Without an [`end_responses`](TwoWay::end_responses) before, the response is incomplete (RFC 9112 8), however much the
    /// client had read.
    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if let Some(upgraded) = &mut self.upgraded {
            upgraded.close(why, at, is_broken, found);
        }
        self.pairing.close(why, at, is_broken || self.has_switched, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if let Some(upgraded) = &mut self.upgraded {
            upgraded.give_up_before(oldest, at, is_broken, found);
        }
        self.pairing.give_up_before(oldest, at, found);
    }

    fn begins_frame(&self, direction: Direction) -> bool {
        self.upgraded.as_ref().is_some_and(|upgraded| upgraded.begins_frame(direction))
    }

    fn open(&self) -> usize {
        self.pairing.open() + self.upgraded.as_ref().map_or(0, |upgraded| upgraded.open())
    }
}

impl Dialogue {
    fn request_head(&mut self, head: Cow<'_, [u8]>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        let Some(parsed) = RequestHead::parse(&head, self.requests.lines()) else {
            return self.requests.refuse(NO_REQUEST_LINE);
        };
        let (start, end) = self.requests.head_span();
        self.settle_before(start, found);
        // The memory comes first, so that the facts are not moved into it.
        let mut exchange = Box::write(
            Box::new_uninit(),
            Exchange {
                direction: Direction::ToServer,
                request_start: start,
                request_end: end,
                response_start: None,
                response_end: None,
                end: End::Complete,
                facts: Facts::Http(facts::http(&parsed)),
            },
        );
        let begun = Begun {
            direction: Direction::ToServer,
            start,
            path: exchange.facts.as_http().map(|http| http.path.clone()).unwrap_or_default(),
            context: facts::context(&parsed).map(Box::new),
            correlation: facts::correlation(&parsed),
            passed_on: facts::passed_on(&parsed),
        };
        let framing = parsed.framing();
        let connect = parsed.method == b"CONNECT";
        let call = facts::take_call(&parsed, &mut exchange.facts);
        let request = Open {
            exchange,
            last_run: end.run,
            expects_continue: parsed.fields.expects_continue,
            is_sending: !connect && Body::new(framing).is_some(),
            has_body: false,
            call,
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
        drop(parsed);
        self.requests.give_back(head);
        Ok(())
    }

    fn settle_before(&mut self, start: Moment, found: &mut Vec<Finding>) {
        if self.responses.is_adrift() {
            self.pairing.settle_before(start, self.responses.passed(), found);
        }
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
        if parsed.status == 101 && self.responses.lines().fields(&head).any(head::upgrades_to_http2) {
            self.upgraded = self.pairing.hand_over().map(|exchange| Box::new(http2::Dialogue::upgraded(exchange)));
            found.push(Finding::Upgraded(http2::SPEC.name));
            self.has_switched = true;
            return Ok(());
        }
        request.respond(&parsed, start, end, Some(0));
        if switches(request.method(), parsed.status) {
            self.switch(found);
            return Ok(());
        }
        let framing = parsed.framing(request.method() == "HEAD");
        if framing == Framing::UntilClose
            && request.method() == "POST"
            && parsed.fields.content_type.is_some_and(head::is_raw_stream)
        {
            self.switch(found);
            return Ok(());
        }
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
        drop(parsed);
        self.responses.give_back(head);
        Ok(())
    }

    /// A hole hides the end of a response's head. The response counts if its status was seen.
    fn response_head_hidden(&mut self, seen: &[u8], start: Moment, until: Moment, found: &mut Vec<Finding>) {
        let parsed = ResponseHead::parse(seen, &Lines::of(seen)).filter(|parsed| !is_interim(parsed.status));
        let Some(parsed) = parsed else {
            self.pairing.miss_response();
            return;
        };
        let Some(request) = self.pairing.answer(start, found) else { return };
        request.respond(&parsed, start, until, None);
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
            // The field with the framing may be in the hole.
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

    fn switch(&mut self, found: &mut Vec<Finding>) {
        self.pairing.finish(found);
        found.push(Finding::SwitchedProtocol);
        self.has_switched = true;
    }
}

/// RFC 9110 15.2: more responses to the same request follow. After 101 no HTTP/1 follows.
fn is_interim(status: u16) -> bool {
    matches!(status, 100..200) && status != 101
}

/// RFC 9110 7.8 and 9.3.6
fn switches(method: &str, status: u16) -> bool {
    status == 101 || (method == "CONNECT" && matches!(status, 200..300))
}
