//! Rung `responder`: a call belongs to the request whose response was written by the unit of work that made the call.
//!
//! The rung is settled afterwards, because a response is often written long after the call has ended. A call waits until one
//! of these holds:
//!
//! - Its unit wrote the response to a request that was open when the call began, [`BURST`] ago.
//! - Every request that was open in the process when the call began has been responded to, or is over.
//!
//! It has no owner by this rung if its unit responded to several such requests. The caller bounds how long it waits.
//!
//! A Python context is named by its address, which a later context may have. A response that is written by a context of its
//! own (Starlette's `StreamingResponse`) may so be taken for that of the unit that made a call. Programs that do this also
//! make calls whose units respond to nothing. So the rung holds in a process only while hardly any call is like that.
//!
//! A process without units has no entry in these tables.

use rustc_hash::FxHashMap;

use super::id::NodeId;
use super::node::{Node, Responder, UnitWork};
use super::tree::Tree;
use crate::model::span::Role;
use crate::unit::Unit;

/// A unit that responds to several requests at once, for example with the result of one call that it made for all of them,
/// does so within this time.
const BURST: u64 = 50_000_000;

/// Unsettled calls, and unsettled responses, that are noted of one unit. A unit with more does not work on one request.
const MAX_PER_UNIT: usize = 4096;

/// How long a process that has ended is remembered: longer than its calls wait.
const REMEMBERED: u64 = 20_000_000_000;

/// Where units follow each other at one address, the rung holds while at least this share of the calls have a responder.
const TRUSTED: (u32, u32) = (63, 64);

/// Calls that must have been counted before. Under load, a quarter of the calls may have the wrong responder by chance.
const COUNTED_FIRST: u32 = 8;

/// Calls that are counted before the counts are halved.
const WINDOW: u32 = 512;

/// How long after the first unit was seen calls are not counted if the process had connections before. They may belong to
/// requests that it read before the agent started.
const UNSEEN_REQUESTS: u64 = 500_000_000;

/// The calls and responses of units.
#[derive(Debug, Default)]
pub(super) struct Responders {
    units: FxHashMap<Unit, Written>,
    /// Processes in which a unit was seen, by tgid.
    processes: FxHashMap<u32, Process>,
    has_ended: bool,
}

/// What a unit wrote, as far as it is not settled.
#[derive(Debug, Default)]
struct Written {
    calls: Vec<NodeId>,
    /// Requests whose response it began.
    requests: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Process {
    /// Requests without a response, by the time at which they began.
    unanswered: Vec<(u64, NodeId)>,
    /// The time during which requests were open of which it is unknown who responded.
    unknown: (u64, u64),
    /// Calls that could be judged, and how many of them have a responder.
    judged: u32,
    found: u32,
    /// When the first unit was seen.
    since: u64,
    /// When the process ended; 0 before.
    ended: u64,
}

impl Responders {
    /// A request was received. `unit` read it.
    pub(super) fn request_begins(&mut self, tree: &Tree, id: NodeId, unit: Option<Unit>) {
        let Some(node) = tree.get(id) else { return };
        if unit.is_some() && self.sees_units(tree, node.tgid, node.start) {
            return;
        }
        if !self.processes.is_empty()
            && let Some(process) = self.processes.get_mut(&node.tgid)
        {
            process.request_begins(node.start, id);
        }
    }

    /// The unit made a call.
    pub(super) fn call_begins(&mut self, tree: &mut Tree, id: NodeId, unit: Unit) {
        let may_have_owner = tree.ledger.has_open(unit.tgid);
        let Some(start) = tree.get(id).map(|node| node.start) else { return };
        self.sees_units(tree, unit.tgid, start);
        let Some(node) = tree.get_mut(id) else { return };
        node.work = Some(Box::new(UnitWork { unit, responded: None, responder: Responder::None, may_have_owner }));
        let written = self.units.entry(unit).or_default();
        if written.calls.len() < MAX_PER_UNIT {
            written.calls.push(id);
        }
        for &request in &written.requests {
            relate(tree, id, request);
        }
    }

