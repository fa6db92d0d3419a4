//! Matches replies with requests, in order; and what is said without having been asked for.
//!
//! A reply answers the first open request: nothing on the wire says which one. Once replies or requests were not
//! captured, the runs say it, of a client that waits for its replies before it sends more. Of one that has been seen not
//! to, nothing more is told until it has been quiet.

use compact_str::CompactString;

use super::command::{Effect, Silence};
use super::reply::{Reply, Said, Simple};
use super::session::{Entry, Open, Session};
use super::subscriptions::Confirmations;
use crate::exchange::{Finding, LossReason};
use crate::parser::Moment;

impl Session {
    /// The framing was lost, and a new run of replies begins. Whether it can be followed.
    ///
    /// It answers what was asked last before it, and everything older was answered unheard.
    pub(super) fn resume(
        &mut self,
        at: Moment,
        may_begin: bool,
        after_lost_event: bool,
        found: &mut Vec<Finding>,
    ) -> bool {
        if self.is_in_doubt() {
            return false;
        }
        let asked = self.queue.iter().map(Entry::run).filter(|&run| run < at.run).max();
        let Some(asked) = asked else {
            if !may_begin {
                found.push(Finding::Orphan(at));
            }
            return may_begin;
        };
        let has_older = self.queue.front().is_some_and(|front| front.run() < asked);
        // With nothing else unanswered, what was lost is the beginning of this reply.
        if !may_begin || (after_lost_event && !has_older) {
            return false;
        }
        self.lose_before(asked, found);
        true
    }

    /// A reply passed in a run from before that of the newest request, which it may answer all the same.
    pub(super) fn distrust_runs(&mut self) {
        self.pipelines = true;
    }

    /// Replies passed whose framing is lost.
    pub(super) fn replies_missed(&mut self, found: &mut Vec<Finding>) {
        self.in_step = false;
        self.forget_subscriptions(found);
        if self.pipelines {
            self.doubt(found);
        }
        let newest = self.queue.iter().rev().find_map(|entry| match entry {
            Entry::Open(open) => Some(open.request.start.position),
            Entry::Counted { .. } | Entry::Unseen { .. } => None,
        });
        self.answered_unseen = newest.or(self.answered_unseen);
    }

    /// Whether a reply comes to nothing that was wholly asked.
    pub(super) fn is_early(&self, reply: &Reply) -> bool {
        self.in_step && self.queue.is_empty() && !self.is_unasked(reply)
    }

    /// Takes a reply; `true` if it was matched with a request. `unseen`: when it ended is not known.
    pub(super) fn answered(&mut self, reply: &Reply, unseen: bool, found: &mut Vec<Finding>) -> bool {
        self.pushed |= reply.is_push;
        self.pass_unseen(reply.start.run, found);
        let confuses = self.front().is_some_and(|open| match reply.said {
            Said::Unknown => open.waits_for_confirmation(),
            Said::Confirmed(..) => open.request.effect() == Effect::Unknown,
            Said::Nothing | Said::Message => false,
        });
        if confuses {
            self.lose_subscribing(found);
            return false;
        }
        if let Said::Confirmed(of, left) = reply.said {
            self.subscribed.confirm(of, left);
        }
        if self.is_unasked(reply) {
            return false;
        }
        self.hear();
        loop {
            if !self.may_answer(reply) {
                self.doubt(found);
                return false;
            }
            match self.queue.front_mut() {
                Some(Entry::Counted { replies, .. }) => {
                    *replies = replies.saturating_sub(1);
                    if *replies == 0 {
                        self.pop();
                    }
                    return true;
                }
                Some(Entry::Unseen { counted, .. }) if *counted > 0 => {
                    *counted -= 1;
                    return false;
                }
                Some(Entry::Open(open)) => {
                    // Its last confirmation was not known to be.
                    if open.answer.is_some() && !matches!(reply.said, Said::Confirmed(..)) {
                        self.finish(CompactString::default(), found);
                        continue;
                    }
                    if self.overlaps(reply) {
                        self.pipelines = true;
                        if !self.in_step {
                            self.doubt(found);
                            return false;
                        }
                    }
                    self.answer(reply, unseen, found);
                    return true;
                }
                Some(Entry::Unseen { .. }) | None => {
                    // CLIENT REPLY OFF was refused.
                    self.silence = Silence::No;
                    self.orphaned = self.queue.is_empty();
                    if self.on_trial > 0 {
                        self.doubt(found);
                        return false;
                    }
                    if !matches!(reply.said, Said::Confirmed(..)) {
                        found.push(Finding::Orphan(reply.start));
                    }
                    return false;
                }
            }
        }
    }

