//! Requests, from where they begin to their spans.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use onlooker_common::owner::MessageIds;
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_protocols::{Begun, Direction, End, Exchange, LossReason, Lost, Moment};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Surroundings;
use crate::connections::{Listener, Origin, Place};
use crate::describe::{self, describe};
use crate::model::clock::{Clock, Reading};
use crate::model::counters::Counters;
use crate::model::service::{PendingService, Service};
use crate::model::sink::Finished;
use crate::model::span::{Description, Ends, Role, Span};
use crate::parent::{NodeId, Parents};
use crate::route::Routes;

/// How long an exchange waits after its end until it is settled: its other end's records, its caller's, and the proof
/// that its process runs a loop come by other processors, at most one look at the ring later.
const SETTLE: u64 = 50_000_000;

/// How long it waits beyond that to know whose it is: a span is to be exported within a second of its end.
const PATIENCE: u64 = 500_000_000;

/// How many may wait for that: what has no room goes by what is known of it.
const MOST_WAITING: usize = 16_384;

/// Every request that is not a span yet.
#[derive(Debug)]
pub(super) struct Requests<S> {
    pub(super) surroundings: S,
    parents: Parents,
    clock: Clock,
    settling: VecDeque<Settling>,
    /// What is settled but for whose it is.
    waiting: Vec<Settling>,
    routes: ServiceRoutes,
    /// Processes that make calls: the kernel wants to know which of their requests are complete.
    calling: FxHashSet<u32>,
    /// Where the next span is described: in the memory of the last.
    description: Description,
    counters: Arc<Counters>,
}

/// An exchange that is over and waits for what belongs to it.
#[derive(Debug)]
struct Settling {
    due: u64,
    node: NodeId,
    whose: PendingService,
    ends: Arc<Ends>,
    start: u64,
    end: u64,
    exchange: Box<Exchange>,
}

impl<S: Surroundings> Requests<S> {
    pub(super) fn new(surroundings: S, reading: Reading, counters: Arc<Counters>) -> Self {
        Self {
            surroundings,
            parents: Parents::default(),
            clock: Clock::new(reading),
            settling: VecDeque::new(),
            waiting: Vec::new(),
            routes: ServiceRoutes::default(),
            calling: FxHashSet::default(),
            description: Description::default(),
            counters,
        }
    }

    /// A process was seen to run an event loop.
    pub(super) fn runs_loop(&mut self, tgid: u32) {
        self.parents.runs_loop(tgid);
    }

    pub(super) fn process(&mut self, process: &ProcessChange) {
        match process.change {
            // What its threads prove is another program's.
            lifecycle::EXEC => self.parents.process_ended(process.tgid, process.time),
            lifecycle::CALLS => {
                self.calling.insert(process.tgid);
            }
            lifecycle::EXIT => {
                self.parents.process_ended(process.tgid, process.time);
                self.calling.remove(&process.tgid);
            }
            _ => {}
        }
        self.surroundings.process(process);
    }

