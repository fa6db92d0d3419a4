//! memcached: the text protocol with its meta commands, and the binary protocol.
//!
//! [`frame`] cuts each direction into heads and data, [`text`] and [`binary`] read the heads, and [`session`] matches
//! responses with requests. [`Memcached`] here passes on what one finds to the other. Where a hole hides a boundary, it
//! continues at the first piece of a run that can begin a message.
//!
//! - Keys and values are never kept: facts hold the operation, the number of keys and the error.
//! - An item that is not found, exists already or is not stored is no error.
//! - `noreply` commands and quiet requests without a response end with their last byte, and have no response.
//! - `quit` and `shutdown` end the connection and are not reported.
//!
//! Memory is bounded to 8 MiB per connection: 512 bytes of each direction and 16,384 open requests.

mod binary;
mod detect;
mod frame;
mod identity;
mod lane;
mod matching;
mod request;
mod response;
mod session;
mod text;

use crate::exchange::Finding;
use crate::kit::certainty::Client;
use crate::kit::follower::{Follower, TwoWay};
use crate::kit::holes::Hole;
use crate::kit::pieces::Content;
use crate::moment::{Close, Direction, Moment};
use crate::spec::{Capture, Spec, Transport};
use frame::{Encoding, Step};
use lane::{Lane, Sync};
use matching::Beginning;
use request::{Data, Request};
use response::Response;
use session::{Session, Unread};
use text::Then;

/// The row of memcached.
pub static SPEC: Spec = Spec {
    name: "memcached",
    title: "memcached",
    transport: Transport::Stream,
    detect: detect::detect,
    parser: Some(|from_start| Box::new(Memcached::new(from_start))),
    capture: Capture::Heads,
    concurrent: false,
    proves_roles: false,
};

/// The parser of one connection to memcached.
pub type Memcached = Follower<Dialogue>;

/// The requests and responses of one connection.
///
/// It gives up ([`Unparsable`](crate::Unparsable)) on responses that memcached does not have, on lengths that it does not
/// allow, on data that does not end where its length says, and on lines without an end.
#[derive(Debug)]
pub struct Dialogue {
    requests: Lane,
    responses: Lane,
    /// The request whose data is on its way.
    sending: Option<Request>,
    /// The response whose data is on its way.
    receiving: Option<Response>,
    /// Items of the response on its way were seen. Then it is no error.
    has_items: bool,
    session: Session,
    /// `watch` was accepted: the server sends its log.
    has_switched: bool,
}

impl TwoWay for Dialogue {
    fn new(from_start: bool) -> Self {
        Self {
            requests: Lane::new(from_start),
            responses: Lane::new(from_start),
            sending: None,
            receiving: None,
            has_items: false,
            session: Session::new(from_start),
            has_switched: false,
        }
    }

