//! Which reply answers which request, and which replies answer none.
//!
//! Replies come in the order of the requests, so [`InOrder`](crate::kit::in_order::InOrder) knows the request. This module
//! knows where Redis does not answer one request with one reply: confirmations, messages and pushes.

use compact_str::CompactString;

use super::command::{Effect, Silence};
use super::reply::{Reply, Said, Simple};
use super::session::{Open, Session};
use super::subscriptions::Confirmations;
use crate::exchange::{End, Finding};
use crate::kit::certainty::Client;
use crate::kit::in_order::{Answer, Matched};
use crate::moment::Moment;

/// What is known of the first bytes of a run of replies after the framing was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    /// They can begin a value.
    pub(super) looks_right: bool,
    /// Bytes directly before were not recorded, so they may be in the middle of a value.
    pub(super) follows_unrecorded: bool,
    /// The newest request has not ended.
    pub(super) continues: bool,
}

impl Session {
    /// The framing is lost, and a run of replies begins at `at`. Returns whether it can be followed.
    pub(super) fn resume(&mut self, at: Moment, beginning: Beginning, found: &mut Vec<Finding>) -> bool {
        let Beginning { looks_right, follows_unrecorded, continues } = beginning;
        if self.requests.is_lost() {
            return false;
        }
        if !looks_right {
            if !self.requests.has_request_before(at.run) {
                self.requests.infer_unseen(at.run);
                found.push(Finding::Orphan(at));
            }
            return false;
        }
        match self.match_run(at, continues, found) {
            // If nothing older is open, the bytes before are the beginning of this reply.
            Matched::Front { older, .. } => !follows_unrecorded || older,
            Matched::Unseen => true,
            Matched::Unknown => false,
        }
    }

    fn match_run(&mut self, at: Moment, continues: bool, found: &mut Vec<Finding>) -> Matched {
        let (requests, mut lost) = self.losing(found);
        requests.match_run(at, continues, &mut lost)
    }

    fn settle_unseen(&mut self, run: u32, found: &mut Vec<Finding>) {
        let (requests, mut lost) = self.losing(found);
        requests.settle_unseen(run, &mut lost);
    }

    fn next_answer(&mut self, at: Moment, found: &mut Vec<Finding>) -> Answer {
        let (requests, mut lost) = self.losing(found);
        requests.answer(at, &mut lost)
    }

    /// Replies passed in an unknown framing.
    pub(super) fn miss_replies(&mut self, found: &mut Vec<Finding>) {
        self.requests.miss_response();
        self.forget_subscriptions(found);
        if self.requests.client() >= Client::Pipelines {
            self.lose_sync(found);
        }
    }

    /// Whether a reply comes before the end of the request that it answers.
    pub(super) fn is_early(&self, reply: &Reply) -> bool {
        self.requests.is_locked() && self.requests.is_idle() && !self.is_unsolicited(reply)
    }

    /// Takes a reply. `true` if it was matched with a request. `at_unknown_time`: its end was not recorded.
    pub(super) fn reply(&mut self, reply: &Reply, at_unknown_time: bool, found: &mut Vec<Finding>) -> bool {
        self.pushed |= reply.is_push;
        self.settle_unseen(reply.start.run, found);
        let confuses = self.requests.front().is_some_and(|open| match reply.said {
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
        if self.is_unsolicited(reply) {
            return false;
        }
        let is_confirmation = matches!(reply.said, Said::Confirmed(..));
        loop {
            match self.next_answer(reply.start, found) {
                Answer::Front => {}
                Answer::Reported => return true,
                Answer::Unseen { reported } => {
                    // CLIENT REPLY OFF was refused.
                    self.silence = Silence::No;
                    if !reported && !is_confirmation {
                        found.push(Finding::Orphan(reply.start));
                    }
                    return false;
                }
                Answer::Unknown => return false,
            }
            // The last confirmation of the front was not recognized.
            if !is_confirmation && let Some((_, end)) = self.requests.front().and_then(|front| front.answer) {
                self.finish(end.run, CompactString::default(), End::Complete, found);
                continue;
            }
            if self.requests.overlaps(reply.end.run) {
                self.requests.observe(Client::Pipelines);
                if !self.requests.is_locked() {
                    self.lose_sync(found);
                    return false;
                }
            }
            self.answer_front(reply, at_unknown_time, found);
            return true;
        }
    }

    /// The reply answers the first open request.
    fn answer_front(&mut self, reply: &Reply, at_unknown_time: bool, found: &mut Vec<Finding>) {
        let Some(open) = self.requests.front_mut() else { return };
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
        let end = if at_unknown_time { End::Unseen } else { End::Complete };
        self.finish(reply.end.run, reply.error.clone(), end, found);
    }

    /// Whether the reply answers no request.
    fn is_unsolicited(&self, reply: &Reply) -> bool {
        let front = self.requests.front();
        let confirms = matches!(reply.said, Said::Confirmed(..));
        let waits = front.is_some_and(Open::waits_for_confirmation);
        // RESP3 sends messages as pushes. RESP2 sends them as arrays, but only to a subscriber, who can ask for little
        // else.
        let may_be_sent =
            || front.is_none_or(|open| open.waits_for_confirmation() || open.request.is_for_subscribers());
        (reply.is_push && !(confirms && waits))
            || reply.simple == Simple::Monitored
            || (reply.said == Said::Message && may_be_sent())
            || (confirms && !waits && may_be_sent())
    }
}
