//! Which response answers which request, and what becomes of requests that get none.
//!
//! Responses come in the order of their requests (RFC 9112 9.3.2). After a hole that may have hidden a whole message
//! that order says nothing any more; then the runs do: what is heard in a run answers what was said last before it.

use std::collections::VecDeque;

use super::open::{NewRequest, Open, http};
use crate::{Begun, Close, End, Finding, LossReason, Lost, Moment};

/// Deeper than any client pipelines. With what is kept of one request bounded too, a connection's memory is.
pub(super) const MAX_OPEN: usize = 256;

#[derive(Debug)]
pub(super) struct Pairing {
    open: VecDeque<Open>,
    /// How many of those are not reported yet.
    unreported: usize,
    /// How many were ever begun: their serial numbers.
    begun: u64,
    /// The one whose body is on its way.
    sending: Option<u64>,
    /// The response to the first open request is on its way.
    answering: bool,
    /// Whether it may be over already.
    ending: Ending,
    /// How long its body was said to be, where a hole hides how much of it passed.
    announced: Option<u64>,
    /// No response was missed since the last one that was told.
    in_step: bool,
    /// The answers to requests before this one may have passed unseen.
    doubtful_before: u64,
    /// What is heard comes after what it answers in its run too. Not where one thread reads what another asks: a response
    /// may be recorded before the send of its request has returned.
    trusts_runs: bool,
    /// A request that was not seen, if nothing was heard since: it may be of the same run as the one behind it.
    unheard: Option<u64>,
    /// The client was seen to send a request before it had the answer to the one before.
    pipelined: bool,
    /// There were too many open requests to know which are answered now.
    overflown: bool,
    /// A response came for which there was no request, and no request since.
    orphaned: bool,
    /// What passes makes no sense any more.
    broken: bool,
}

/// Whether the end of the response that is on its way can have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// No: it would have been seen.
    Ahead,
    /// It can have passed with what came last, at that time.
    Perhaps,
    /// It can have passed in a hole, nobody knows when.
    PerhapsLongAgo,
}

impl Pairing {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            open: VecDeque::new(),
            unreported: 0,
            begun: 0,
            sending: None,
            answering: false,
            ending: Ending::Ahead,
            announced: None,
            in_step: from_start,
            doubtful_before: 0,
            trusts_runs: true,
            unheard: None,
            pipelined: false,
            overflown: false,
            orphaned: false,
            broken: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.unreported
    }
}

/// The request side.
impl Pairing {
    pub(super) fn begin(&mut self, request: NewRequest, found: &mut Vec<Finding>) {
        let NewRequest { exchange, expects_continue, after_hole, has_body } = request;
        let (start, last_run) = (exchange.request_start, exchange.request_end.run);
        self.orphaned = false;
        self.sending = None;
        let serial = self.begun;
        let first_run = start.run;
        let exchange = Some(exchange);
        if self.push(Open { serial, first_run, last_run, expects_continue, after_hole, exchange }) {
            self.unreported += 1;
            self.sending = has_body.then_some(serial);
        } else {
            found.push(Finding::Lost(Lost { start, reason: LossReason::TooManyOpen }));
        }
    }

    /// Some of a request's head was not captured. What was is too little to tell it.
    pub(super) fn begin_hidden(&mut self, start: Moment, end: Moment, found: &mut Vec<Finding>) {
        self.sending = None;
        if std::mem::take(&mut self.orphaned) {
            return; // counted when its response came
        }
        found.push(Finding::Begun(Begun { start, context: None, correlation: None }));
        found.push(Finding::Lost(Lost { start, reason: LossReason::RequestHeadMissing }));
        let (serial, first_run, last_run) = (self.begun, start.run, end.run);
        let (expects_continue, after_hole, exchange) = (false, true, None);
        self.unheard = Some(serial);
        self.push(Open { serial, first_run, last_run, expects_continue, after_hole, exchange });
    }

    /// Whether there was room for it, and for keeping the order.
    fn push(&mut self, open: Open) -> bool {
        self.overflown |= self.open.len() >= MAX_OPEN;
        if !self.overflown {
            self.begun += 1;
            self.open.push_back(open);
        }
        !self.overflown
    }

