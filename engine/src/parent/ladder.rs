//! The ladder of evidence: finds the parent that is known best.

use onlooker_protocols::propagation::TraceContext;
use rustc_hash::FxHashMap;

use super::background::{Background, LastRead};
use super::id::NodeId;
use super::ledger::Found;
use super::node::{Contested, Link, Node, Owned};
use super::responder::Responders;
use super::tree::{DEEPEST, Tree};
use crate::model::span::{Evidence, Role};

/// How long it is remembered that threads of a process that ended proved nothing: longer than calls wait to be settled.
const LOOP_REMEMBERED: u64 = 1_000_000_000;

/// Chooses parents. Knows the processes in which threads prove nothing.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    pub(super) loops: FxHashMap<u32, Loop>,
    /// Processes in `loops` have ended.
    has_ended_loops: bool,
    pub(super) responders: Responders,
}

/// A process in which threads prove nothing, or did not always.
#[derive(Debug)]
pub(super) struct Loop {
    /// They prove nothing about calls that began until then: `u64::MAX` while the process runs an event loop.
    until: u64,
    /// When the process ended. Calls are settled after that.
    ended: Option<u64>,
    /// It passes requests on to other servers.
    is_proxy: bool,
}

impl Ladder {
    /// The process runs an event loop.
    pub(super) fn runs_loop(&mut self, tgid: u32) {
        self.loops.insert(tgid, Loop { until: u64::MAX, ended: None, is_proxy: false });
    }

    /// The process, which runs an event loop, is a proxy.
    pub(super) fn is_proxy(&mut self, tgid: u32) {
        if let Some(found) = self.loops.get_mut(&tgid) {
            found.is_proxy = true;
        }
    }

    /// At `nanos` the process runs virtual threads, which are known, and no event loop. They may not have been known before.
    pub(super) fn runs_virtual_threads(&mut self, tgid: u32, nanos: u64) {
        let known = self.loops.get(&tgid).is_some_and(|found| found.until != u64::MAX && found.ended.is_none());
        if !known {
            self.loops.insert(tgid, Loop { until: nanos, ended: None, is_proxy: false });
        }
    }

    /// At `nanos` the process ended, or executed another program.
    pub(super) fn process_ended(&mut self, tgid: u32, nanos: u64) {
        if let Some(found) = self.loops.get_mut(&tgid) {
            found.until = found.until.min(nanos);
            found.ended = Some(nanos);
            self.has_ended_loops = true;
        }
        self.responders.process_ended(tgid, nanos);
    }

    /// Forgets processes that ended long ago.
    pub(super) fn advance(&mut self, now: u64) {
        self.responders.advance(now);
        if self.has_ended_loops {
            self.has_ended_loops = false;
            self.loops.retain(|_, found| {
                let is_over = found.ended.is_some_and(|ended| ended < now.saturating_sub(LOOP_REMEMBERED));
                self.has_ended_loops |= !is_over && found.ended.is_some();
                !is_over
            });
        }
    }

    /// Notes what several open requests share as a call begins.
    pub(super) fn note_contest(&self, tree: &mut Tree, id: NodeId) {
        let Some(call) = tree.get(id) else { return };
        let is_proxy = self.loops.get(&call.tgid).is_some_and(|found| found.is_proxy);
        let contested = Contested {
            process: tree.ledger.has_several(call.tgid) || tree.ledger.had_others(call.tgid, call.start),
            context: call.wire.is_some() && only_request(tree, id, passes_on) == Found::Several,
            correlation: call.correlation.is_some() && only_request(tree, id, has_same_correlation) == Found::Several,
            passed_on: !is_proxy || only_request(tree, id, is_passed_on) == Found::Several,
        };
        let has_context = call.wire.is_some();
        if let Some(call) = tree.get_mut(id) {
            call.contested = contested;
        }
        if has_context {
            is_reported_by_sdk(tree, id);
        }
    }

    /// Whether threads of the process proved nothing at `nanos`.
    fn ran_loop(&self, tgid: u32, nanos: u64) -> bool {
        self.loops.get(&tgid).is_some_and(|found| nanos <= found.until)
    }

