//! The ladder of evidence: the parent that is known best.

use onlooker_protocols::propagation::TraceContext;

use super::ledger::Found;
use super::node::{Contested, Link, Named, Node};
use super::{NodeId, Parents};
use crate::model::span::{Evidence, Role};

impl Parents {
    /// Links a call to the request that the kernel says it is made for.
    pub(super) fn link_to_owner(&mut self, id: NodeId, owner: &Named, at: u64) {
        if let Some(parent) = self.ledger.in_flight(owner.cookie, owner.run, at) {
            self.set_parent(id, parent, owner.rung);
        }
    }

    /// Notes what several requests have that are open as a call begins.
    pub(super) fn note_contest(&mut self, id: NodeId) {
        let Some(call) = self.ledger.get(id) else { return };
        let contested = Contested {
            process: self.ledger.has_several(call.tgid) || self.ledger.had_others(call.tgid, call.start),
            context: call.wire.is_some() && self.only_request(id, passes_on) == Found::Several,
            correlation: call.correlation.is_some() && self.only_request(id, same_correlation) == Found::Several,
        };
        let has_context = call.wire.is_some();
        if let Some(call) = self.ledger.get_mut(id) {
            call.contested = contested;
        }
        if has_context {
            self.told_by_sdk(id);
        }
    }

    /// Decides on the highest rung there is.
    pub(super) fn choose_parent(&mut self, id: NodeId) {
        match self.ledger.get(id).map(|node| node.role) {
            Some(Role::Server) => self.choose_callers_span(id),
            Some(Role::Client) => self.choose_owner(id),
            None => {}
        }
    }

    /// A server's parent is the call that reached it: as the wire says, or as both ends of the connection show.
    fn choose_callers_span(&mut self, id: NodeId) {
        let Some(node) = self.ledger.get(id) else { return };
        if node.wire.is_none() {
            return;
        }
        // A header that the caller only passed on names the caller's own parent: the call itself is nearer.
        if let Link::Node(call, _) = node.link {
            self.choose_parent(call);
            if !self.told_by_sdk(call) {
                return;
            }
            self.clear_parent(id);
        }
        if let Some(node) = self.ledger.get_mut(id) {
            node.link = Link::Remote;
        }
    }

    /// A call's parent is the request that it was made for.
    fn choose_owner(&mut self, id: NodeId) {
        let Some(node) = self.ledger.get(id) else { return };
        let (tgid, start, owner, link) = (node.tgid, node.start, node.owner, node.link);
        match link {
            // Named by the kernel before the agent knew the request.
            Link::None => {
                if let Some(owner) = owner {
                    self.link_to_owner(id, &owner, start);
                }
            }
            // What was open when the call began, as far as was known then, may have been over.
            Link::Node(parent, _) if !self.ledger.get(parent).is_some_and(|parent| parent.in_flight_at(start)) => {
                self.clear_parent(id);
                if let Some(owner) = owner {
                    self.link_to_owner(id, &owner, start);
                }
            }
            Link::Node(..) | Link::Remote => {}
        }
        let Some(node) = self.ledger.get(id) else { return };
        let contested = node.contested;
        let (has_context, has_correlation) = (node.wire.is_some(), node.correlation.is_some());
        let rung = match node.link {
            Link::Node(_, rung) => Some(rung),
            Link::None | Link::Remote => None,
        };
        // The thread proved something only if the process turned out to run no loop.
        if rung == Some(Evidence::Thread) {
            if self.loops.get(&tgid).is_none_or(|&until| start > until) {
                return;
            }
            self.clear_parent(id);
        }
        if rung == Some(Evidence::Wire) {
            return;
        }
        if has_context
            && !contested.context
            && let Found::One(parent) = self.only_request(id, passes_on)
        {
            self.set_parent(id, parent, Evidence::Wire);
        } else if has_correlation
            && !contested.correlation
            && let Found::One(parent) = self.only_request(id, same_correlation)
        {
            self.set_parent(id, parent, Evidence::CorrelationId);
        } else if !matches!(rung, Some(Evidence::Connect | Evidence::Tick))
            && !contested.process
            // As the call began, the request may not have been told yet that shows it.
            && !self.ledger.had_others(tgid, start)
            && let Found::One(parent) = self.only_request(id, |_, _| true)
        {
            self.set_parent(id, parent, Evidence::OnlyCandidate);
        }
    }

    /// The one request that the call's process was working on and that `fits` the call. What the call itself led to, where a
    /// process asks itself, does not count.
    fn only_request(&self, id: NodeId, fits: impl Fn(&Node, &Node) -> bool) -> Found {
        let Some(call) = self.ledger.get(id) else { return Found::Nobody };
        self.ledger.only_request(call.tgid, |other, request| {
            request.in_flight_at(call.start) && fits(call, request) && !self.is_below(other, id)
        })
    }

    /// Whether a call carries a trace context that its own process made: an SDK tells of it. One that was only passed
    /// on from a request that the process was working on is no sign of that.
    pub(super) fn told_by_sdk(&mut self, id: NodeId) -> bool {
        let Some(call) = self.ledger.get(id).filter(|node| node.role == Role::Client && node.wire.is_some()) else {
            return false;
        };
        if call.passes_on {
            return false;
        }
        let working_on = |request: &Node| request.in_flight_at(call.start);
        let found =
            self.ledger.requests_of(call.tgid).any(|(_, request)| working_on(request) && passes_on(call, request));
        if let Some(call) = self.ledger.get_mut(id) {
            // The request may be forgotten when it is asked again.
            call.passes_on = found;
        }
        !found
    }
}

/// Whether the call carries the trace context that came with the request.
fn passes_on(call: &Node, request: &Node) -> bool {
    let same = |sent: &TraceContext, received: &TraceContext| {
        sent.trace_id == received.trace_id && sent.span_id == received.span_id
    };
    call.wire.as_ref().zip(request.wire.as_ref()).is_some_and(|(sent, received)| same(sent, received))
}

/// Whether both carry the same request id.
fn same_correlation(call: &Node, request: &Node) -> bool {
    call.correlation == request.correlation
}
