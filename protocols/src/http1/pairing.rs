//! Which response answers which request, and what becomes of requests that get none.
//!
//! Responses come in the order of their requests (RFC 9112 9.3.2), so [`InOrder`] knows the request. This module adds
//! what is HTTP's own: how far the response to the first open request has come.
//!
//! ```text
//!              head with a body              end of the body
//!   Awaited ────────────────────► UnderWay ──────────────────► Awaited, for the next request
//!      └── head without a body: the exchange is complete at once ──┘
//! ```

use super::open::{Open, http};
use crate::kit::account::Account;
use crate::kit::certainty::Client;
use crate::kit::in_order::{Answer, Entry, InOrder, Matched};
use crate::kit::pieces::Content;
use crate::{Begun, Close, Direction, End, Exchange, Finding, LossReason, Moment};

/// This many requests may be open however long they are. An open request holds 6 KiB at most.
const FEW: usize = 256;

/// The bytes of the stream over which more requests may be open. It bounds the memory of their texts.
const MAX_OPEN_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Pairing {
    requests: InOrder<Open>,
    account: Account,
    response: Response,
}

/// The response to the first open request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    Awaited,
    /// Its head passed, and its body has not ended.
    UnderWay {
        end: BodyEnd,
        /// How long its body was announced to be, if a hole hides where it begins.
        announced: Option<u64>,
    },
}

/// Whether the end of the response that is under way can have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// No: it would have been seen.
    Ahead,
    /// It can have passed with the last bytes, at their time.
    Perhaps,
    /// It can have passed in an operation that was not recorded, at an unknown time.
    PerhapsUnrecorded,
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            requests: InOrder::new(from_start),
            account: Account::new(Direction::ToServer),
            response: Response::Awaited,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.account.open()
    }
}

/// The request side.
impl Pairing {
    /// A run of requests begins.
    pub(super) fn request_run(&mut self, at: Moment) {
        self.requests.request_run(at, 0);
    }

    pub(super) fn begin(&mut self, begun: Begun, request: Open, found: &mut Vec<Finding>) {
        let start = begun.start;
        self.account.begin(begun, found);
        self.end_request();
        if self.is_full(start) {
            self.requests.push_reported(1, start.run);
            self.account.lose(start, LossReason::TooManyOpen, found);
        } else {
            self.requests.push(request);
        }
    }

    /// Whether there is no room for a request that begins at `start`.
    fn is_full(&self, start: Moment) -> bool {
        let spans_too_much = || {
            let oldest = self.requests.entries().find_map(Entry::open);
            oldest.is_some_and(|oldest| {
                start.position.wrapping_sub(oldest.exchange.request_start.position) > MAX_OPEN_BYTES
            })
        };
        self.requests.is_full() || (self.requests.len() >= FEW && spans_too_much())
    }

    /// Requests may have passed unseen before the one that follows in `run`.
    pub(super) fn hole_before_request(&mut self, run: u32) {
        self.requests.push_hole(run);
    }

    /// Some of a request's head was not captured. What was captured is too little to report it.
    pub(super) fn begin_hidden(&mut self, start: Moment, found: &mut Vec<Finding>) {
        self.end_request();
        // Otherwise it was counted when its response came.
        if self.requests.push_unseen(1, start.run) {
            self.account.begin(Begun::plain(Direction::ToServer, start), found);
            self.account.lose(start, LossReason::RequestHeadMissing, found);
        }
    }

    /// More of the newest request's body passed. The request may have been answered already.
    pub(super) fn sent(&mut self, until: Moment, content: Option<u64>, ended: bool) {
        let Some(newest) = self.requests.back_mut().filter(|newest| newest.is_sending) else { return };
        if content.is_none() && !newest.may_continue_in(until.run) {
            // It belongs to a request of which a hole hides the beginning.
            newest.is_sending = false;
            let run = newest.last_run;
            self.requests.push_unseen(0, run);
            return;
        }
        newest.sent(until, content);
        // An end that was only recognized may turn out to be none. Then more of the body passes in the same run.
        newest.is_sending = !ended || content.is_none();
    }

    /// Content of the newest request's body passes.
    pub(super) fn read_request(&mut self, content: Content<'_>) {
        if let Some(newest) = self.requests.back_mut().filter(|newest| newest.is_sending) {
            newest.read(Direction::ToServer, content);
        }
    }

    /// The newest request has ended, perhaps because the client left out the rest of its body.
    pub(super) fn end_request(&mut self) {
        if let Some(newest) = self.requests.back_mut() {
            newest.is_sending = false;
        }
    }

