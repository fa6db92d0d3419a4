//! An open request, from its head to the exchange that it becomes.

use super::head::ResponseHead;
use crate::facts::Http;
use crate::grpc::{Call, Trailers};
use crate::kit::in_order;
use crate::kit::pieces::Content;
use crate::{Direction, Exchange, Facts, Moment};

/// A request that was announced and waits for its response.
#[derive(Debug)]
pub(super) struct Open {
    /// Boxed from the beginning, because it is too large to be moved about.
    pub(super) exchange: Box<Exchange>,
    /// The run of the last byte seen.
    pub(super) last_run: u32,
    /// `Expect: 100-continue`
    pub(super) expects_continue: bool,
    /// More of its body is to come.
    pub(super) is_sending: bool,
    /// Some of its body has passed.
    pub(super) has_body: bool,
    /// What its bodies hold, if it is a call.
    pub(super) call: Option<Box<Call>>,
}

impl in_order::Open for Open {
    const SHARED: bool = false;
    const BATCHED: bool = false;

    fn start(&self) -> Moment {
        self.exchange.request_start
    }

    fn last_run(&self) -> u32 {
        self.last_run
    }
}

impl Open {
    /// More of the request's body passed.
    pub(super) fn sent(&mut self, until: Moment, content: Option<u64>) {
        self.last_run = until.run;
        self.exchange.request_end = until;
        self.has_body |= content != Some(0);
        match (&mut self.exchange.facts, &mut self.call) {
            (Facts::Http(http), _) => add(&mut http.request_body, content),
            (_, Some(call)) if content.is_none() => call.lose(Direction::ToServer),
            _ => {}
        }
    }

    /// Content of a body passes.
    pub(super) fn read(&mut self, direction: Direction, content: Content<'_>) {
        if let Some(call) = &mut self.call {
            call.pass(direction, content);
        }
    }

    /// Whether bytes in `run` can belong to its body if nothing but their place says so. The conversation turns amid a
    /// request only for a 100 (Continue).
    pub(super) fn may_continue_in(&self, run: u32) -> bool {
        let waited = self.expects_continue && self.last_run == self.exchange.request_start.run;
        run == self.last_run || (waited && run == self.last_run.wrapping_add(2))
    }

    /// More of its response's body passed.
    pub(super) fn received(&mut self, until: Moment, content: Option<u64>) {
        self.exchange.response_end = Some(until);
        match (&mut self.exchange.facts, &mut self.call) {
            (Facts::Http(http), _) => add(&mut http.response_body, content),
            (_, Some(call)) if content.is_none() => call.lose(Direction::ToClient),
            _ => {}
        }
    }

    /// The head of the final response passed. `end` is just past what was seen of it.
    pub(super) fn respond(&mut self, head: &ResponseHead<'_>, start: Moment, end: Moment, body: Option<u64>) {
        self.exchange.response_start = Some(start);
        self.exchange.response_end = Some(end);
        match (&mut self.exchange.facts, &mut self.call) {
            (Facts::Http(http), _) => (http.status, http.response_body) = (Some(head.status), body),
            (_, Some(call)) => {
                call.respond(Some(head.status));
                if let Some(status) = head.fields.grpc_status {
                    let mut trailers = Trailers::default();
                    trailers.set(status);
                    call.trailers(trailers);
                }
            }
            _ => {}
        }
    }

    /// The exchange. Nothing more of it is awaited.
    pub(super) fn finish(mut self) -> Box<Exchange> {
        if let (Facts::Rpc(rpc), Some(call)) = (&mut self.exchange.facts, &mut self.call) {
            if self.is_sending {
                // It was answered early, or its end passed in a hole that has not shown yet.
                call.lose(Direction::ToServer);
            }
            call.finish(rpc, None);
        }
        self.exchange
    }

    pub(super) fn method(&self) -> &str {
        match &self.exchange.facts {
            Facts::Http(http) => &http.method,
            _ => "",
        }
    }

    /// Whether the client announced a body and waits for permission to send it.
    pub(super) fn waits_to_send(&self) -> bool {
        self.expects_continue && !self.has_body
    }
}

/// The details that every exchange here has.
pub(super) fn http(exchange: &mut Exchange) -> Option<&mut Http> {
    match &mut exchange.facts {
        Facts::Http(http) => Some(http),
        _ => None,
    }
}

/// Adds to a count. Once a hole hid some of it, the count is unknown.
fn add(count: &mut Option<u64>, content: Option<u64>) {
    *count = count.zip(content).map(|(before, more)| before.saturating_add(more));
}
