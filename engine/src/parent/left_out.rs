//! Requests that the user wants no spans of.
//!
//! An ignored request has no span, and neither has what is done for it. Otherwise a health check would leave calls without a
//! parent behind. This is what head sampling does in an SDK. An omitted request has no span either, and the calls for it belong
//! to the request above.
//!
//! Calls are settled before the request that they are made for, so it is judged when the first of them is. By then the service of the
//! process is known: a call waits for it too. A request whose id was exported as that of a parent is not left out any more.

use super::Parents;
use super::id::NodeId;
use super::node::Unjudged;
use super::tree::{DEEPEST, Tree};
use crate::model::reporting::Verdict;

/// Why a request has no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The user ignores it.
    Itself,
    /// The user ignores a request that it belongs to.
    WithRequestAbove,
}

impl Parents {
    /// A request that began may be left out.
    pub fn may_be_left_out(&mut self, id: NodeId, unjudged: Unjudged) {
        if let Some(node) = self.tree.get_mut(id) {
            node.unjudged = Some(Box::new(unjudged));
        }
        judge(&mut self.tree, id);
    }

    /// Forgets a request that is over, if it is to have no span.
    pub fn leave_out(&mut self, id: NodeId) -> Option<LeftOut> {
        judge(&mut self.tree, id);
        self.ladder.responders.judge(&self.tree, id);
        let above_is_ignored = self.judge_above(id);
        let node = self.tree.get_mut(id)?;
        let left_out = if node.is_ignored || node.is_abandoned {
            LeftOut::Itself
        } else if above_is_ignored && !node.is_frozen {
            // So it is known to be ignored also when the requests above are gone.
            node.is_ignored = true;
            LeftOut::WithRequestAbove
        } else {
            return None;
        };
        self.remove(id);
        Some(left_out)
    }

    /// Judges the requests above, and returns whether one of them is ignored.
    fn judge_above(&mut self, id: NodeId) -> bool {
        let mut at = id;
        for _ in 0..DEEPEST {
            self.ladder.choose_parent(&mut self.tree, &self.background, at);
            let Some((parent, _)) = self.tree.parent(at) else { return false };
            judge(&mut self.tree, parent);
            if self.tree.get(parent).is_some_and(|parent| parent.is_ignored) {
                return true;
            }
            at = parent;
        }
        false
    }
}

/// Judges a request, if the service of its process is known and no id of the request was exported.
fn judge(tree: &mut Tree, id: NodeId) {
    let Some(node) = tree.get_mut(id) else { return };
    let Some(Unjudged { service, protocol, path }) = node.unjudged.as_deref() else { return };
    let Some(service) = service.service() else { return };
    let verdict = service.reporting.judge(*protocol, path);
    node.unjudged = None;
    if !node.is_frozen {
        node.is_ignored |= verdict == Verdict::Ignored;
        node.is_abandoned |= verdict == Verdict::Omitted;
    }
}
