//! One request on its way, from its head to the exchange it becomes.

use super::Http;
use crate::{Details, Exchange, Moment};

/// A request whose head is complete, and that was announced.
#[derive(Debug)]
pub(super) struct NewRequest {
    /// The exchange it begins; in a box from the beginning, as it is too large to be moved about.
    pub(super) exchange: Box<Exchange>,
    pub(super) expects_continue: bool,
    /// Requests before it may have been missed.
    pub(super) after_hole: bool,
    pub(super) has_body: bool,
}

/// A request until it is answered.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) serial: u64,
    /// The runs of the request's first and last bytes.
    pub(super) first_run: u32,
    pub(super) last_run: u32,
    pub(super) expects_continue: bool,
    /// Requests may be missing between this and the one before it.
    pub(super) after_hole: bool,
    /// `None` if it is reported already, and only kept so that its response is not taken for another's.
    pub(super) exchange: Option<Box<Exchange>>,
}

impl Open {
    /// More of the request's body passed.
    pub(super) fn sent(&mut self, until: Moment, content: Option<u64>) {
        self.last_run = until.run;
        let Some(exchange) = &mut self.exchange else { return };
        exchange.request_end = until;
        if let Some(http) = http(exchange) {
            add(&mut http.request_body, content);
        }
    }

    /// More of its response passed.
    pub(super) fn heard(&mut self, until: Moment, content: Option<u64>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.response_end = Some(until);
        if let Some(http) = http(exchange) {
            add(&mut http.response_body, content);
        }
    }

    /// The final response's head: `end` is just past it, or just past what was seen of it.
    pub(super) fn respond(&mut self, status: u16, start: Moment, end: Moment, body: Option<u64>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.response_start = Some(start);
        exchange.response_end = Some(end);
        if let Some(http) = http(exchange) {
            http.status = Some(status);
            http.response_body = body;
        }
    }

    pub(super) fn method(&self) -> &str {
        match self.exchange.as_ref().map(|exchange| &exchange.details) {
            Some(Details::Http1(http)) => &http.method,
            _ => "",
        }
    }

    /// The client announced a body, and waits to hear whether to send it.
    pub(super) fn waits_to_send(&self) -> bool {
        let details = self.exchange.as_ref().map(|exchange| &exchange.details);
        self.expects_continue && matches!(details, Some(Details::Http1(http)) if http.request_body == Some(0))
    }
}

/// What an exchange here always is.
pub(super) fn http(exchange: &mut Exchange) -> Option<&mut Http> {
    match &mut exchange.details {
        Details::Http1(http) => Some(http),
        _ => None,
    }
}

/// Adds to a count that a hole makes unknown for good.
fn add(count: &mut Option<u64>, content: Option<u64>) {
    *count = count.zip(content).map(|(before, more)| before.saturating_add(more));
}