    /// Whether it will be known later than `by` where the node belongs: it is a call, or belongs to one, that waits for a
    /// response.
    pub(super) fn is_undecided(&self, tree: &Tree, id: NodeId, by: u64) -> bool {
        if self.responders.is_idle() {
            return false;
        }
        let mut at = Some(id);
        for _ in 0..DEEPEST {
            let Some((id, node)) = at.and_then(|id| Some((id, tree.get(id)?))) else { return false };
            let parent = tree.parent(id);
            let is_certain = parent.is_some_and(|(_, rung)| {
                rung.is_certain() && (rung != Evidence::Thread || !self.ran_loop(node.tgid, node.start))
            });
            if !is_certain && self.responders.is_undecided(tree, node, by) {
                return true;
            }
            at = parent.map(|(parent, _)| parent);
        }
        false
    }

    /// Moves the node to the highest rung that holds.
    pub(super) fn choose_parent(&self, tree: &mut Tree, background: &Background, id: NodeId) {
        match tree.get(id).map(|node| node.role) {
            Some(Role::Server) => self.choose_call(tree, background, id),
            Some(Role::Client) => self.choose_owner(tree, background, id),
            None => {}
        }
    }

    /// The parent of a received request is the call that reached it: by its header, or by both ends of the connection.
    fn choose_call(&self, tree: &mut Tree, background: &Background, id: NodeId) {
        let Some(node) = tree.get(id) else { return };
        if node.wire.is_none() {
            return;
        }
        // A header that the caller only passed on names the caller's own parent. The call itself is nearer.
        if let Some((call, _)) = tree.parent(id) {
            self.choose_parent(tree, background, call);
            if !is_reported_by_sdk(tree, call) {
                return;
            }
            tree.clear_parent(id);
        }
        if let Some(node) = tree.get_mut(id) {
            node.link = Link::Remote;
        }
    }

    /// The parent of a call is the request that it was made for.
    fn choose_owner(&self, tree: &mut Tree, background: &Background, id: NodeId) {
        let Some(node) = tree.get(id) else { return };
        let (tgid, start, owner, link) = (node.tgid, node.start, node.owner, node.link);
        if node.is_frozen && matches!(link, Link::Node(..)) {
            // Its trace was exported with a span below. Without this parent the trace would have two roots.
            return;
        }
        match link {
            // The kernel named an owner before its request was known.
            Link::None => {
                if let Some(owner) = owner {
                    link_to_owner(tree, id, &owner, start);
                }
            }
            // The request was open when the call began, as far as was known then.
            Link::Node(parent, _) if !tree.get(parent).is_some_and(|parent| parent.in_flight_at(start)) => {
                tree.clear_parent(id);
                if let Some(owner) = owner {
                    link_to_owner(tree, id, &owner, start);
                }
            }
            Link::Node(..) | Link::Remote | Link::Environment => {}
        }
        if started_by_other(tree, id) {
            tree.clear_parent(id);
            if let Some(node) = tree.get_mut(id) {
                node.link = Link::Environment;
            }
            return;
        }
        let Some(node) = tree.get(id) else { return };
        let responder = self.responders.owner(tree, node);
        let contested = node.contested;
        let (has_context, has_correlation) = (node.wire.is_some(), node.correlation.is_some());
        if let Some((parent, Evidence::Responder)) = tree.parent(id)
            && responder != Some(parent)
        {
            // The unit turned out to have responded to another request as well.
            tree.clear_parent(id);
            if let Some(owner) = owner {
                link_to_owner(tree, id, &owner, start);
            }
        }
        let mut rung = tree.parent(id).map(|(_, rung)| rung);
        let worker = match tree.parent(id) {
            Some((_, Evidence::Thread)) => Some(tgid),
            // The thread of another process started this one.
            Some((parent, Evidence::Fork)) => tree.get(parent).map(|parent| parent.tgid),
            _ => None,
        };
        if worker.is_some_and(|worker| self.ran_loop(worker, start)) {
            // A thread proves nothing in a process that turned out to run an event loop.
            tree.clear_parent(id);
            rung = None;
        }
        if rung.is_some_and(Evidence::is_certain) {
            return;
        }
        let may_be_background = may_be_background(tree, background, id);
        let is_refused = match rung {
            Some(Evidence::Connect) => may_be_background,
            Some(Evidence::Tick) => {
                let caller = tree.get(id).map(|call| call.caller).unwrap_or_default();
                may_be_background || background.is_anonymous_on_any_connection(tgid, &caller, start)
            }
            _ => false,
        };
        if is_refused {
            tree.clear_parent(id);
        }
        if has_context
            && !contested.context
            && let Found::One(parent) = only_request(tree, id, passes_on)
        {
            tree.set_parent(id, parent, Evidence::Wire);
        } else if let Some(parent) = responder {
            tree.set_parent(id, parent, Evidence::Responder);
        } else if has_correlation
            && !contested.correlation
            && let Found::One(parent) = only_request(tree, id, has_same_correlation)
        {
            tree.set_parent(id, parent, Evidence::CorrelationId);
        } else if !contested.passed_on
            && let Found::One(parent) = only_request(tree, id, is_passed_on)
        {
            tree.set_parent(id, parent, Evidence::Forwarded);
        } else if !matches!(rung, Some(Evidence::Connect | Evidence::Tick | Evidence::Wake))
            && !contested.process
            && !may_be_background
            && tree.get(id).is_some_and(|call| !background.is_anonymous(tgid, &call.caller, start))
            // The record that shows other requests may have come after the call began.
            && !tree.ledger.had_others(tgid, start)
            && let Found::One(parent) = only_request(tree, id, |_, _| true)
        {
            tree.set_parent(id, parent, Evidence::OnlyCandidate);
        }
    }
}

