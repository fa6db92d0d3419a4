//! One open stream: a request, and how far its response has come.
//!
//! ```text
//!             head of a final response             END_STREAM
//!   Awaited ───────────────────────────► UnderWay ────────────► Over: the exchange is complete
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
    /// When the server gave it up after its response, in nanoseconds.
    given_up_at: Option<u64>,
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
    /// The client may send more.
    Over,
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
        Self { exchange: Box::new(exchange), call, response: Response::Awaited, is_sending, given_up_at: None, losses }
    }

    /// A request of HTTP/1 that is answered in HTTP/2 (RFC 7540 3.2).
    pub(super) fn upgraded(exchange: Box<Exchange>) -> Self {
        Self { exchange, call: None, response: Response::Awaited, is_sending: false, given_up_at: None, losses: 0 }
    }

    /// Whether the client has not ended its direction.
    pub(super) fn is_sending(&self) -> bool {
        self.is_sending
    }

    /// Whether the client has not ended its direction, and all that it sent so far was seen. `losses`: how often the boundaries of
    /// requests were lost.
    pub(super) fn may_send_more(&self, losses: u32) -> bool {
        self.is_sending && self.losses == losses
    }

    /// The response is over.
    pub(super) fn complete(&mut self, end: End) {
        self.response = Response::Over;
        self.exchange.end = end;
    }

    /// The server gives the stream up. RFC 9113 5.1: the client must send no more of it once it has read that.
    pub(super) fn refuse_more(&mut self, at: Moment) {
        self.given_up_at = Some(at.nanos);
    }

    /// As long has passed as the client's bytes are on their way.
    pub(super) fn wait_no_longer(&mut self) {
        self.is_sending &= self.given_up_at.is_none();
    }

    /// The client gives the stream up.
    pub(super) fn stop_sending(&mut self) {
        self.is_sending = false;
    }

    /// When the server said the last of it: the end of the response, or that it gives up.
    pub(super) fn answered_at(&self) -> u64 {
        self.given_up_at.or(self.exchange.response_end.map(|end| end.nanos)).unwrap_or_default()
    }

    /// A header block of the client's: its trailers.
    pub(super) fn request_trailers(&mut self, end: Moment, ends_stream: bool) {
        if self.response != Response::Over {
            self.exchange.request_end = end;
        }
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
            Response::UnderWay { has_status: true } | Response::Over => false,
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
                // The exchange ends with its response.
                if self.response != Response::Over {
                    self.exchange.request_end = data.end;
                }
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
