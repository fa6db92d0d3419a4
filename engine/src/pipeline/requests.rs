//! Requests, from where they begin to their spans.

use std::collections::VecDeque;
use std::sync::Arc;

use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_protocols::{Begun, End, Exchange, LossReason, Lost, Spec};
use rustc_hash::FxHashSet;

use super::routes::ServiceRoutes;
use super::surroundings::{Notice, Surroundings};
use crate::describe::{self, describe};
use crate::model::clock::{Clock, Reading};
use crate::model::counters::Counters;
use crate::model::service::{PendingService, PodMetadata, Service};
use crate::model::sink::Finished;
use crate::model::span::{Description, Ends, Role, Span};
use crate::observer::{Observer, Place, Report};
use crate::origin::Origin;
use crate::parent::{LeftOut, NodeId, Parents, Unjudged};

/// Nanoseconds from an exchange's end until it is settled. The records of its other end, of its caller and of its process
/// may come from other processors, at most one look at the ring later.
const SETTLE: u64 = 50_000_000;

/// Nanoseconds for which it then waits for its service. A span is to be exported within a second of its end.
const PATIENCE: u64 = 500_000_000;

/// Nanoseconds for which a span may wait for the responses to requests that may be its owner. A response that comes later
/// finds the span exported.
const RESPONSES_AWAITED: u64 = 10_000_000_000;

/// Exchanges that may wait for such responses. Others are settled with what is known.
const MOST_UNDECIDED: usize = 16_384;

/// Nanoseconds between two looks at the exchanges that wait for responses.
const LOOK: u64 = 10_000_000;

/// Exchanges that may wait for their service. Others get the fallback.
const MOST_WAITING: usize = 16_384;

/// Room for this many exchanges is kept when none is left. The rest of a burst's memory is given back.
const KEPT: usize = 1024;

/// A node has left the cache while its exchange waited. It is loaded while so many exchanges before it are settled.
const AHEAD: usize = 4;

/// Every request that is not a span yet.
#[derive(Debug)]
pub(super) struct Requests<S> {
    pub(super) surroundings: S,
    parents: Parents,
    clock: Clock,
    settling: VecDeque<Settling>,
    /// Exchanges whose owner is known once other requests have responses.
    undecided: Vec<Settling>,
    /// When these are looked at again.
    next_look: u64,
    /// Exchanges that wait for their service.
    waiting: Vec<Settling>,
    routes: ServiceRoutes,
    /// Processes that make calls. The kernel needs to know which of their requests are complete.
    calling: FxHashSet<u32>,
    /// The memory of the last description, for the next.
    description: Description,
    /// The service of the last span. It is nearly always that of the next one.
    last_service: Option<Arc<Service>>,
    /// Requests that have begun since they were last counted. The counters are shared with other threads.
    begun: u64,
    counters: Arc<Counters>,
}

/// An exchange that is over and waits to be settled. It is not boxed: these are read in the order in which they were
/// written, so they need no allocation each, and the processor loads the next one by itself.
#[derive(Debug)]
struct Settling {
    due: u64,
    node: NodeId,
    service: PendingService,
    ends: Arc<Ends>,
    start: u64,
    end: u64,
    exchange: Exchange,
}

impl<S: Surroundings> Requests<S> {
    pub(super) fn new(surroundings: S, reading: Reading, counters: Arc<Counters>) -> Self {
        Self {
            surroundings,
            parents: Parents::default(),
            clock: Clock::new(reading),
            settling: VecDeque::new(),
            undecided: Vec::new(),
            next_look: 0,
            waiting: Vec::new(),
            routes: ServiceRoutes::default(),
            calling: FxHashSet::default(),
            description: Description::default(),
            last_service: None,
            begun: 0,
            counters,
        }
    }

    /// A process runs an event loop.
    pub(super) fn runs_loop(&mut self, tgid: u32) {
        self.parents.runs_loop(tgid);
    }

    /// The process is a proxy.
    pub(super) fn is_proxy(&mut self, tgid: u32) {
        self.parents.is_proxy(tgid);
    }

    /// At `nanos` the process runs virtual threads, which are known, and no event loop.
    pub(super) fn runs_virtual_threads(&mut self, tgid: u32, nanos: u64) {
        self.parents.runs_virtual_threads(tgid, nanos);
    }