    /// More of the newest request's body passed; it may have been answered already.
    pub(super) fn sent(&mut self, until: Moment, content: Option<u64>, ended: bool) {
        let Some(serial) = self.sending else { return };
        if let Some(newest) = self.open.back_mut().filter(|newest| newest.serial == serial) {
            newest.sent(until, content);
        }
        // An end that was only recognised may prove to be none: then more of it passes in the same run.
        if ended && content.is_some() {
            self.sending = None;
        }
    }

    /// The client left out the rest of the newest request's body.
    pub(super) fn leave_out(&mut self) {
        self.sending = None;
    }

    /// A request begins while it is not known where the last response ended: it ended before, unless the client
    /// doesn't wait for responses. `heard` is how far the response side has come.
    pub(super) fn settle_before(&mut self, start: Moment, heard: Option<Moment>, found: &mut Vec<Finding>) {
        if heard.is_some_and(|heard| heard.run >= start.run) {
            return;
        }
        while !self.pipelined && self.open.front().is_some_and(|front| front.last_run < start.run) {
            self.settle_front(found);
        }
        if self.open.is_empty() {
            self.overflown = false;
        }
    }
}

/// The response side.
impl Pairing {
    /// The request that a final response beginning at `start` answers. `None` if that is not known, or known to be
    /// lost: then the response can't be followed, as its framing depends on the request.
    pub(super) fn answer(&mut self, start: Moment, found: &mut Vec<Finding>) -> Option<&mut Open> {
        self.hear();
        let in_order = self.in_step && self.open.front().is_some_and(|front| !front.after_hole);
        if in_order {
            self.pipelined |= self.open.len() > 1;
        } else if !self.match_by_run(start, found) {
            self.miss();
            return None;
        }
        if self.open.front().is_some_and(|front| front.exchange.is_none()) {
            self.open.pop_front();
            self.miss();
            return None;
        }
        self.in_step = true;
        self.open.front_mut()
    }

    /// What is heard in a run answers what was said last before it, and everything older was answered unheard.
    fn match_by_run(&mut self, start: Moment, found: &mut Vec<Finding>) -> bool {
        if !self.trusts_runs && self.open.len() > 1 {
            while !self.open.is_empty() {
                self.lose(LossReason::ResponseMissing, found);
            }
            return false;
        }
        let is_before = |open: &Open| open.first_run < start.run || !self.trusts_runs;
        let Some(last) = self.open.iter().rposition(is_before) else {
            if !self.overflown {
                self.orphaned = true;
                found.push(Finding::Orphan(start));
            }
            return false;
        };
        // Of several that were sent in one run, it can't be known which this answers.
        let several = last.checked_sub(1).is_some_and(|before| {
            let before = &self.open[before];
            before.first_run == self.open[last].first_run || self.unheard == Some(before.serial)
        });
        for _ in 0..last + usize::from(several) {
            self.settle_front(found);
        }
        !several
    }

    /// A response passes: a request that was not seen is answered, if nothing was asked since.
    fn hear(&mut self) {
        if self.open.back().is_some_and(|newest| self.unheard == Some(newest.serial)) {
            self.unheard = None;
        }
    }

    pub(super) fn trust_runs(&mut self, trusts: bool) {
        self.trusts_runs = trusts;
    }

    /// The event of responses was lost: those to a request that was not seen either.
    pub(super) fn miss_event(&mut self) {
        self.unheard = None;
    }

    /// A response passed, or may have passed, that is not told.
    pub(super) fn miss(&mut self) {
        self.in_step = false;
        self.doubtful_before = self.begun;
    }

    /// The response's body is on its way. `announced` is how long it will be, if where it begins is not known.
    pub(super) fn body_begins(&mut self, announced: Option<u64>) {
        self.answering = true;
        self.announced = announced;
        self.ending = Ending::Ahead;
    }

    /// More of the response to the first request passed, or of something that can't be followed.
    pub(super) fn heard(&mut self, until: Moment, content: Option<u64>, ending: Ending) {
        self.hear();
        if content.is_none() {
            self.miss();
        }
        let Some(front) = self.open.front_mut().filter(|_| self.answering) else { return };
        front.heard(until, content);
        self.ending = ending;
    }

