//! The open requests of a connection, by the id of their stream.

use super::answered_early::AnsweredEarly;
use super::error;
use super::head::Head;
use super::lane::Data;
use super::stream::{Response, Stream};
use crate::kit::account::Account;
use crate::kit::by_id::{Answered, ById, Opened};
use crate::{Begun, Close, Direction, End, Exchange, Finding, LossReason, Moment, Reset};

/// RFC 9113 6.5.2: servers allow 100 to 250 at once. A connection may forward those of many clients.
const MAX_OPEN: usize = 4096;

#[derive(Debug)]
pub(super) struct Streams {
    open: ById<u32, Stream>,
    answered_early: AnsweredEarly,
    account: Account,
    /// The newest stream on which the client sent a request. Ids only grow (RFC 9113 5.1.1).
    newest: u32,
    /// Every request on this stream and on later ones was seen.
    seen_from: Option<u32>,
    /// How often the boundaries of frames of requests were lost.
    losses: u32,
}

impl Streams {
    /// `from_start`: the first request will be seen.
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            open: ById::new(MAX_OPEN),
            answered_early: AnsweredEarly::default(),
            account: Account::new(Direction::ToServer),
            newest: 0,
            seen_from: from_start.then_some(1),
            losses: 0,
        }
    }

    /// A connection of which a request in HTTP/1 is answered on stream 1. That it has begun was reported.
    pub(super) fn upgraded(exchange: Box<Exchange>) -> Self {
        let mut streams = Self::new(true);
        let start = exchange.request_start;
        streams.account.adopt();
        // The table is empty, so there is room.
        let _ = streams.open.open(1, start, Stream::upgraded(exchange));
        streams.newest = 1;
        streams
    }

    pub(super) fn open(&self) -> usize {
        self.account.open()
    }

    /// Whether the frame header of a lane whose boundaries are uncertain fits what is known of its stream.
    pub(super) fn expect(&mut self, direction: Direction, stream: u32, opens: bool, needs_response: bool) -> bool {
        if stream == 0 || stream.is_multiple_of(2) {
            return stream == 0 || direction == Direction::ToClient || !opens;
        }
        let is_known = self.is_seen(stream);
        match self.open.get_mut(stream) {
            Some(open) => !needs_response || open.response != Response::Awaited,
            // If it is over, only late frames about its window or its end may follow.
            None => !is_known || !opens || self.open.is_known(stream),
        }
    }

    /// Whether a header block of the client's on this stream begins a request. Otherwise it is trailers.
    pub(super) fn is_new(&self, stream: u32) -> bool {
        stream > self.newest
    }

    /// A request begins.
    pub(super) fn begin(
        &mut self,
        stream: u32,
        mut head: Head,
        (start, end): (Moment, Moment),
        ends_stream: bool,
        found: &mut Vec<Finding>,
    ) {
        self.note(stream);
        let (context, correlation) = (head.context().map(Box::new), head.correlation());
        let (passed_on, path) = (head.passed_on(), head.http.path.clone());
        let plain = Begun::plain(Direction::ToServer, start);
        self.account.begin(Begun { context, correlation, passed_on, path, ..plain }, found);
        let opened = self.open.open(stream, start, Stream::new(head, start, end, !ends_stream, self.losses));
        let reason = opened.reason();
        match opened {
            Opened::Waiting => {}
            Opened::Full { .. } => self.account.lose(start, reason, found),
            // Ids are used once, so there is no earlier one.
            Opened::Replaced { earlier } | Opened::Ambiguous { earlier: None, this: earlier } => {
                self.account.lose(earlier.exchange.request_start, reason, found);
            }
            Opened::Ambiguous { earlier: Some(earlier), .. } => {
                self.account.lose(earlier.exchange.request_start, reason, found);
                self.account.lose(start, reason, found);
            }
        }
    }

    /// A request begins whose head is hidden or too long.
    pub(super) fn begin_hidden(&mut self, stream: u32, start: Moment, found: &mut Vec<Finding>) {
        self.note(stream);
        self.account.begin(Begun::plain(Direction::ToServer, start), found);
        self.account.lose(start, LossReason::RequestHeadMissing, found);
    }

    fn note(&mut self, stream: u32) {
        self.newest = stream;
        self.seen_from.get_or_insert(stream);
    }

    pub(super) fn request_trailers(&mut self, stream: u32, end: Moment, ends_stream: bool, found: &mut Vec<Finding>) {
        if let Some(open) = self.open.get_mut(stream).or_else(|| self.answered_early.get_mut(stream)) {
            open.request_trailers(end, ends_stream);
        }
        self.report_if_sent(stream, found);
    }

    /// Reports a request that was answered before, if its client has ended the stream.
    fn report_if_sent(&mut self, stream: u32, found: &mut Vec<Finding>) {
        if let Some(answered) = self.answered_early.take_if_sent(stream) {
            self.account.report(answered.finish(self.losses), found);
        }
    }

    /// A header block of the server's.
    pub(super) fn respond(
        &mut self,
        stream: u32,
        head: &Head,
        (start, end): (Moment, Moment),
        ends_stream: bool,
        found: &mut Vec<Finding>,
    ) {
        match self.open.get_mut(stream) {
            Some(open) => {
                open.respond(head, start, end, ends_stream);
                if ends_stream {
                    self.complete(stream, false, found);
                }
            }
            // Pushed responses have even ids, and no request.
            None if stream.is_multiple_of(2) => {}
            None => {
                let is_reported = self.open.is_known(stream) || self.is_seen(stream);
                if !is_reported && head.status.is_some_and(|status| status >= 200) {
                    found.push(Finding::Orphan(start));
                }
                if ends_stream {
                    self.complete(stream, false, found);
                }
            }
        }
    }

    /// Whether the request on this stream was seen, if there was one.
    fn is_seen(&self, stream: u32) -> bool {
        self.seen_from.is_some_and(|first| (first..=self.newest).contains(&stream))
    }

    /// Part of a DATA frame passes. `is_unrecorded`: the time at which it ends is not known.
    pub(super) fn data(
        &mut self,
        direction: Direction,
        data: &Data<'_>,
        is_unrecorded: bool,
        found: &mut Vec<Finding>,
    ) {
        let stream = data.header.stream;
        if let Some(open) = self.open.get_mut(stream).or_else(|| self.answered_early.get_mut(stream)) {
            open.data(direction, data, self.losses);
        }
        self.report_if_sent(stream, found);
        if direction == Direction::ToClient && data.is_last && data.header.ends_stream() {
            self.complete(stream, is_unrecorded, found);
        }
    }

    /// The response is over.
    fn complete(&mut self, stream: u32, is_unrecorded: bool, found: &mut Vec<Finding>) {
        let Answered::Request(open) = self.open.finish(stream) else { return };
        if open.response == Response::Awaited {
            // A hole hides its head.
            return self.account.lose(open.exchange.request_start, LossReason::ResponseMissing, found);
        }
        self.answer(stream, open, if is_unrecorded { End::Unseen } else { End::Complete }, found);
    }

    /// The response of this stream, which is not open any more, has ended.
    fn answer(&mut self, stream: u32, mut open: Stream, end: End, found: &mut Vec<Finding>) {
        open.complete(end);
        let due = if open.may_send_more(self.losses) { self.answered_early.add(stream, open) } else { Some(open) };
        if let Some(due) = due {
            self.account.report(due.finish(self.losses), found);
        }
    }

    /// One end gave the stream up.
    pub(super) fn reset(&mut self, stream: u32, reset: Reset, at: Moment, found: &mut Vec<Finding>) {
        if let Some(answered) = self.answered_early.get_mut(stream) {
            match reset.by {
                Direction::ToServer => answered.stop_sending(),
                Direction::ToClient => answered.refuse_more(at),
            }
            return self.report_if_sent(stream, found);
        }
        let Answered::Request(mut open) = self.open.finish(stream) else { return };
        // Node's server ends some responses so.
        let ends_response = reset.by == Direction::ToClient
            && reset.code == error::NO_ERROR
            && open.response == (Response::UnderWay { has_status: true });
        if ends_response {
            open.refuse_more(at);
            return self.answer(stream, open, End::Complete, found);
        }
        open.exchange.end = End::Reset(reset, at);
        self.account.report(open.finish(self.losses), found);
    }

    /// RFC 9113 6.8: the server will not process requests on streams after `last`.
    pub(super) fn go_away(&mut self, last: u32, at: Moment, found: &mut Vec<Finding>) {
        let reset = Reset { code: error::REFUSED_STREAM, by: Direction::ToClient };
        // A server that shuts down slowly first names the largest id, and so no stream.
        for stream in self.open.ids(|stream| stream > last) {
            self.reset(stream, reset, at, found);
        }
    }

    /// A header block of the server's is hidden.
    pub(super) fn hide_response(&mut self, stream: u32, ends_stream: bool, found: &mut Vec<Finding>) {
        let Some(open) = self.open.get_mut(stream) else { return };
        match (open.response, ends_stream) {
            // Trailers, as a head was seen before.
            (Response::UnderWay { has_status: true }, true) => self.complete(stream, false, found),
            (Response::UnderWay { has_status: true } | Response::Over, _) => {}
            // A head, of which it is unknown whether it is that of the final response.
            (Response::Awaited | Response::UnderWay { has_status: false }, _) => {
                if let Answered::Request(open) = self.open.abandon(stream) {
                    self.account.lose(open.exchange.request_start, LossReason::ResponseMissing, found);
                }
            }
        }
    }

    /// The request on this stream was taken from bytes that are none. `before`: the newest stream before it.
    pub(super) fn retract(&mut self, stream: u32, before: u32, found: &mut Vec<Finding>) {
        if let Answered::Request(open) = self.open.finish(stream) {
            self.account.lose(open.exchange.request_start, LossReason::RequestHeadMissing, found);
        }
        self.newest = before;
    }

    /// The newest stream on which the client sent a request.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// Requests may have passed unseen, and so may the bodies and ends of those that are open.
    pub(super) fn miss_requests(&mut self, found: &mut Vec<Finding>) {
        self.report_all_answered(found);
        self.losses = self.losses.wrapping_add(1);
        self.seen_from = None;
    }

    fn report_all_answered(&mut self, found: &mut Vec<Finding>) {
        for answered in self.answered_early.take_all() {
            self.account.report(answered.finish(self.losses), found);
        }
    }

    pub(super) fn pass_time(&mut self, now: u64, found: &mut Vec<Finding>) {
        for answered in self.answered_early.take_overdue(now) {
            self.account.report(answered.finish(self.losses), found);
        }
    }

    /// Responses to any of the open requests may have passed unseen.
    pub(super) fn miss_responses(&mut self, reason: LossReason, found: &mut Vec<Finding>) {
        for (open, _) in self.open.give_up_before(u64::MAX) {
            self.account.lose(open.exchange.request_start, reason, found);
        }
    }

    /// No more responses come.
    pub(super) fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.report_all_answered(found);
        for (open, _) in self.open.close() {
            self.end(open, End::Closed(why, at), found);
        }
    }

    pub(super) fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        for (open, _) in self.open.give_up_before(oldest) {
            self.end(open, End::Closed(Close::Aged, at), found);
        }
    }

    /// The response of a request will not come, or not be awaited.
    fn end(&mut self, mut open: Stream, end: End, found: &mut Vec<Finding>) {
        if open.losses != self.losses {
            // The client may have given it up unseen.
            return self.account.lose(open.exchange.request_start, LossReason::ResponseMissing, found);
        }
        open.exchange.end = end;
        self.account.report(open.finish(self.losses), found);
    }
}