/// Whether the parent of a call is the span that the environment of its process names. It is not if the process was only
/// handed the context of the request that it works for, as the kernel says: then that request is nearer.
fn started_by_other(tree: &Tree, id: NodeId) -> bool {
    let Some(node) = tree.get(id).filter(|node| !node.is_frozen) else { return false };
    let Some(context) = node.started_by() else { return false };
    let request = tree.parent(id).and_then(|(parent, _)| tree.get(parent));
    !request.is_some_and(|request| request.wire.as_ref().is_some_and(|wire| is_same_span(wire, context)))
}

/// Links a call to the request that the kernel names as its owner.
pub(super) fn link_to_owner(tree: &mut Tree, id: NodeId, owner: &Owned, at: u64) {
    if let Some(parent) = tree.ledger.in_flight(owner.cookie, owner.run, at) {
        tree.set_parent(id, parent, owner.rung);
    }
}

/// Whether a call may be background work. Then a request that was open does not have to be the reason for it.
fn may_be_background(tree: &Tree, background: &Background, id: NodeId) -> bool {
    let Some(call) = tree.get(id) else { return false };
    let is_after_request = match call.caller.read {
        None => false,
        Some(LastRead::Unsettled(request)) => tree.get(request).is_none_or(|request| !request.in_flight_at(call.start)),
        Some(LastRead::Exported(..) | LastRead::Unknown) => true,
    };
    is_after_request || background.may_have_made(call.tgid, call.cookie, &call.caller, call.start)
}

/// The only request that the call's process worked on and that `fits` the call. Requests that the call itself led to do
/// not count: a process may call itself.
fn only_request(tree: &Tree, id: NodeId, fits: impl Fn(&Node, &Node) -> bool) -> Found {
    let Some(call) = tree.get(id) else { return Found::None };
    tree.ledger.only_request(call.tgid, |other, request| {
        request.in_flight_at(call.start) && fits(call, request) && !tree.is_below(other, id)
    })
}

/// Whether a call carries a trace context that its own process made. Then an SDK reports the call. A context that was only
/// passed on from a request of the process is no sign of an SDK.
pub(super) fn is_reported_by_sdk(tree: &mut Tree, id: NodeId) -> bool {
    let Some(call) = tree.get(id).filter(|node| node.role == Role::Client && node.wire.is_some()) else {
        return false;
    };
    if call.passes_on {
        return false;
    }
    let found = tree
        .ledger
        .requests_of(call.tgid)
        .any(|(_, request)| request.in_flight_at(call.start) && passes_on(call, request));
    if let Some(call) = tree.get_mut(id) {
        // The request may be forgotten the next time.
        call.passes_on = found;
    }
    !found
}

/// Whether the call carries the trace context that came with the request.
fn passes_on(call: &Node, request: &Node) -> bool {
    call.wire.as_ref().zip(request.wire.as_ref()).is_some_and(|(sent, received)| is_same_span(sent, received))
}

fn is_same_span(one: &TraceContext, other: &TraceContext) -> bool {
    one.trace_id == other.trace_id && one.span_id == other.span_id
}

/// Whether the call is what a proxy makes of the request.
fn is_passed_on(call: &Node, request: &Node) -> bool {
    call.passed_on.is_some() && call.passed_on == request.passed_on
}

fn has_same_correlation(call: &Node, request: &Node) -> bool {
    call.correlation == request.correlation
}
