//! The line from records to spans: strictly forward, on one thread, nothing queued that is not bounded.
//!
//! A record goes to the `stream` of its connection; what that finds is given its place among the `parent`s, waits a
//! moment until it is settled, is described, given its service and handed to `export`.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use onlooker_common::decode::Event;
use onlooker_common::event::{self, flag, lifecycle};
use onlooker_protocols::{End, Exchange, LossReason};
use opentelemetry::trace::SpanKind;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clock::{Clock, Reading};
use crate::describe::describe;
use crate::enrich::{Service, Whose};
use crate::metrics::Metrics;
use crate::parent::{NodeId, Parents, Place};
use crate::route::Routes;
use crate::span::{Ends, Role, Span};
use crate::stream::{Connection, Happening, Learnt, Limits, Streams};

/// How long an exchange waits after its end until it is settled: its other end's records, its caller's, and the proof
/// that its process runs a loop come by other processors, at most one look at the ring later.
const SETTLE: u64 = 50_000_000;

/// How long it waits beyond that to know whose it is: a span is to be exported within a second of its end.
const PATIENCE: u64 = 500_000_000;

/// How many may wait for that: what has no room goes by what is known of it.
const MOST_WAITING: usize = 16_384;

/// What the pipeline asks and tells the world outside: so that it runs as well without a kernel.
pub trait Surroundings {
    /// Whose span it is, now or soon.
    fn whose(&mut self, tgid: u32) -> Whose;
    /// Every request of the connection that begins before `until` is complete.
    fn completed(&mut self, cookie: u64, until: u64);
    /// As many bytes of the connection's runs are wanted as can be captured.
    fn raise(&mut self, cookie: u64);
    /// The connection is over.
    fn forget(&mut self, cookie: u64);
    /// A process changed.
    fn process(&mut self, process: &event::Process);
}

/// Records in, spans out.
#[derive(Debug)]
pub struct Pipeline<S> {
    pub surroundings: S,
    streams: Streams,
    parents: Parents,
    clock: Clock,
    settling: VecDeque<Settling>,
    /// What is settled but for whose it is.
    waiting: Vec<Settling>,
    routes: ServiceRoutes,
    /// Processes that make calls: the kernel wants to know which of their requests are complete.
    calling: FxHashSet<u32>,
    happened: Vec<Happening>,
    ended: Vec<u64>,
    /// What is ready to be sent. The owner takes it.
    pub spans: Vec<Span>,
    metrics: Arc<Metrics>,
    clock_read: u64,
    latest: u64,
}

/// An exchange that is over and waits for what belongs to it.
#[derive(Debug)]
struct Settling {
    due: u64,
    node: NodeId,
    whose: Whose,
    ends: Ends,
    start: u64,
    end: u64,
    exchange: Box<Exchange>,
}

impl<S: Surroundings> Pipeline<S> {
    /// `reading` is that of the clocks now.
    pub fn new(surroundings: S, limits: Limits, reading: Reading, metrics: Arc<Metrics>) -> Self {
        Self {
            surroundings,
            streams: Streams::new(limits, metrics.clone()),
            parents: Parents::default(),
            clock: Clock::new(reading),
            settling: VecDeque::new(),
            waiting: Vec::new(),
            routes: ServiceRoutes::default(),
            calling: FxHashSet::default(),
            happened: Vec::new(),
            ended: Vec::new(),
            spans: Vec::new(),
            metrics,
            clock_read: reading.monotonic,
            latest: 0,
        }
    }