    fn front(&self) -> Option<&Open> {
        match self.queue.front() {
            Some(Entry::Open(open)) => Some(open),
            _ => None,
        }
    }

    /// Whether it is known which of the queue the reply answers: the first, while nothing was missed, or there is no other.
    /// Then the runs need not say so too: where one thread reads what another asks, a reply may be recorded before the
    /// send of its request has returned.
    fn may_answer(&self, reply: &Reply) -> bool {
        self.in_step || self.queue.len() == 1 || self.queue.back().is_none_or(|newest| newest.run() < reply.start.run)
    }

    /// A client that waits has had the replies to what was not seen when it is answered what it asked later.
    fn pass_unseen(&mut self, answering: u32, found: &mut Vec<Finding>) {
        while let Some(&Entry::Unseen { run, answered, .. }) = self.queue.front()
            && let Some(behind) = self.queue.get(1).map(Entry::run)
            && run < behind
            && behind < answering
        {
            if answered {
                self.queue.pop_front();
                continue;
            }
            let counted = self.lose_before(answering, found);
            self.queue.push_front(Entry::Unseen { counted, run: answering.wrapping_sub(1), answered: true });
        }
    }

    /// A reply passes: requests that were not seen have been answered, if nothing was asked since.
    fn hear(&mut self) {
        if let Some(Entry::Unseen { answered, .. }) = self.queue.back_mut() {
            *answered = true;
        }
    }

    /// The reply answers the first open request.
    fn answer(&mut self, reply: &Reply, unseen: bool, found: &mut Vec<Finding>) {
        let Some(Entry::Open(open)) = self.queue.front_mut() else { return };
        let (start, _) = *open.answer.get_or_insert((reply.start, reply.end));
        open.answer = Some((start, reply.end));
        let is_last = match (&mut open.confirmations, reply.said) {
            (Confirmations::Left(left), Said::Confirmed(..)) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            (Confirmations::All(of), Said::Confirmed(..)) => self.subscribed.has_none(*of),
            _ => true,
        };
        if !is_last {
            return;
        }
        let effect = open.request.effect();
        self.database.follow(effect, reply);
        if reply.error.is_empty() {
            match effect {
                Effect::Reset => self.subscribed.end_all(),
                Effect::Psync => self.replicates = true,
                _ => {}
            }
        }
        if unseen {
            if let Some(Entry::Open(open)) = self.pop() {
                self.lost(open.request.start, LossReason::ResponseMissing, found);
            }
        } else {
            self.finish(reply.error.clone(), found);
        }
    }

    /// Whether nobody asked for the reply.
    fn is_unasked(&self, reply: &Reply) -> bool {
        let front = self.front();
        let confirms = matches!(reply.said, Said::Confirmed(..));
        let waits = front.is_some_and(Open::waits_for_confirmation);
        // What RESP3 tells with pushes, RESP2 tells with arrays: only to a subscriber, who can ask for little else.
        let may_be_told =
            || front.is_none_or(|open| open.waits_for_confirmation() || open.request.is_for_subscribers());
        (reply.is_push && !(confirms && waits))
            || reply.simple == Simple::Monitored
            || (reply.said == Said::Message && may_be_told())
            || (confirms && !waits && may_be_told())
    }

    /// Whether the request behind the first was sent later, and before all of the reply to the first had come.
    fn overlaps(&self, reply: &Reply) -> bool {
        match (self.queue.front(), self.queue.get(1)) {
            (Some(Entry::Open(first)), Some(second)) => {
                first.request.end.run < second.run() && second.run() < reply.end.run
            }
            _ => false,
        }
    }
}