    fn request(
        &mut self,
        mut content: Content<'_>,
        mut at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        if self.has_switched {
            return Ok(());
        }
        if self.requests.enters(at.run) {
            let last = self.requests.end.nanos.max(self.responses.end.nanos);
            let is_lost = self.responses.sync == Sync::Lost;
            let unread = is_lost.then(|| Unread { items: self.responses.cut_items.take(), end: self.responses.end });
            self.session.request_run(at, last, unread, found);
            if self.requests.sync != Sync::Locked {
                let may_begin = matches!(content, Content::Bytes(bytes) if detect::may_begin_request(bytes));
                self.requests.restart(if may_begin { Sync::Tentative } else { Sync::Lost });
            }
        }
        self.requests.end = at.advanced(content.len());
        while content.len() > 0 {
            let lane = &mut self.requests;
            if lane.sync == Sync::Lost {
                self.session.unseen(at.run, found);
                break;
            }
            let start = lane.frames.begun().unwrap_or(at);
            let used = match lane.frames.step(content, at) {
                Ok(Step::More(used)) => {
                    if let Some(sending) = &mut self.sending {
                        sending.end = at.advanced(used);
                    }
                    used
                }
                Ok(Step::Head(used, head)) => {
                    let is_locked = lane.sync == Sync::Locked;
                    match Request::of(&head, start, at.advanced(used)) {
                        Ok((request, data)) if is_locked || !request.operation.is_empty() => {
                            self.request_head(request, data, found);
                        }
                        Ok(_) | Err(_) if !is_locked => lane.restart(Sync::Lost),
                        Ok(_) => {}
                        Err(reason) => return Err(reason),
                    }
                    used
                }
                Ok(Step::Data(used, _)) => {
                    if let Some(mut request) = self.sending.take() {
                        request.end = at.advanced(used);
                        self.session.asked(request, found);
                    }
                    used
                }
                Ok(Step::Lost) => {
                    self.lose_requests(found);
                    continue;
                }
                Err(_) if lane.sync == Sync::Tentative => {
                    lane.restart(Sync::Lost);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            at = at.advanced(used);
            content = content.after(used);
        }
        Ok(())
    }

    fn response(
        &mut self,
        mut content: Content<'_>,
        mut at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        if self.has_switched {
            return Ok(());
        }
        let overtook = self.session.requests.is_overtaken(at.run);
        // The time of a hole is not its own if its record was lost: it is that of something before the request.
        let of_lost_record = hole == Hole::Unrecorded || (overtook && matches!(content, Content::Hole(_)));
        if overtook && !of_lost_record {
            self.session.requests.observe(Client::Overtakes);
        }
        let enters = !of_lost_record && self.responses.enters(at.run);
        if enters {
            self.session.requests.response_run(at);
        }
        if enters && self.responses.sync != Sync::Locked {
            let looks_right = matches!(content, Content::Bytes(bytes) if detect::may_begin_response(bytes));
            let beginning = Beginning {
                looks_right,
                follows_lost_record: self.responses.after_lost_record,
                continues: self.sending.is_some(),
            };
            let resumes = self.session.resume(at, beginning, found);
            self.responses.restart(if resumes { Sync::Tentative } else { Sync::Lost });
            self.has_items = false;
        }
        self.responses.after_lost_record = of_lost_record;
        self.responses.end = at.advanced(content.len());
        while content.len() > 0 && !self.has_switched {
            let lane = &mut self.responses;
            if lane.sync == Sync::Lost || self.session.requests.is_lost() {
                lane.restart(Sync::Lost);
                self.session.miss_responses(found);
                break;
            }
            let start = lane.frames.begun().unwrap_or(at);
            let (used, over) = match lane.frames.step(content, at) {
                Ok(Step::More(used) | Step::Data(used, false)) => (used, None),
                Ok(Step::Data(used, true)) => (used, self.receiving.take()),
                Ok(Step::Head(used, head)) => {
                    let end = at.advanced(used);
                    match Response::of(&head, start, end) {
                        Ok((response, encoding, then)) => (used, self.response_head(response, encoding, then)),
                        Err(_) if lane.sync == Sync::Tentative => {
                            lane.restart(Sync::Lost);
                            continue;
                        }
                        Err(reason) => return Err(reason),
                    }
                }
                Ok(Step::Lost) => {
                    found.push(Finding::CaptureMore(Direction::ToClient));
                    lane.cut_items = lane.frames.begun().filter(|_| self.has_items);
                    lane.restart(Sync::Lost);
                    continue;
                }
                Err(_) if lane.sync == Sync::Tentative => {
                    lane.restart(Sync::Lost);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            at = at.advanced(used);
            content = content.after(used);
            let Some(mut response) = over else { continue };
            response.end = at;
            self.has_items = false;
            self.take(&response, of_lost_record, found);
        }
        Ok(())
    }

    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if let Some(request) = self.sending.take() {
            self.session.asked(request, found);
        }
        self.session.close(why, at, self.under_way(), is_broken, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, _is_broken: bool, found: &mut Vec<Finding>) {
        self.session.give_up_before(oldest, at, self.under_way(), found);
    }

    fn open(&self) -> usize {
        self.session.open()
    }
}

impl Dialogue {
    /// The head of a request has passed. `data`: so many bytes follow it.
    fn request_head(&mut self, request: Request, data: Option<Data>, found: &mut Vec<Finding>) {
        self.requests.sync = Sync::Locked;
        if let Some((encoding, length)) = data {
            self.requests.frames.data(encoding, length, true);
        } else {
            self.requests.frames.end();
        }
        if request.ends_connection() {
            return;
        }
        self.session.begin(request.start, found);
        if data.is_some() {
            self.sending = Some(request);
        } else {
            self.session.asked(request, found);
        }
    }

    /// A hole hides where the line or header on its way ends, and any number of requests.
    fn lose_requests(&mut self, found: &mut Vec<Finding>) {
        if let (Sync::Locked, Some(start)) = (self.requests.sync, self.requests.frames.begun()) {
            self.session.begin_hidden(start, found);
            found.push(Finding::CaptureMore(Direction::ToServer));
        }
        self.requests.restart(Sync::Lost);
    }

    /// The head of a response has passed. Returns the response if it is over.
    fn response_head(&mut self, response: Response, encoding: Encoding, then: Then) -> Option<Response> {
        let frames = &mut self.responses.frames;
        // Empty data of the text protocol still has a line end.
        let is_empty = |length| length == 0 && encoding == Encoding::Binary;
        match then {
            Then::End => {}
            Then::Data(length) if is_empty(length) => {}
            Then::Data(length) => {
                frames.data(encoding, length, true);
                self.receiving = Some(response);
                return None;
            }
            Then::Item(length) if !is_empty(length) => {
                frames.data(encoding, length, false);
                self.has_items = true;
                return None;
            }
            Then::Line | Then::Item(_) => {
                frames.more();
                self.has_items = true;
                return None;
            }
        }
        frames.end();
        Some(response)
    }

    /// A response is complete.
    fn take(&mut self, response: &Response, at_unknown_time: bool, found: &mut Vec<Finding>) {
        if self.session.is_early()
            && let Some(request) = self.sending.take()
        {
            // Refused before all of its data was sent.
            self.session.asked(request, found);
        }
        let switches = response.error.is_none() && self.session.next_operation() == Some(text::WATCH);
        if self.session.answered(response, at_unknown_time, found) {
            self.responses.sync = Sync::Locked;
            if switches {
                self.close(Close::Shutdown, response.end, false, found);
                found.push(Finding::SwitchedProtocol);
                self.has_switched = true;
            }
        }
    }

    /// The first byte of the response on its way, and the moment just past the last one that was seen.
    fn under_way(&self) -> Option<(Moment, Moment)> {
        self.responses.frames.begun().map(|start| (start, self.responses.end))
    }
}
