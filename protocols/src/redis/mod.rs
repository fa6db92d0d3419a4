//! RESP2 and RESP3, the protocol of Redis, Valkey and KeyDB.
//!
//! ```text
//!   bytes and holes ──► Frames ──► tokens ──► Requests ──► requests ──┐
//!                                                                     ├─► Session ──► exchanges
//!   bytes and holes ──► Frames ──► tokens ──► Replies  ──► replies ───┘
//! ```
//!
//! [`frame`] cuts each direction into values. [`command`] makes requests of them, and [`reply`] makes replies. [`session`]
//! keeps the open requests, and [`matching`] finds the request that a reply answers. [`Redis`] connects them. After a hole
//! over the end of a value, parsing resumes at the first piece of a run that can begin one.
//!
//! A request begins once its name is known. If a hole hides the end of a reply, the request is still reported when the
//! client sends more, provided that it was the only open one and the reply an array. An array is no error.
//!
//! Memory is bounded to 8 MiB: 64 bytes of a value, and 16,384 open requests.

mod command;
mod database;
mod detect;
mod frame;
mod line;
mod matching;
mod reply;
mod session;
mod shapes;
mod subscriptions;
mod whole;

use crate::exchange::Finding;
use crate::kit::certainty::Client;
use crate::kit::follower::{Follower, TwoWay};
use crate::kit::holes::Hole;
use crate::kit::pieces::Content;
use crate::moment::{Close, Moment};
use crate::spec::{Capture, Spec, Transport};
use command::{Progress, Request, Requests};
use frame::{Frames, Side, Step};
use matching::Beginning;
use reply::Replies;
use session::{Session, Unread};
use whole::WholeRequest;

/// Redis, Valkey and KeyDB.
pub static SPEC: Spec = Spec {
    name: "redis",
    title: "Redis",
    transport: Transport::Stream,
    detect: detect::detect,
    parser: Some(|from_start| Box::new(Redis::new(from_start))),
    capture: Capture::Heads,
    concurrent: false,
    proves_roles: false,
};

/// The code of an open request's error, if the reply has none.
const UNKNOWN_ERROR: &str = "?";

/// The parser of one connection to Redis.
pub type Redis = Follower<Dialogue>;

/// The requests and replies of one connection.
///
/// It is [`Unparsable`](crate::Unparsable) if the bytes are no RESP: an invalid type or length, a string longer than its
/// length, a line or a nesting without end, or an inline command that Redis does not have. Replication traffic is
/// ignored.
#[derive(Debug)]
pub struct Dialogue {
    requests: Lane<Requests>,
    replies: Lane<Replies>,
    session: Session,
}

/// One direction.
#[derive(Debug)]
struct Lane<T> {
    frames: Frames,
    framing: Framing,
    /// Makes requests or replies of the tokens.
    assembler: T,
    run: Option<u32>,
    /// Just past the last byte.
    end: Moment,
    /// It ends with a hole that was not recorded, so the next bytes may be in the middle of a value.
    follows_unrecorded: bool,
    /// Where the last value began that a hole cut off, if it was an array.
    cut_array: Option<Moment>,
}

/// Whether the boundaries of values are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Locked,
    /// Bytes look like the beginning of a value. Its end will prove it.
    Tentative,
    Lost,
}

impl<T: Default> Lane<T> {
    fn new(side: Side, from_start: bool) -> Self {
        Self {
            frames: Frames::new(side),
            framing: if from_start { Framing::Locked } else { Framing::Lost },
            assembler: T::default(),
            run: None,
            end: Moment::default(),
            follows_unrecorded: false,
            cut_array: None,
        }
    }

    /// Whether a piece is the first of its run.
    fn enters(&mut self, run: u32) -> bool {
        self.run.replace(run) != Some(run)
    }

    fn restart(&mut self, framing: Framing) {
        self.framing = framing;
        self.frames.restart();
        self.assembler = T::default();
    }

    /// Whether the first piece of a run can begin a value.
    fn may_begin(&self, content: Content<'_>) -> bool {
        matches!(content, Content::Bytes(bytes) if self.frames.may_begin(bytes))
    }
}

impl TwoWay for Dialogue {
    fn new(from_start: bool) -> Self {
        Self {
            requests: Lane::new(Side::Requests, from_start),
            replies: Lane::new(Side::Replies, from_start),
            session: Session::new(from_start),
        }
    }