    /// At `nanos` the unit wrote the first byte of the response to the request.
    pub(super) fn responds(&mut self, tree: &mut Tree, id: NodeId, unit: Unit, nanos: u64) {
        let Some(node) = tree.get_mut(id).filter(|node| node.role == Role::Server) else { return };
        let (tgid, start) = (node.tgid, node.start);
        let is_first = node.work.is_none();
        if is_first {
            let work = UnitWork { unit, responded: Some(nanos), responder: Responder::None, may_have_owner: false };
            node.work = Some(Box::new(work));
        } else if node.work.as_ref().is_some_and(|work| work.unit == unit) {
            return;
        }
        self.sees_units(tree, tgid, nanos);
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.is_answered(start, id);
        }
        let written = self.units.entry(unit).or_default();
        // Only the unit of the first byte is remembered with the request, and can be removed with it.
        if is_first && written.requests.len() < MAX_PER_UNIT {
            written.requests.push(id);
        }
        for &call in &written.calls {
            relate(tree, call, id);
        }
        if written.calls.is_empty() && written.requests.is_empty() {
            self.units.remove(&unit);
        }
    }

    /// A received request is over, or will have no span.
    pub(super) fn request_ends(&mut self, tree: &Tree, id: NodeId, nanos: u64) {
        if self.processes.is_empty() {
            return;
        }
        let Some(node) = tree.get(id).filter(|node| node.role == Role::Server) else { return };
        if let Some(process) = self.processes.get_mut(&node.tgid)
            && process.is_answered(node.start, id)
        {
            process.ends_unknown(node.start, nanos);
        }
    }

    /// The node is settled.
    pub(super) fn forget(&mut self, tree: &Tree, id: NodeId) {
        if self.units.is_empty() {
            return;
        }
        let Some((role, unit)) = tree.get(id).and_then(|node| Some((node.role, node.work.as_ref()?.unit))) else {
            return;
        };
        if let Some(written) = self.units.get_mut(&unit) {
            let nodes = if role == Role::Client { &mut written.calls } else { &mut written.requests };
            // What began first is nearly always settled first.
            if let Some(at) = nodes.iter().position(|&other| other == id) {
                nodes.remove(at);
            }
            if written.calls.is_empty() && written.requests.is_empty() {
                self.units.remove(&unit);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn known_processes(&self) -> usize {
        self.processes.len()
    }

    /// Whether no call waits.
    pub(super) fn is_idle(&self) -> bool {
        self.units.is_empty()
    }

    /// Whether the call must wait at `by`: its owner may still become known, or doubtful.
    pub(super) fn is_undecided(&self, tree: &Tree, call: &Node, by: u64) -> bool {
        let Some(work) = call.work.as_deref().filter(|_| call.role == Role::Client && !call.settled) else {
            return false;
        };
        match work.responder {
            Responder::Several => false,
            Responder::One(request) => match responded(tree, request) {
                Some(responded) if responded >= call.start => by < responded.saturating_add(BURST),
                _ => self.has_unanswered(call),
            },
            Responder::None => self.has_unanswered(call),
        }
    }

    /// The request that the call's unit responded to, if that proves the owner.
    pub(super) fn owner(&self, tree: &Tree, call: &Node) -> Option<NodeId> {
        let work = call.work.as_deref()?;
        let Responder::One(request) = work.responder else { return None };
        let responded = responded(tree, request)?;
        let is_proven = tree.get(request)?.in_flight_at(call.start)
            // While a streaming response goes on, the unit may have ended and another one have its address.
            && (responded >= call.start || !work.unit.is_reused() || !self.has_unanswered(call));
        (is_proven && self.trusts(work.unit)).then_some(request)
    }

    /// Counts a call that is about to be settled.
    pub(super) fn judge(&mut self, tree: &Tree, id: NodeId) {
        let Some(call) = tree.get(id).filter(|node| node.role == Role::Client) else { return };
        let Some(work) = call.work.as_deref().filter(|work| work.unit.is_reused()) else { return };
        let has_unanswered = self.has_unanswered(call);
        let Some(process) = self.processes.get_mut(&call.tgid) else { return };
        let is_first = call.start < process.since.saturating_add(UNSEEN_REQUESTS);
        if is_first && tree.ledger.had_others(call.tgid, call.start) {
            return;
        }
        let is_found = match work.responder {
            Responder::One(_) => true,
            Responder::None => {
                let (from, until) = process.unknown;
                if !work.may_have_owner || has_unanswered || (from <= call.start && call.start <= until) {
                    return;
                }
                false
            }
            Responder::Several => return,
        };
        process.judged += 1;
        process.found += u32::from(is_found);
        if process.judged == WINDOW {
            process.judged /= 2;
            process.found /= 2;
        }
    }

    /// At `nanos` the process ended, or executed another program.
    pub(super) fn process_ended(&mut self, tgid: u32, nanos: u64) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.ended = nanos.max(1);
            self.has_ended = true;
        }
    }

    /// Forgets processes that ended long ago.
    pub(super) fn advance(&mut self, now: u64) {
        if self.has_ended {
            self.has_ended = false;
            self.processes.retain(|_, process| {
                let is_over = process.ended != 0 && process.ended < now.saturating_sub(REMEMBERED);
                self.has_ended |= !is_over && process.ended != 0;
                !is_over
            });
        }
    }

    /// A unit was seen in the process. The first time, notes the requests that are open. Returns whether it did.
    fn sees_units(&mut self, tree: &Tree, tgid: u32, nanos: u64) -> bool {
        if self.processes.get(&tgid).is_some_and(|process| process.ended == 0) {
            return false;
        }
        let mut process = Process { since: nanos, ..Process::default() };
        for (id, node) in tree.ledger.requests_of(tgid).filter(|(_, node)| node.end.is_none() && node.work.is_none()) {
            process.request_begins(node.start, id);
        }
        self.processes.insert(tgid, process);
        true
    }

    /// Whether a request that was open when the call began has no response yet.
    fn has_unanswered(&self, call: &Node) -> bool {
        let oldest = self.processes.get(&call.tgid).and_then(|process| process.unanswered.first());
        oldest.is_some_and(|&(start, _)| start <= call.start)
    }

    /// Whether the units of the process respond to the requests that they make calls for, if an id does not say it all.
    fn trusts(&self, unit: Unit) -> bool {
        let (of, all) = TRUSTED;
        !unit.is_reused()
            || self
                .processes
                .get(&unit.tgid)
                .is_some_and(|process| process.judged > COUNTED_FIRST && process.found * all >= process.judged * of)
    }
}

impl Process {
    fn request_begins(&mut self, start: u64, id: NodeId) {
        let at = self.unanswered.iter().rposition(|&(other, _)| other <= start).map_or(0, |index| index + 1);
        self.unanswered.insert(at, (start, id));
    }