    /// Whether the client sent another request after what was heard of the response, and is answered in this run.
    pub(super) fn is_overtaken(&self, run: u32) -> bool {
        let (Some(front), Some(next)) = (self.open.front(), self.open.get(1)) else { return false };
        let heard = front.exchange.as_ref().and_then(|exchange| exchange.response_end);
        self.answering && next.first_run < run && heard.is_some_and(|heard| heard.run < next.first_run)
    }

    /// The end of it was seen, or stepped over.
    pub(super) fn heard_out(&mut self, found: &mut Vec<Finding>) {
        if !self.answering {
            return;
        }
        self.in_step = true;
        if self.ending == Ending::PerhapsLongAgo {
            self.lose(LossReason::ResponseMissing, found);
        } else {
            self.finish(End::Complete, found);
        }
    }

    /// The first open request is over.
    pub(super) fn finish(&mut self, end: End, found: &mut Vec<Finding>) {
        self.answering = false;
        let announced = self.announced.take();
        let Some(Open { serial, exchange: Some(mut exchange), .. }) = self.open.pop_front() else { return };
        if let (End::Complete, Some(http)) = (end, http(&mut exchange)) {
            if self.sending == Some(serial) {
                // Answered early, or its end passed in a hole that has not shown yet.
                http.request_body = None;
            }
            http.response_body = http.response_body.or(announced);
        }
        self.unreported -= 1;
        exchange.end = end;
        found.push(Finding::Exchange(exchange));
    }

    /// The first open request is over, and can't be told.
    fn lose(&mut self, reason: LossReason, found: &mut Vec<Finding>) {
        self.answering = false;
        self.announced = None;
        let Some(Open { exchange: Some(exchange), .. }) = self.open.pop_front() else { return };
        self.unreported -= 1;
        found.push(Finding::Lost(Lost { start: exchange.request_start, reason }));
    }

    /// The first open request was answered, as the client went on. How, is known if the response was seen to begin, and
    /// nothing came after that can't have been part of it.
    fn settle_front(&mut self, found: &mut Vec<Finding>) {
        if self.answering && !self.pipelined && self.ending == Ending::Perhaps {
            self.finish(End::Complete, found);
        } else {
            self.lose(LossReason::ResponseMissing, found);
        }
    }

    /// The connection ended in order, and with it a response that ends like this (RFC 9112 6.3, 8). Where a hole hides how
    /// it is framed, all that passed was part of it if no other can have been.
    pub(super) fn end_with_connection(&mut self, found: &mut Vec<Finding>) {
        let all_of_it = match self.ending {
            Ending::Ahead => true,
            Ending::Perhaps => self.open.len() == 1 && !self.pipelined,
            Ending::PerhapsLongAgo => false,
        };
        if self.answering && all_of_it && !self.broken {
            self.finish(End::Complete, found);
        }
    }

    /// Nothing that is open will be answered any more.
    pub(super) fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        while let Some(front) = self.open.front() {
            let untold =
                if self.answering { self.ending != Ending::Ahead } else { front.serial < self.doubtful_before };
            if self.broken {
                self.lose(LossReason::Unparsable, found);
            } else if untold {
                self.lose(LossReason::ResponseMissing, found);
            } else {
                self.finish(End::Closed(why, at), found);
            }
        }
    }

    /// Those that began before `oldest` are not waited for any longer. They stay, so that their responses are not taken for
    /// others'.
    pub(super) fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        let mut answering = self.answering;
        for open in &mut self.open {
            let untold = if std::mem::take(&mut answering) {
                self.ending != Ending::Ahead
            } else {
                open.serial < self.doubtful_before
            };
            let Some(mut exchange) = open.exchange.take_if(|exchange| exchange.request_start.nanos < oldest) else {
                continue;
            };
            self.unreported -= 1;
            found.push(if untold {
                Finding::Lost(Lost { start: exchange.request_start, reason: LossReason::ResponseMissing })
            } else {
                exchange.end = End::Closed(Close::Aged, at);
                Finding::Exchange(exchange)
            });
        }
    }

    /// The connection stopped making sense: what is open can't be told.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }
}
