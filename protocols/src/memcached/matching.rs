//! Which response answers which request.
//!
//! Responses come in the order of the requests, so [`InOrder`](crate::kit::in_order::InOrder) finds the group of requests.
//! This module finds the member of the group.

use super::request::Request;
use super::response::Response;
use super::session::{Group, Session};
use crate::exchange::{End, Finding, LossReason};
use crate::kit::certainty::Client;
use crate::kit::in_order::{self, Answer, Matched};
use crate::moment::Moment;

/// What is known of the first bytes of a run of responses after the framing was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    /// They can begin a response.
    pub(super) looks_right: bool,
    /// The record of an operation was lost before them, so they may be in the middle of a response.
    pub(super) follows_lost_record: bool,
    /// The newest request has not ended.
    pub(super) continues: bool,
}

/// Which request of a group a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    /// The quiet request with this index.
    Quiet(usize),
    Last,
    /// One of several.
    Unknown,
}

impl Group {
    /// Finds the request that `response` answers.
    fn member(&self, response: &Response) -> Member {
        let mut candidates = self.quiet.iter().enumerate().filter(|(_, quiet)| quiet.may_have(response));
        let first = candidates.next().map(|(index, _)| index);
        let is_proven = response.identifies();
        match (first, self.request.may_have(response)) {
            (None, true) => Member::Last,
            (None, false) => Member::Unknown,
            (Some(_), true) if !is_proven => Member::Unknown,
            (Some(_), _) if response.error.is_some() && candidates.next().is_some() => Member::Unknown,
            (Some(first), _) => Member::Quiet(first),
        }
    }
}

impl Session {
    /// The framing was lost, and a new run of responses begins. Whether it can be followed.
    pub(super) fn resume(&mut self, at: Moment, beginning: Beginning, found: &mut Vec<Finding>) -> bool {
        let Beginning { looks_right, follows_lost_record, continues } = beginning;
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
            // With nothing older open, the lost record held the beginning of this response.
            Matched::Front { older, .. } => !follows_lost_record || older,
            Matched::Unseen => true,
            Matched::Unknown => false,
        }
    }

    fn match_run(&mut self, at: Moment, continues: bool, found: &mut Vec<Finding>) -> Matched {
        let (requests, mut lost) = self.losing(found);
        requests.match_run(at, continues, &mut lost)
    }

    fn next_answer(&mut self, at: Moment, found: &mut Vec<Finding>) -> Answer {
        let (requests, mut lost) = self.losing(found);
        requests.answer(at, &mut lost)
    }

    /// Responses passed in an unknown framing.
    pub(super) fn miss_responses(&mut self, found: &mut Vec<Finding>) {
        self.requests.miss_response();
        self.lose_quiet(found);
        if self.requests.client() >= Client::Pipelines {
            self.lose_sync(found);
        }
    }

    /// Whether a response comes although no request is complete.
    pub(super) fn is_early(&self) -> bool {
        self.requests.is_locked() && self.requests.is_idle() && self.quiet.is_empty()
    }

    /// Takes a response. `true` if it was matched with a request. `at_unknown_time`: it ended in a record that was lost.
    pub(super) fn answered(&mut self, response: &Response, at_unknown_time: bool, found: &mut Vec<Finding>) -> bool {
        if self.requests.is_idle()
            && let Some(index) = self.quiet.iter().position(|quiet| quiet.may_have(response))
        {
            let over = self.quiet.drain(..=index).collect();
            self.finish_quiet(over, Some(response), at_unknown_time, found);
            return true;
        }
        match self.next_answer(response.start, found) {
            Answer::Front => {}
            Answer::Reported => return true,
            Answer::Unseen { reported } => {
                let is_of_unanswered = self.unanswered && response.error.is_some();
                if !reported && !is_of_unanswered {
                    found.push(Finding::Orphan(response.start));
                }
                return false;
            }
            Answer::Unknown => return false,
        }
        if self.requests.overlaps(response.end.run) {
            self.requests.observe(Client::Pipelines);
            if !self.requests.is_locked() {
                self.lose_sync(found);
                return false;
            }
        }
        let Some(group) = self.requests.front_mut() else { return false };
        let may_be_earlier = group.after_unanswered && response.error.is_some();
        match group.member(response) {
            _ if may_be_earlier => self.lose_sync(found),
            Member::Unknown => self.lose_sync(found),
            Member::Quiet(index) => {
                let over = group.quiet.drain(..=index).collect();
                self.finish_quiet(over, Some(response), at_unknown_time, found);
                return true;
            }
            Member::Last => {
                let is_trusted = self.requests.is_trusted();
                let finished = self.requests.finish(response.end.run).and_then(in_order::Entry::into_open);
                let Some(Group { quiet, request, .. }) = finished else { return false };
                self.finish_quiet(quiet, None, at_unknown_time, found);
                if is_trusted {
                    let answer = Some((response.start, response.end));
                    self.report(request, answer, response.error.as_ref(), ending(at_unknown_time), found);
                } else {
                    self.lose(&request, LossReason::ResponseMissing, found);
                }
                return true;
            }
        }
        false
    }

    /// Quiet requests are over. `response` answers the last of them; the others have none.
    fn finish_quiet(
        &mut self,
        mut over: Vec<Request>,
        response: Option<&Response>,
        at_unknown_time: bool,
        found: &mut Vec<Finding>,
    ) {
        let answered = response.and_then(|response| Some((over.pop()?, response)));
        let is_trusted = self.requests.is_trusted();
        for quiet in over {
            if is_trusted {
                self.report(quiet, None, None, End::Complete, found);
            } else {
                self.lose(&quiet, LossReason::ResponseMissing, found);
            }
        }
        let Some((request, response)) = answered else { return };
        if is_trusted {
            let answer = Some((response.start, response.end));
            self.report(request, answer, response.error.as_ref(), ending(at_unknown_time), found);
        } else {
            self.lose(&request, LossReason::ResponseMissing, found);
        }
    }
}

fn ending(at_unknown_time: bool) -> End {
    if at_unknown_time { End::Unseen } else { End::Complete }
}