    /// The request is unanswered no longer. Returns whether it was.
    fn is_answered(&mut self, start: u64, id: NodeId) -> bool {
        let from = self.unanswered.partition_point(|&(other, _)| other < start);
        let same = self.unanswered[from..].iter().take_while(|&&(other, _)| other == start);
        let Some(at) = same.clone().position(|&(_, other)| other == id) else { return false };
        self.unanswered.remove(from + at);
        true
    }

    /// It will not be known who responded to a request that was open in this time.
    fn ends_unknown(&mut self, start: u64, end: u64) {
        let (from, until) = self.unknown;
        self.unknown = if start <= until { (from.min(start), until.max(end)) } else { (start, end) };
    }
}

/// When the response to the request began.
fn responded(tree: &Tree, request: NodeId) -> Option<u64> {
    tree.get(request)?.work.as_deref()?.responded
}

/// The unit that made the call responded to the request.
fn relate(tree: &mut Tree, call: NodeId, request: NodeId) {
    let (Some(node), Some(candidate)) = (tree.get(call), tree.get(request)) else { return };
    let Some(work) = node.work.as_deref() else { return };
    if !candidate.in_flight_at(node.start) {
        return;
    }
    let before = work.responder;
    let responder = match before {
        Responder::None => Responder::One(request),
        Responder::Several => return,
        Responder::One(other) => match tree.get(other) {
            Some(_) if other == request => return,
            Some(other_node) if other_node.in_flight_at(node.start) => {
                // Pipelined requests are worked on one after the other.
                match other_node.in_order && other_node.cookie == candidate.cookie {
                    true if other_node.position <= candidate.position => return,
                    true => Responder::One(request),
                    false => Responder::Several,
                }
            }
            _ => Responder::One(request),
        },
    };
    if let Responder::One(request) = responder {
        tree.ledger.hold(request);
    }
    if let Some(work) = tree.get_mut(call).and_then(|node| node.work.as_deref_mut()) {
        work.responder = responder;
    }
    if let Responder::One(other) = before {
        tree.release(other);
    }
}
