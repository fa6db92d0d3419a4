//! Matches replies with requests, in order; and what is said without having been asked for.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::Command;
use super::command::Request;
use super::frame::{Kind, Token};
use crate::exchange::{Begun, Details, End, Exchange, Finding, LossReason, Lost};
use crate::parser::{Close, Moment};

/// Requests open at once: deeper pipelines are counted.
const MOST_OPEN: usize = 4096;

/// What the connection knows of itself.
#[derive(Debug)]
pub(super) struct Session {
    open: VecDeque<Open>,
    database: Option<u32>,
    silence: Silence,
    /// MONITOR was asked for: what comes unasked is its.
    monitors: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    No,
    /// CLIENT REPLY SKIP: not for the next command.
    Next,
    /// CLIENT REPLY OFF.
    UntilOn,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct Open {
    request: Request,
    /// Confirmations to come: SUBSCRIBE has one for each channel.
    replies: u64,
    first: Option<Moment>,
}

/// A reply, whole.
#[derive(Debug)]
pub(super) struct Reply {
    start: Moment,
    end: Moment,
    kind: Kind,
    /// First word of an error.
    error: CompactString,
    /// First string of an aggregate: what a push is.
    first: CompactString,
}

/// Puts replies together from their tokens.
#[derive(Debug, Default)]
pub(super) struct Replies {
    start: Option<Moment>,
    kind: Option<Kind>,
    error: CompactString,
    first: Option<CompactString>,
}

impl Replies {
    /// Bytes of a reply pass that finish nothing yet.
    pub(super) fn begin(&mut self, at: Moment) {
        self.start.get_or_insert(at);
    }