    /// Takes one record of the ring.
    pub fn record(&mut self, bytes: &[u8]) {
        self.metrics.events.add(1);
        let event = Event::decode(bytes);
        let time = match &event {
            Ok(Event::Segment(segment, _)) => segment.time,
            Ok(Event::Connection(connection)) => connection.time,
            Ok(Event::Process(process)) => process.time,
            Err(_malformed) => 0,
        };
        self.latest = self.latest.max(time);
        match event {
            Ok(Event::Segment(segment, captured)) => {
                if segment.flags & flag::LOOP != 0 {
                    self.parents.runs_loop(segment.tgid);
                }
                self.streams.segment(segment, captured, &mut self.happened);
            }
            Ok(Event::Connection(connection)) => self.streams.change(connection, &mut self.happened),
            Ok(Event::Process(process)) => self.process(process),
            Err(_malformed) => self.metrics.events_malformed.add(1),
        }
        if !self.happened.is_empty() {
            self.follow();
        }
    }

    fn process(&mut self, process: &event::Process) {
        match process.change {
            // What its threads prove is another program's.
            lifecycle::EXEC => self.parents.process_ended(process.tgid),
            lifecycle::CALLS => {
                self.calling.insert(process.tgid);
            }
            lifecycle::EXIT => {
                self.streams.process_ended(process.tgid, process.time);
                self.parents.process_ended(process.tgid);
                self.calling.remove(&process.tgid);
            }
            _ => {}
        }
        self.surroundings.process(process);
    }

