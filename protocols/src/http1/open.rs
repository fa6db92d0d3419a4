//! An open request, from its head to the exchange that it becomes.

use crate::facts::Http;
use crate::kit::in_order;
use crate::{Exchange, Facts, Moment};

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
        if let Some(http) = http(&mut self.exchange) {
            add(&mut http.request_body, content);
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
        if let Some(http) = http(&mut self.exchange) {
            add(&mut http.response_body, content);
        }
    }

    /// The head of the final response passed. `end` is just past what was seen of it.
    pub(super) fn respond(&mut self, status: u16, start: Moment, end: Moment, body: Option<u64>) {
        self.exchange.response_start = Some(start);
        self.exchange.response_end = Some(end);
        if let Some(http) = http(&mut self.exchange) {
            http.status = Some(status);
            http.response_body = body;
        }
    }

    pub(super) fn method(&self) -> &str {
        match &self.exchange.facts {
            Facts::Http(http) => &http.method,
            _ => "",
        }
    }

    /// Whether the client announced a body and waits for permission to send it.
    pub(super) fn waits_to_send(&self) -> bool {
        self.expects_continue && matches!(&self.exchange.facts, Facts::Http(http) if http.request_body == Some(0))
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