    fn request(
        &mut self,
        mut content: Content<'_>,
        mut at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        if self.session.replicates {
            return Ok(());
        }
        if self.requests.enters(at.run) {
            let last = self.requests.end.nanos.max(self.replies.end.nanos);
            let lost = self.replies.framing == Framing::Lost;
            let unread = lost.then(|| Unread { array: self.replies.cut_array.take(), end: self.replies.end });
            self.session.request_run(at, last, unread, found);
            if self.requests.framing != Framing::Locked {
                let may_begin = self.requests.may_begin(content);
                self.requests.restart(if may_begin { Framing::Tentative } else { Framing::Lost });
            }
        }
        self.requests.end = at.advanced(content.len());
        while content.len() > 0 {
            let lane = &mut self.requests;
            if lane.framing == Framing::Lost {
                self.session.miss_requests(at.run, found);
                break;
            }
            if let (Framing::Locked, Content::Bytes(bytes)) = (lane.framing, content)
                && lane.frames.begun().is_none()
                && let Some(whole) = WholeRequest::at_start(bytes)
            {
                let request = Request::of(&whole, at);
                content = Content::Bytes(&bytes[whole.length..]);
                self.session.begin(at, found);
                at = request.end;
                self.session.complete_request(request, found);
                continue;
            }
            let (used, progress) = match lane.frames.step(content, at) {
                Ok(Step::More(used)) => (used, Progress::None),
                Ok(Step::Token(used, token)) => (used, lane.assembler.token(&token, at.advanced(used))?),
                Ok(Step::Lost) => {
                    self.lose_requests(at, found);
                    continue;
                }
                Err(_) if lane.framing == Framing::Tentative => {
                    lane.restart(Framing::Lost);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            at = at.advanced(used);
            content = content.after(used);
            let (begun, whole) = match progress {
                Progress::None => continue,
                Progress::Begun(start) => (Some(start), None),
                Progress::Whole(start, request) => (start, Some(request)),
            };
            lane.framing = Framing::Locked;
            if let Some(start) = begun {
                self.session.begin(start, found);
            }
            if let Some(request) = whole {
                self.session.complete_request(request, found);
            }
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
        if self.session.replicates {
            return Ok(());
        }
        let overtook = self.session.requests.is_overtaken(at.run);
        // A hole in an earlier run was not recorded either.
        let is_unrecorded = hole == Hole::Unrecorded || (overtook && matches!(content, Content::Hole(_)));
        if overtook && !is_unrecorded {
            self.session.requests.observe(Client::Overtakes);
        }
        let enters = !is_unrecorded && self.replies.enters(at.run);
        if enters {
            self.session.requests.response_run(at);
        }
        if enters && self.replies.framing != Framing::Locked {
            let beginning = Beginning {
                looks_right: self.replies.may_begin(content),
                follows_unrecorded: self.replies.follows_unrecorded,
                continues: self.requests.assembler.is_begun(),
            };
            let resumes = self.session.resume(at, beginning, found);
            self.replies.restart(if resumes { Framing::Tentative } else { Framing::Lost });
        }
        self.replies.follows_unrecorded = is_unrecorded;
        self.replies.end = at.advanced(content.len());
        while content.len() > 0 {
            let lane = &mut self.replies;
            if lane.framing == Framing::Lost || self.session.requests.is_lost() {
                lane.restart(Framing::Lost);
                self.session.miss_replies(found);
                break;
            }
            let (used, reply) = match lane.frames.step(content, at) {
                Ok(Step::More(used)) => (used, None),
                Ok(Step::Token(used, token)) => (used, lane.assembler.token(&token, at.advanced(used))),
                Ok(Step::Lost) => {
                    lane.cut_array = lane.frames.begun().filter(|_| lane.assembler.is_array());
                    lane.restart(Framing::Lost);
                    continue;
                }
                Err(_) if lane.framing == Framing::Tentative => {
                    lane.restart(Framing::Lost);
                    continue;
                }
                Err(reason) => return Err(reason),
            };
            at = at.advanced(used);
            content = content.after(used);
            let Some(reply) = reply else { continue };
            if self.session.is_early(&reply)
                && let Some(request) = self.requests.assembler.cut(self.requests.end)
            {
                // The server refused the request before its end.
                self.session.await_reply(request, found);
            }
            if self.session.reply(&reply, is_unrecorded, found) {
                self.replies.framing = Framing::Locked;
            }
            if self.session.replicates {
                break;
            }
        }
        Ok(())
    }

    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if let Some(request) = self.requests.assembler.cut(self.requests.end) {
            self.session.await_reply(request, found);
        }
        self.session.close(why, at, self.answering(), is_broken, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, _is_broken: bool, found: &mut Vec<Finding>) {
        self.session.give_up_before(oldest, at, self.answering(), found);
    }

    fn open(&self) -> usize {
        self.session.open()
    }
}

impl Dialogue {
    /// A hole hides the end of the current request, and any number of other requests.
    fn lose_requests(&mut self, at: Moment, found: &mut Vec<Finding>) {
        let lane = &mut self.requests;
        if lane.assembler.is_begun() {
            if let Some(request) = lane.assembler.cut(at) {
                self.session.complete_request(request, found);
            }
        } else if let (Framing::Locked, Some(start)) = (lane.framing, lane.frames.begun()) {
            self.session.begin_hidden(start, found);
        }
        lane.restart(Framing::Lost);
    }

    /// The first byte of the current reply, and how far it has come.
    fn answering(&self) -> Option<(Moment, Moment)> {
        let answering = self.replies.frames.begun().filter(|_| !self.replies.assembler.is_push());
        answering.map(|start| (start, self.replies.end))
    }
}