    pub(super) fn process(&mut self, process: &ProcessChange) {
        match process.change {
            // The threads of the new program prove something else.
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
        self.surroundings.take(Notice::ProcessChanged(process));
    }

    /// What its threads do from now on is not seen.
    pub(super) fn process_deselected(&mut self, tgid: u32, now: u64) {
        self.parents.process_ended(tgid, now);
        self.calling.remove(&tgid);
    }

    pub(super) fn clock_is(&mut self, reading: Reading) {
        if let Some(step) = self.clock.observe(reading) {
            tracing::info!(nanos = step, "the wall clock was set");
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.settling.is_empty() || !self.undecided.is_empty() || self.waits_for_services()
    }

    /// Whether processes make calls.
    pub(super) fn has_callers(&self) -> bool {
        !self.calling.is_empty()
    }

    pub(super) fn waits_for_services(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Settles what is due at `by`, if its service is known or has been waited for until `now`.
    pub(super) fn settle_due(&mut self, by: u64, now: u64, mut made: impl FnMut(Finished<'_>)) {
        self.counters.requests_begun.add(std::mem::take(&mut self.begun));
        self.parents.advance(by);
        self.counters.units_forgotten.add(self.parents.take_evicted_units());
        let mut settling = std::mem::take(&mut self.settling);
        while let Some(first) = settling.front()
            && first.due <= by
        {
            if let Some(ahead) = settling.get(AHEAD) {
                self.parents.prefetch(ahead.node);
            }
            let is_undecided = self.parents.is_undecided(first.node, by);
            if is_undecided && self.undecided.len() < MOST_UNDECIDED {
                self.undecided.extend(settling.pop_front());
                continue;
            }
            self.counters.parents_not_awaited.add(u64::from(is_undecided));
            if self.awaits_service(first) {
                self.waiting.extend(settling.pop_front());
            } else {
                self.settle(first, &mut made);
                settling.pop_front();
            }
        }
        if settling.is_empty() {
            settling.shrink_to(KEPT);
        }
        self.settling = settling;
        self.settle_decided(by, &mut made);
        if self.waiting.is_empty() {
            return;
        }
        let over = |settling: &mut Settling| {
            settling.service.service().is_some() || settling.due.saturating_add(PATIENCE) <= now
        };
        for settling in self.waiting.extract_if(.., over).collect::<Vec<_>>() {
            self.settle(&settling, &mut made);
        }
    }

    /// Settles what has waited for responses until `by`, if its owner is known or will not be.
    fn settle_decided(&mut self, by: u64, made: &mut impl FnMut(Finished<'_>)) {
        if self.undecided.is_empty() || by < self.next_look {
            return;
        }
        self.next_look = by.saturating_add(LOOK);
        let (parents, counters) = (&self.parents, &self.counters);
        let is_over = |settling: &mut Settling| {
            if !parents.is_undecided(settling.node, by) {
                return true;
            }
            let is_over = settling.due.saturating_add(RESPONSES_AWAITED) <= by;
            counters.parents_not_awaited.add(u64::from(is_over));
            is_over
        };
        for settling in self.undecided.extract_if(.., is_over).collect::<Vec<_>>() {
            if self.awaits_service(&settling) {
                self.waiting.push(settling);
            } else {
                self.settle(&settling, made);
            }
        }
    }

    /// Whether the exchange has to wait for its service, and may.
    fn awaits_service(&self, settling: &Settling) -> bool {
        settling.service.service().is_none() && self.waiting.len() < MOST_WAITING
    }

    fn settle(&mut self, settling: &Settling, made: &mut impl FnMut(Finished<'_>)) {
        let &Settling { node, ref service, ref ends, start, end, ref exchange, .. } = settling;
        let answered = exchange.response_start.is_some();
        if self.surroundings.is_restricted() && self.is_left_out(node) {
            return;
        }
        let Some(settled) = self.parents.settle(node, start, end, answered) else { return };
        if settled.found_late {
            self.counters.parents_found_late.add(1);
        }
        if settled.left_to_sdk {
            self.counters.spans_left_to_sdk.add(1);
            return;
        }
        self.counters.spans_of_unknown_service.add(u64::from(!service.is_examined()));
        let service = service.service().unwrap_or_else(|| service.give_up());
        match service.pod {
            PodMetadata::Complete => {}
            PodMetadata::WithoutContainer => self.counters.spans_without_container_name.add(1),
            PodMetadata::Unknown => self.counters.spans_without_pod.add(1),
        }
        // Changing the count of references takes longer than comparing.
        let last = self.last_service.take().filter(|last| Arc::ptr_eq(last, service));
        let service = last.unwrap_or_else(|| Arc::clone(service));
        describe(exchange, ends, self.routes.of(&service), &mut self.description);
        let Description { name, status, attributes } = std::mem::take(&mut self.description);
        let (start, end) = self.clock.wall(settled.start, settled.end);
        let span = Span {
            trace_id: settled.trace_id,
            span_id: settled.span_id,
            parent: settled.parent,
            trace_state: settled.trace_state,
            kind: describe::kind(exchange, ends.role),
            name,
            start,
            end,
            status,
            attributes,
            links: settled.link.into_iter().map(|link| *link).collect(),
            service,
        };
        made(Finished { span: &span, exchange, ends });
        self.description = Description { name: span.name, status: span.status, attributes: span.attributes };
        self.last_service = Some(span.service);
    }

    /// Whether the user wants no span of the request. If so, it is counted and forgotten.
    fn is_left_out(&mut self, node: NodeId) -> bool {
        match self.parents.leave_out(node) {
            None => return false,
            Some(LeftOut::Itself) => self.counters.requests_ignored.add(1),
            Some(LeftOut::WithRequestAbove) => self.counters.requests_below_ignored.add(1),
        }
        true
    }

    fn begin(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>, protocol: Option<&'static Spec>) {
        self.begun += 1;
        let tgid = origin.map_or(place.tgid, |origin| origin.tgid);
        let id = self.parents.begin(Place { tgid, ..place }, begun, origin);
        if self.surroundings.is_restricted() {
            let (service, path) = (self.surroundings.service(tgid), begun.path.clone());
            self.parents.may_be_left_out(id, Unjudged { service, protocol, path });
        }
        if place.role == Role::Client && self.parents.may_continue(tgid) {
            self.parents.made_by(id, self.surroundings.service(tgid));
        }
    }

    /// The exchange waits to be settled.
    fn end(&mut self, place: Place, exchange: Box<Exchange>, ends: Arc<Ends>, open: usize) {
        let start = exchange.request_start.nanos;
        let last = exchange.response_end.map_or(exchange.request_end.nanos, |end| end.nanos);
        let end = match exchange.end {
            End::Complete | End::Unseen => last,
            End::Reset(_, at) => at.nanos.max(last),
            // The time after the last byte belongs to the exchange only while a response was awaited.
            End::Closed(_, closed) => closed.nanos.max(last),
        }
        .max(start);
        // The end of an unseen response is the earliest possible. The other end may have seen a later one.
        let complete = matches!(exchange.end, End::Complete);
        let Some(node) = self.parents.finish(place, exchange.request_start.position, end, complete) else {
            debug_assert!(false, "{place:?} has no request at {:?}", exchange.request_start);
            return;
        };
        if place.role == Role::Server && open == 0 && self.calling.contains(&place.tgid) {
            let until = exchange.request_end.position;
            self.surroundings.take(Notice::Completed { cookie: place.cookie, until });
        }
        if exchange.facts.as_database().is_some_and(|database| database.prepared) {
            self.counters.requests_folded.add(1);
        }
        let service = self.surroundings.service(place.tgid);
        let exchange = *exchange;
        self.settling.push_back(Settling { due: end + SETTLE, node, service, ends, start, end, exchange });
    }

    fn lose(&mut self, place: Place, lost: &Lost) {
        let counter = match lost.reason {
            LossReason::RequestHeadMissing => &self.counters.requests_lost_head_missing,
            LossReason::ResponseMissing => &self.counters.requests_lost_response_missing,
            LossReason::Unparsable => &self.counters.requests_lost_unparsable,
            LossReason::TooManyOpen => &self.counters.requests_lost_too_many_open,
        };
        counter.add(1);
        self.abandon(place, lost.start.position);
    }

    fn abandon(&mut self, place: Place, position: u64) {
        if self.parents.abandon(place, position).was_parent {
            self.counters.parents_lost.add(1);
        }
    }
}

impl<S: Surroundings> Observer for Requests<S> {
    fn observe(&mut self, place: Place, report: Report<'_>) {
        match report {
            Report::Begun { begun, origin, protocol } => self.begin(place, begun, origin, protocol),
            Report::Continued { start, ids } => self.parents.goes_on(place, start.position, ids.span_id),
            Report::Responded { start, unit, nanos } => self.parents.responds(place, start.position, unit, nanos),
            Report::OwnerCorrected { start, owner } => self.parents.correct_owner(place, start.position, owner),
            Report::Ended { exchange, ends, open } => self.end(place, exchange, ends, open),
            Report::Lost(lost) => self.lose(place, &lost),
            Report::Discarded { start } => {
                self.counters.requests_discarded.add(1);
                self.abandon(place, start.position);
            }
            Report::CaptureMore(None) => self.surroundings.take(Notice::CaptureMore { cookie: place.cookie }),
            Report::CaptureMore(Some(direction)) => {
                self.surroundings.take(Notice::CaptureMoreOf { tgid: place.tgid, direction });
            }
            Report::CaptureLess(direction, capture) => {
                self.surroundings.take(Notice::CaptureLess { cookie: place.cookie, direction, capture });
            }
            Report::Encrypted => self.surroundings.take(Notice::Encrypted { tgid: place.tgid }),
            Report::FollowFrames => self.surroundings.take(Notice::FollowFrames { cookie: place.cookie }),
            Report::FrameBegins { sent, position } => {
                self.surroundings.take(Notice::FrameBegins { cookie: place.cookie, sent, position });
            }
            Report::Forgotten => {
                self.parents.connection_ended(place.cookie);
                self.surroundings.take(Notice::Forgotten { cookie: place.cookie });
            }
        }
    }
}