    /// Lets time pass until `now` (kernel monotonic): closes, gives up and settles what is due.
    pub fn advance(&mut self, now: u64) {
        /// Steps of the wall clock are looked for this often.
        const CLOCK_INTERVAL: u64 = 1_000_000_000;
        if now.saturating_sub(self.clock_read) >= CLOCK_INTERVAL {
            self.clock_read = now;
            match Reading::now() {
                Ok(reading) => {
                    if let Some(step) = self.clock.observe(reading) {
                        tracing::info!(nanos = step, "the wall clock was set");
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot read the clock"),
            }
        }
        self.streams.advance(now, &mut self.happened, &mut self.ended);
        self.follow();
        for cookie in std::mem::take(&mut self.ended) {
            self.parents.connection_ended(cookie);
            self.surroundings.forget(cookie);
        }
        self.settle_due(now, now);
    }

    /// Settles what is due `by` then, if it is known whose it is or was waited for until `now`.
    fn settle_due(&mut self, by: u64, now: u64) {
        while self.settling.front().is_some_and(|settling| settling.due <= by) {
            let Some(settling) = self.settling.pop_front() else { break };
            if settling.whose.service().is_some() || self.waiting.len() >= MOST_WAITING {
                self.settle(settling);
            } else {
                self.waiting.push(settling);
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        let over = |settling: &mut Settling| {
            settling.whose.service().is_some() || settling.due.saturating_add(PATIENCE) <= now
        };
        for settling in self.waiting.extract_if(.., over).collect::<Vec<_>>() {
            self.settle(settling);
        }
    }

    /// Time of the newest record that was taken (kernel monotonic).
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Whether something waits for its time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.settling.is_empty() || self.waits_for_services()
    }

    /// Whether something waits only to know whose it is.
    #[must_use]
    pub fn waits_for_services(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Ends everything that is open, as of `now`, and settles it. What waits to know whose it is goes on to wait.
    pub fn shutdown(&mut self, now: u64) {
        self.streams.shutdown(now, &mut self.happened);
        self.follow();
        self.settle_due(u64::MAX, now);
    }

    /// Gives what the streams found its place.
    fn follow(&mut self) {
        let mut happened = std::mem::take(&mut self.happened);
        for Happening { cookie, tgid, role, learnt } in happened.drain(..) {
            match learnt {
                Learnt::Begun(begun, origin) => {
                    self.metrics.requests_begun.add(1);
                    let tgid = origin.map_or(tgid, |origin| origin.tgid);
                    let place = Place { cookie, tgid, role };
                    self.parents.begin(place, &begun, origin.as_ref());
                    if self.streams.get_mut(cookie).is_some_and(Connection::pipelines) {
                        // The answers of one run are several: the budget for one would cut the later ones' heads off.
                        self.surroundings.raise(cookie);
                    }
                }
                Learnt::Exchange(exchange, ends) => self.over(cookie, tgid, ends, exchange),
                Learnt::Lost(lost) => {
                    self.lost(lost.reason);
                    if lost.reason == LossReason::RequestHeadMissing {
                        // The next one on the connection will hardly be shorter.
                        self.surroundings.raise(cookie);
                    }
                    self.parents.abandon(cookie, lost.start.position);
                }
                Learnt::Untold(start) => {
                    self.metrics.requests_untold.add(1);
                    self.parents.abandon(cookie, start.position);
                }
            }
        }
        self.happened = happened;
    }

    fn lost(&self, reason: LossReason) {
        let counter = match reason {
            LossReason::RequestHeadMissing => &self.metrics.requests_lost_head_missing,
            LossReason::ResponseMissing => &self.metrics.requests_lost_response_missing,
            LossReason::Unparsable => &self.metrics.requests_lost_unparsable,
            LossReason::TooManyOpen => &self.metrics.requests_lost_too_many_open,
        };
        counter.add(1);
    }

    /// An exchange is over: it waits to be settled.
    fn over(&mut self, cookie: u64, tgid: u32, ends: Ends, exchange: Box<Exchange>) {
        let start = exchange.request_start.nanos;
        let last = exchange.response_end.map_or(exchange.request_end.nanos, |end| end.nanos);
        let end = match exchange.end {
            End::Complete => last,
            // What happened after the last byte is the connection's idleness, unless the answer was still awaited.
            End::Closed(_, closed) => closed.nanos.max(last),
        }
        .max(start);
        let Some(node) = self.parents.find(cookie, exchange.request_start.position) else { return };
        self.parents.finish(node, end);
        let all_answered = || self.streams.get(cookie).is_some_and(|connection| connection.open_requests() == 0);
        if ends.role == Role::Server && self.calling.contains(&tgid) && all_answered() {
            self.surroundings.completed(cookie, exchange.request_end.position);
        }
        let whose = self.surroundings.whose(tgid);
        self.settling.push_back(Settling { due: end + SETTLE, node, whose, ends, start, end, exchange });
    }

    fn settle(&mut self, settling: Settling) {
        let Settling { node, whose, ends, start, end, exchange, .. } = settling;
        let Some(settled) = self.parents.settle(node, start, end) else { return };
        if settled.found_late {
            self.metrics.parents_found_late.add(1);
        }
        if settled.left_to_sdk {
            self.metrics.spans_left_to_sdk.add(1);
            return;
        }
        let service = Arc::clone(whose.service().unwrap_or_else(|| whose.give_up()));
        self.metrics.spans_of_unknown_service.add(u64::from(!whose.is_answered()));
        let description = describe(*exchange, &ends, self.routes.of(&service));
        let (start, end) = self.clock.wall(settled.start, settled.end);
        self.spans.push(Span {
            trace_id: settled.trace_id,
            span_id: settled.span_id,
            parent: settled.parent,
            trace_state: settled.trace_state,
            kind: match ends.role {
                Role::Client => SpanKind::Client,
                Role::Server => SpanKind::Server,
            },
            name: description.name,
            start,
            end,
            status: description.status,
            attributes: description.attributes,
            links: settled.link.into_iter().collect(),
            service,
        });
    }
}

/// The routes that each service has shown.
#[derive(Debug, Default)]
struct ServiceRoutes(FxHashMap<usize, (Weak<Service>, Routes)>);

impl ServiceRoutes {
    /// Services kept before those that are gone are looked for.
    const KEPT: usize = 1024;

    fn of(&mut self, service: &Arc<Service>) -> &mut Routes {
        if self.0.len() >= Self::KEPT {
            self.0.retain(|_, (service, _)| service.strong_count() > 0);
        }
        // The weak reference keeps the place from being another service's.
        let (_, routes) =
            self.0.entry(Arc::as_ptr(service).addr()).or_insert_with(|| (Arc::downgrade(service), Routes::default()));
        routes
    }
}

#[cfg(test)]
mod tests;