    /// A request begins at `start` while the end of the last response is unknown. A client that waits sends it after
    /// that end. `received` is how far the responses have come.
    pub(super) fn settle_before(&mut self, start: Moment, received: Option<Moment>, found: &mut Vec<Finding>) {
        let is_overtaken = received.is_some_and(|received| received.run >= start.run);
        if !is_overtaken && self.requests.client() == Client::Waits {
            let Self { requests, account, response } = self;
            requests.lose_before(start.run, &mut |request| response.settle(request, Client::Waits, account, found));
        }
    }
}

/// The response side.
impl Pairing {
    /// A run of responses begins.
    pub(super) fn response_run(&mut self, at: Moment) {
        self.requests.response_run(at);
    }

    /// Bytes or a hole pass on the response side.
    pub(super) fn note_response(&mut self) {
        self.requests.note_response();
    }

    /// Whether the response in this run is recorded before the newest request.
    pub(super) fn is_overtaken(&self, response_run: u32) -> bool {
        self.requests.is_overtaken(response_run)
    }

    /// The request that a final response beginning at `start` answers. `None` if it is unknown or lost. Then the
    /// response cannot be followed, because its framing depends on the request.
    pub(super) fn answer(&mut self, start: Moment, found: &mut Vec<Finding>) -> Option<&mut Open> {
        let client = self.requests.client();
        let Self { requests, account, response } = self;
        let mut lost = |request| response.settle(request, client, account, found);
        if !requests.is_locked() || requests.front().is_none() {
            let continues = requests.back_mut().is_some_and(|newest| newest.is_sending);
            match requests.match_run(start, continues, &mut lost) {
                Matched::Front { several: false, .. } | Matched::Unseen => {}
                Matched::Front { several: true, .. } => {
                    requests.lose_run(start.run, &mut lost);
                    requests.miss_response();
                    return None;
                }
                Matched::Unknown => {
                    requests.miss_response();
                    return None;
                }
            }
        } else if requests.len() > 1 {
            requests.observe(Client::Batches);
        }
        match requests.answer(start, &mut lost) {
            Answer::Front => {
                requests.relock();
                return self.requests.front_mut();
            }
            Answer::Unseen { reported: false } => found.push(Finding::Orphan(start)),
            Answer::Unseen { reported: true } | Answer::Reported | Answer::Unknown => {}
        }
        self.miss_response();
        None
    }

    /// A response passed, or may have passed, that is not reported.
    pub(super) fn miss_response(&mut self) {
        self.requests.miss_response();
    }

    /// The response has a body. `announced` is its length, if a hole hides where it begins.
    pub(super) fn begin_body(&mut self, announced: Option<u64>) {
        self.response = Response::UnderWay { end: BodyEnd::Ahead, announced };
    }

    /// More of the response to the first request passed, or of something that cannot be followed.
    pub(super) fn received(&mut self, until: Moment, content: Option<u64>, ending: BodyEnd) {
        self.requests.note_response();
        if content.is_none() {
            self.miss_response();
        }
        self.forget_response_of_another();
        let Response::UnderWay { end, .. } = &mut self.response else { return };
        *end = ending;
        if let Some(front) = self.requests.front_mut() {
            front.received(until, content);
        }
    }

    /// Content of the body of the response to the first request passes.
    pub(super) fn read_response(&mut self, content: Content<'_>) {
        if let Some(front) = self.requests.front_mut().filter(|front| front.exchange.response_start.is_some()) {
            front.read(Direction::ToClient, content);
        }
    }

    /// The request of the response that is under way may have been reported as aged, and have left the queue since.
    fn forget_response_of_another(&mut self) {
        let is_of_first = match self.requests.entry(0) {
            Some(Entry::Open(first)) => first.exchange.response_start.is_some(),
            Some(Entry::Reported { .. }) => true,
            Some(Entry::Unseen { .. }) | None => false,
        };
        if !is_of_first {
            self.response = Response::Awaited;
        }
    }

    /// Whether the client sent another request after what it has of the response, and is answered in `run`.
    pub(super) fn went_on_before(&self, run: u32) -> bool {
        let received = self.requests.front().and_then(|front| front.exchange.response_end);
        let next = self.requests.entry(1).and_then(|next| next.open());
        match (self.response, received, next) {
            (Response::UnderWay { .. }, Some(received), Some(next)) => {
                let next = next.exchange.request_start.run;
                next < run && received.run < next
            }
            _ => false,
        }
    }

    /// The end of the response was seen, or stepped over.
    pub(super) fn end_body(&mut self, found: &mut Vec<Finding>) {
        self.forget_response_of_another();
        if self.response != Response::Awaited {
            self.requests.relock();
            self.finish(found);
        }
    }

    /// A message begins in place of the rest of the response.
    pub(super) fn end_body_early(&mut self, found: &mut Vec<Finding>) {
        self.forget_response_of_another();
        if self.response != Response::Awaited {
            self.finish(found);
        }
    }

