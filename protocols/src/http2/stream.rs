//! One open stream: a request, and how far its response has come.
//!
//! ```text
//!             head of a final response             END_STREAM
//!   Awaited ───────────────────────────► UnderWay ────────────► the exchange is complete
//!      │ ▲
//!      └─┘ 1xx
//! ```

use std::time::Duration;

use super::head::Head;
use super::lane::Data;
use crate::grpc::Call;
use crate::{Direction, End, Exchange, Facts, Moment};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) exchange: Box<Exchange>,
    call: Option<Box<Call>>,
    pub(super) response: Response,
    /// The client has not ended its direction.
    is_sending: bool,
    /// How often the boundaries of requests had been lost when the client last sent something of it.
    pub(super) losses: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Awaited,
    /// Its head has passed. It may have been that of an interim response if its status is unknown.
    UnderWay {
        has_status: bool,
    },
}

impl Stream {
    /// A request whose head ended at `end`. `losses`: how often the boundaries of requests were lost.
    pub(super) fn new(head: Head, start: Moment, end: Moment, is_sending: bool, losses: u32) -> Self {
        let (facts, call) = head.into_facts();
        let exchange = Exchange {
            direction: Direction::ToServer,
            request_start: start,
            request_end: end,
            response_start: None,
            response_end: None,
            end: End::Complete,
            facts,
        };
        Self { exchange: Box::new(exchange), call, response: Response::Awaited, is_sending, losses }
    }

    /// A request of HTTP/1 that is answered in HTTP/2 (RFC 7540 3.2).
    pub(super) fn upgraded(exchange: Box<Exchange>) -> Self {
        Self { exchange, call: None, response: Response::Awaited, is_sending: false, losses: 0 }
    }

    /// A header block of the client's: its trailers.
    pub(super) fn request_trailers(&mut self, end: Moment, ends_stream: bool) {
        self.exchange.request_end = end;
        self.is_sending &= !ends_stream;
    }

    /// A header block of the server's.
    pub(super) fn respond(&mut self, head: &Head, start: Moment, end: Moment, ends_stream: bool) {
        let is_interim = matches!(head.status, Some(100..200)) && !ends_stream;
        if is_interim {
            return;
        }
        // Trailers have no status, and end the stream. If a head without a known status is followed by another head, it was
        // that of an interim response.
        let is_head = match self.response {
            Response::Awaited => true,
            Response::UnderWay { has_status: false } => head.status.is_some() || !ends_stream,
            Response::UnderWay { has_status: true } => false,
        };
        if is_head {
            self.response = Response::UnderWay { has_status: head.status.is_some() };
            self.exchange.response_start = Some(start);
            self.learn(head);
            if let Some(call) = &mut self.call {
                call.respond(head.status);
            }
            if let Facts::Http(http) = &mut self.exchange.facts {
                (http.status, http.response_body) = (head.status, Some(0));
            }
        }
        self.exchange.response_end = Some(end);
        if let Some(call) = &mut self.call {
            call.trailers(head.trailers);
        }
    }

    /// The content type of a response shows a call whose request did not, because a field of it was unknown.
    fn learn(&mut self, head: &Head) {
        if let Facts::Http(http) = &mut self.exchange.facts
            && let Some(flavor) = head.flavor()
        {
            let mut call = Call::new(flavor, None);
            // Its request was not followed.
            call.lose(Direction::ToServer);
            let facts = call.facts(http.path.as_bytes(), std::mem::take(&mut http.host));
            self.exchange.facts = Facts::Rpc(Box::new(facts));
            self.call = Some(Box::new(call));
        }
    }

    /// Part of a DATA frame passes. `losses`: how often the boundaries of requests were lost.
    pub(super) fn data(&mut self, direction: Direction, data: &Data<'_>, losses: u32) {
        let is_unknown = data.may_be_padding || (direction == Direction::ToServer && self.losses != losses);
        match direction {
            Direction::ToServer => {
                self.losses = losses;
                self.exchange.request_end = data.end;
                self.is_sending &= !(data.is_last && data.header.ends_stream());
            }
            // DATA before any head breaks RFC 9113 8.1. Such a response has not begun.
            Direction::ToClient if self.response == Response::Awaited => {}
            Direction::ToClient => self.exchange.response_end = Some(data.end),
        }
        self.count(direction, (!is_unknown).then_some(data.content.len()));
        if let Some(call) = &mut self.call {
            if is_unknown {
                call.lose(direction);
            }
            call.pass(direction, data.content);
        }
    }

    /// Adds to the size of a body. Once some of it is unknown, all is.
    fn count(&mut self, direction: Direction, bytes: Option<u64>) {
        if let Facts::Http(http) = &mut self.exchange.facts {
            let size = match direction {
                Direction::ToServer => &mut http.request_body,
                Direction::ToClient => &mut http.response_body,
            };
            *size = size.zip(bytes).map(|(before, more)| before.saturating_add(more));
        }
    }

    /// The exchange, whose `end` is set. Nothing more of the stream is awaited. `losses`: how often the boundaries of
    /// requests were lost.
    pub(super) fn finish(mut self, losses: u32) -> Box<Exchange> {
        // The client may have sent more, unless it says itself that it gives up.
        let is_given_up = matches!(self.exchange.end, End::Reset(reset, _) if reset.by == Direction::ToServer);
        if self.is_sending
            && !(is_given_up && self.losses == losses)
            && let Some(call) = &mut self.call
        {
            call.lose(Direction::ToServer);
        }
        let reset = match self.exchange.end {
            End::Reset(reset, at) => Some((reset, self.lasted(at))),
            _ => None,
        };
        match &mut self.exchange.facts {
            Facts::Http(http) if self.is_sending => http.request_body = None,
            Facts::Rpc(rpc) => self.call.iter().for_each(|call| call.finish(rpc, reset)),
            _ => {}
        }
        self.exchange
    }

    fn lasted(&self, at: Moment) -> Duration {
        Duration::from_nanos(at.nanos.saturating_sub(self.exchange.request_start.nanos))
    }
}