    pub(super) fn clock_is(&mut self, reading: Reading) {
        if let Some(step) = self.clock.observe(reading) {
            tracing::info!(nanos = step, "the wall clock was set");
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.settling.is_empty() || self.waits_for_services()
    }

    pub(super) fn waits_for_services(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Settles what is due `by` then, if it is known whose it is or was waited for until `now`.
    pub(super) fn settle_due(&mut self, by: u64, now: u64, mut made: impl FnMut(Finished<'_>)) {
        self.parents.advance(by);
        while self.settling.front().is_some_and(|settling| settling.due <= by) {
            let Some(settling) = self.settling.pop_front() else { break };
            if settling.whose.service().is_some() || self.waiting.len() >= MOST_WAITING {
                self.settle(settling, &mut made);
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
            self.settle(settling, &mut made);
        }
    }

    fn settle(&mut self, settling: Settling, made: &mut impl FnMut(Finished<'_>)) {
        let Settling { node, whose, ends, start, end, exchange, .. } = settling;
        let answered = exchange.response_start.is_some();
        let Some(settled) = self.parents.settle(node, start, end, answered) else { return };
        if settled.found_late {
            self.counters.parents_found_late.add(1);
        }
        if settled.left_to_sdk {
            self.counters.spans_left_to_sdk.add(1);
            return;
        }
        let service = Arc::clone(whose.service().unwrap_or_else(|| whose.give_up()));
        self.counters.spans_of_unknown_service.add(u64::from(!whose.is_answered()));
        describe(&exchange, &ends, self.routes.of(&service), &mut self.description);
        let Description { name, status, attributes } = std::mem::take(&mut self.description);
        let (start, end) = self.clock.wall(settled.start, settled.end);
        let span = Span {
            trace_id: settled.trace_id,
            span_id: settled.span_id,
            parent: settled.parent,
            trace_state: settled.trace_state,
            kind: describe::kind(&exchange, ends.role),
            name,
            start,
            end,
            status,
            attributes,
            links: settled.link.into_iter().collect(),
            service,
        };
        made(Finished { span: &span, exchange: &exchange, ends: &ends });
        self.description = Description { name: span.name, status: span.status, attributes: span.attributes };
    }

    fn abandon(&mut self, cookie: u64, position: u64) {
        if self.parents.abandon(cookie, position).was_parent {
            self.counters.parents_lost.add(1);
        }
    }
}

impl<S: Surroundings> Listener for Requests<S> {
    fn begun(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>) {
        self.counters.requests_begun.add(1);
        let tgid = origin.map_or(place.tgid, |origin| origin.tgid);
        self.parents.begin(Place { tgid, ..place }, begun, origin);
    }

    fn goes_on(&mut self, place: Place, start: Moment, message: &MessageIds) {
        self.parents.goes_on(place.cookie, start.position, message.span_id);
    }

    fn pipelined(&mut self, place: Place) {
        // The answers of one run are several: the budget for one would cut the later ones' heads off.
        self.surroundings.raise(place.cookie);
    }

    /// It waits to be settled.
    fn exchanged(&mut self, place: Place, exchange: Box<Exchange>, ends: Arc<Ends>, still_open: usize) {
        let start = exchange.request_start.nanos;
        let last = exchange.response_end.map_or(exchange.request_end.nanos, |end| end.nanos);
        let end = match exchange.end {
            End::Complete => last,
            // What happened after the last byte is the connection's idleness, unless the answer was still awaited.
            End::Closed(_, closed) => closed.nanos.max(last),
        }
        .max(start);
        let complete = matches!(exchange.end, End::Complete);
        let Some(node) = self.parents.finish(place.cookie, exchange.request_start.position, end, complete) else {
            // It was heard that it began.
            debug_assert!(false, "{place:?} has no request at {:?}", exchange.request_start);
            return;
        };
        if place.role == Role::Server && still_open == 0 && self.calling.contains(&place.tgid) {
            self.surroundings.completed(place.cookie, exchange.request_end.position);
        }
        let whose = self.surroundings.whose(place.tgid);
        self.settling.push_back(Settling { due: end + SETTLE, node, whose, ends, start, end, exchange });
    }

    fn lost(&mut self, place: Place, lost: Lost) {
        let counter = match lost.reason {
            LossReason::RequestHeadMissing => &self.counters.requests_lost_head_missing,
            LossReason::ResponseMissing => &self.counters.requests_lost_response_missing,
            LossReason::Unparsable => &self.counters.requests_lost_unparsable,
            LossReason::TooManyOpen => &self.counters.requests_lost_too_many_open,
        };
        counter.add(1);
        self.abandon(place.cookie, lost.start.position);
    }

    fn head_cut(&mut self, place: Place, direction: Direction) {
        // The next one will hardly be shorter, on this connection or another of the same program.
        self.surroundings.raise(place.cookie);
        self.surroundings.raise_process(place.tgid, direction);
    }

    fn untold(&mut self, place: Place, start: Moment) {
        self.counters.requests_untold.add(1);
        self.abandon(place.cookie, start.position);
    }

    fn forgotten(&mut self, place: Place) {
        self.parents.connection_ended(place.cookie);
        self.surroundings.forget(place.cookie);
    }
}

/// The routes that each service has shown.
#[derive(Debug)]
struct ServiceRoutes {
    known: FxHashMap<usize, (Weak<Service>, Routes)>,
    /// So many services are known before those that are gone are looked for: where many are there, looking costs.
    swept_at: usize,
}

impl Default for ServiceRoutes {
    fn default() -> Self {
        Self { known: FxHashMap::default(), swept_at: Self::KEPT }
    }
}

impl ServiceRoutes {
    /// Services kept whether they are gone or not.
    const KEPT: usize = 1024;

    fn of(&mut self, service: &Arc<Service>) -> &mut Routes {
        let place = Arc::as_ptr(service).addr();
        if self.known.len() >= self.swept_at && !self.known.contains_key(&place) {
            self.known.retain(|_, (service, _)| service.strong_count() > 0);
            self.swept_at = Self::KEPT.max(2 * self.known.len());
        }
        // The weak reference keeps the place from being another service's.
        let (_, routes) = self.known.entry(place).or_insert_with(|| (Arc::downgrade(service), Routes::default()));
        routes
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::Resource;

    use super::*;

    fn service() -> Arc<Service> {
        Arc::new(Service { name: "shop".to_owned(), resource: Resource::builder_empty().build() })
    }

    #[test]
    fn services_that_are_gone_are_looked_for_when_there_are_twice_as_many() {
        let mut routes = ServiceRoutes::default();
        let there: Vec<_> = std::iter::repeat_with(service).take(ServiceRoutes::KEPT).collect();
        for service in &there {
            routes.of(service);
        }
        let gone = service();
        routes.of(&gone);
        assert_eq!(routes.swept_at, 2 * ServiceRoutes::KEPT, "nobody was gone");
        drop(gone);
        while routes.known.len() < 2 * ServiceRoutes::KEPT {
            routes.of(&service());
        }
        routes.of(&there[0]);
        assert_eq!(routes.known.len(), 2 * ServiceRoutes::KEPT, "a known one is no reason to look");
        routes.of(&service());
        assert_eq!(routes.known.len(), ServiceRoutes::KEPT + 1);
    }
}