    /// The first open request is answered in another protocol. It is not reported here.
    pub(super) fn hand_over(&mut self) -> Option<Box<Exchange>> {
        let request = self.requests.finish(0).and_then(Entry::into_open)?;
        self.response = Response::Awaited;
        self.account.hand_over();
        Some(request.exchange)
    }

    /// The first open request is complete.
    #[inline]
    pub(super) fn finish(&mut self, found: &mut Vec<Finding>) {
        let response = std::mem::replace(&mut self.response, Response::Awaited);
        let is_trusted = self.requests.is_trusted();
        let run = self.requests.front().and_then(|front| front.exchange.response_end).map_or(0, |end| end.run);
        let Some(request) = self.requests.finish(run).and_then(Entry::into_open) else { return };
        if is_trusted {
            response.complete(request, &mut self.account, found);
        } else {
            self.account.lose(request.exchange.request_start, LossReason::ResponseMissing, found);
        }
    }
}

/// The end of the connection, and aged requests.
impl Pairing {
    /// The server ended the connection in order, and with it a response that ends so (RFC 9112 6.3, 8). Where a hole
    /// hides its framing, everything that passed was part of it, unless another response can have been. `is_framed`: its
    /// head says that it ends so.
    pub(super) fn end_with_connection(&mut self, is_framed: bool, found: &mut Vec<Finding>) {
        self.forget_response_of_another();
        let is_only = self.requests.len() == 1 && self.requests.client() == Client::Waits;
        let is_complete = match self.response {
            Response::UnderWay { end: BodyEnd::Ahead, .. } => true,
            Response::UnderWay { end: BodyEnd::Perhaps, .. } => is_only,
            Response::UnderWay { end: BodyEnd::PerhapsUnrecorded, .. } => is_only && is_framed,
            Response::Awaited => false,
        };
        if is_complete {
            self.finish(found);
        }
    }

    /// Nothing that is open will be answered. `is_broken`: the connection stopped making sense before.
    pub(super) fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        let Self { requests, account, response } = self;
        requests.close(|request, may_be_answered| {
            if is_broken {
                *response = Response::Awaited;
                account.lose(request.exchange.request_start, LossReason::Unparsable, found);
            } else {
                response.end_unanswered(request, may_be_answered, End::Closed(why, at), account, found);
            }
        });
    }

    /// Requests that began before `oldest` are reported as aged. They keep their places in the queue.
    pub(super) fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        let Self { requests, account, response } = self;
        // What is under way stays so.
        let mut under_way = *response;
        let first = requests.front().map(|front| front.exchange.request_start.position);
        requests.give_up_before(oldest, |request, may_be_answered| {
            if first != Some(request.exchange.request_start.position) {
                under_way = Response::Awaited;
            }
            let end = End::Closed(Close::Aged, at);
            under_way.end_unanswered(request, may_be_answered, end, account, found);
            None
        });
    }
}

impl Response {
    /// The request was answered, because the client went on. How, is known if its response was under way and nothing came
    /// after that which cannot have been part of it.
    fn settle(&mut self, request: Open, client: Client, account: &mut Account, found: &mut Vec<Finding>) {
        match std::mem::replace(self, Self::Awaited) {
            response @ Self::UnderWay { end: BodyEnd::Perhaps, .. } if client == Client::Waits => {
                response.complete(request, account, found);
            }
            Self::UnderWay { .. } | Self::Awaited => {
                account.lose(request.exchange.request_start, LossReason::ResponseMissing, found);
            }
        }
    }

    #[inline]
    fn complete(self, request: Open, account: &mut Account, found: &mut Vec<Finding>) {
        let is_sending = request.is_sending;
        let mut exchange = request.finish();
        if let Some(http) = http(&mut exchange) {
            if is_sending {
                // It was answered early, or its end passed in a hole that has not shown yet.
                http.request_body = None;
            }
            if let Self::UnderWay { announced, .. } = self {
                http.response_body = http.response_body.or(announced);
            }
        }
        let is_unseen = matches!(self, Self::UnderWay { end: BodyEnd::PerhapsUnrecorded, .. });
        exchange.end = if is_unseen { End::Unseen } else { End::Complete };
        account.report(exchange, found);
    }

    /// The response will not come, or not be waited for.
    fn end_unanswered(
        &mut self,
        request: Open,
        may_be_answered: bool,
        end: End,
        account: &mut Account,
        found: &mut Vec<Finding>,
    ) {
        let is_unknown = match std::mem::replace(self, Self::Awaited) {
            Self::UnderWay { end, .. } => end != BodyEnd::Ahead,
            Self::Awaited => may_be_answered,
        };
        let mut exchange = request.finish();
        if is_unknown {
            account.lose(exchange.request_start, LossReason::ResponseMissing, found);
        } else {
            exchange.end = end;
            account.report(exchange, found);
        }
    }
}