    /// Takes a token that passed from `at` to `end`; gives the reply that it finished.
    pub(super) fn token(&mut self, token: &Token, at: Moment, end: Moment) -> Option<Reply> {
        self.begin(at);
        // An attribute is not the reply: what follows it is.
        let outermost = token.depth == 0 || self.kind == Some(Kind::Attribute);
        if outermost && (self.kind.is_none() || self.kind == Some(Kind::Attribute)) {
            self.kind = Some(token.kind);
        }
        if token.depth == 0 && token.kind == Kind::Error {
            self.error = first_word(&token.text);
        }
        if token.depth == 1 && token.kind == Kind::Scalar && self.first.is_none() {
            self.first = Some(CompactString::from_utf8_lossy(&token.text));
        }
        if !token.ends_value {
            return None;
        }
        let Self { start, kind, error, first } = std::mem::take(self);
        Some(Reply {
            start: start.unwrap_or(at),
            end,
            kind: kind.unwrap_or(token.kind),
            error,
            first: first.unwrap_or_default(),
        })
    }
}

/// The error's code: a word in capitals by convention, so that nothing else of the message is kept.
fn first_word(text: &[u8]) -> CompactString {
    let word = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let is_code = word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
    CompactString::from_utf8_lossy(if is_code && !word.is_empty() { word } else { b"ERR" })
}

/// How many confirmations a command of the SUBSCRIBE family has; none for other commands.
fn confirmations(request: &Request) -> Option<u64> {
    matches!(
        request.name.as_str(),
        "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE"
    )
    .then(|| request.arguments.max(1))
}

impl Session {
    pub(super) fn new(from_start: bool) -> Self {
        Self {
            open: VecDeque::new(),
            // The first one, unless something was SELECTed before we came.
            database: from_start.then_some(0),
            silence: Silence::No,
            monitors: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn asked(&mut self, request: Request, found: &mut Vec<Finding>) {
        found.push(Finding::Begun(Begun { start: request.start, context: None, correlation: None }));
        self.monitors |= request.name == "MONITOR";
        let silent = match (request.subcommand, request.choice.as_str()) {
            (Some("REPLY"), "OFF") => {
                self.silence = Silence::UntilOn;
                true
            }
            (Some("REPLY"), "SKIP") => {
                self.silence = Silence::Next;
                true
            }
            (Some("REPLY"), "ON") => {
                self.silence = Silence::No;
                false
            }
            _ => match self.silence {
                Silence::No => false,
                Silence::Next => {
                    self.silence = Silence::No;
                    true
                }
                Silence::UntilOn => true,
            },
        };
        if silent {
            found.push(self.exchange(request, None, None, CompactString::default(), End::Complete));
            return;
        }
        if self.open.len() == MOST_OPEN {
            found.push(Finding::Lost(Lost { start: request.start, reason: LossReason::TooManyOpen }));
            return;
        }
        let replies = confirmations(&request).unwrap_or(1);
        self.open.push_back(Open { request, replies, first: None });
    }

    pub(super) fn answered(&mut self, reply: Reply, found: &mut Vec<Finding>) {
        let confirms = matches!(
            reply.first.as_str(),
            "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe"
        );
        let waits = self.open.front().is_some_and(|open| confirmations(&open.request).is_some());
        let message = matches!(reply.first.as_str(), "message" | "pmessage" | "smessage");
        // In RESP3 told as pushes, in RESP2 as arrays that may come between replies.
        if (reply.kind == Kind::Push && !(confirms && waits))
            || (reply.kind == Kind::Aggregate && message && !self.wants_array())
        {
            return;
        }
        let Some(open) = self.open.front_mut() else {
            if !self.monitors && !confirms {
                found.push(Finding::Orphan(reply.start));
            }
            return;
        };
        open.first.get_or_insert(reply.start);
        if confirms && waits && open.replies > 1 {
            open.replies -= 1;
            return;
        }
        let Some(Open { request, first, .. }) = self.open.pop_front() else { return };
        if request.name == "SELECT" && reply.error.is_empty() {
            self.database = request.choice.parse().ok();
        }
        if request.name == "RESET" && reply.error.is_empty() {
            self.database = Some(0);
        }
        found.push(self.exchange(request, first, Some(reply.end), reply.error, End::Complete));
    }

    /// Whether an array that looks like a message is an answer: only a subscriber is sent messages.
    fn wants_array(&self) -> bool {
        self.open.front().is_some_and(|open| confirmations(&open.request).is_none() && open.request.name != "PING")
    }

    /// A hole took requests: what was SELECTed or silenced in it is not known.
    pub(super) fn lost_requests(&mut self) {
        self.database = None;
    }

    /// Replies were lost before run `run`, which begins with one: it answers what was asked last.
    pub(super) fn lost_replies_before(&mut self, run: u32, found: &mut Vec<Finding>) {
        while self.open.front().is_some_and(|open| open.request.end.run.wrapping_add(1) < run || open.first.is_some()) {
            if let Some(open) = self.open.pop_front() {
                found.push(Finding::Lost(Lost { start: open.request.start, reason: LossReason::ResponseMissing }));
            }
        }
    }

    pub(super) fn close(&mut self, why: Close, at: Moment, replies_lost: bool, found: &mut Vec<Finding>) {
        while let Some(Open { request, first, .. }) = self.open.pop_front() {
            if replies_lost {
                found.push(Finding::Lost(Lost { start: request.start, reason: LossReason::ResponseMissing }));
            } else {
                let end = End::Closed(why, at);
                found.push(self.exchange(request, first, first, CompactString::default(), end));
            }
        }
    }

    fn exchange(
        &self,
        request: Request,
        response_start: Option<Moment>,
        response_end: Option<Moment>,
        error_code: CompactString,
        end: End,
    ) -> Finding {
        Finding::Exchange(Box::new(Exchange {
            request_start: request.start,
            request_end: request.end,
            response_start,
            response_end,
            end,
            details: Details::Redis(Command {
                operation: request.operation(),
                text: request.text(),
                database: self.database,
                error_code,
            }),
        }))
    }
}
