//! The PostgreSQL frontend/backend protocol, version 3.
//!
//! ```text
//!   bytes and holes ──► Framer (frontend) ──► messages ──► Session::request  ──┐
//!                                                                              ├─► open requests ──► exchanges
//!   bytes and holes ──► Framer (backend)  ──► messages ──► Session::response ──┘
//! ```
//!
//! These are exchanges:
//! - A simple `Query` with any number of statements, from its first byte to the end of `ReadyForQuery`.
//! - An `Execute`. It begins with the first message since the last `Execute`, `Flush` or `Sync`: its `Parse` or its
//!   `Bind`. It ends with its own answer (`CommandComplete`, `EmptyQueryResponse`, `PortalSuspended`, `ErrorResponse`),
//!   or with `ReadyForQuery` if a `Sync` follows it.
//! - A `Parse`, or the `Describe` of a statement, without an `Execute`: `PREPARE`. If its execution is the next message, it
//!   is a [part](folding) of that exchange.
//! - A `FunctionCall`.
//! - A refused connection: `CONNECT`. It is announced when it is refused. One that succeeds is not reported.
//!
//! After an error the server skips all messages up to the next `Sync`. A skipped request is reported as skipped, and
//! answered by the `ReadyForQuery`. Copied data belongs to the statement that copies.
//!
//! If the middle of a response was not captured, parsing resumes at its `ReadyForQuery`. That ends an operation, so it is
//! among the last bytes, which are always captured.
//!
//! Memory is bounded to about 12 MiB: 8.5 KiB of a message, 16,384 open requests with 4 MiB of SQL, 1024 names of prepared
//! statements and 1024 of portals, each with 512 KiB of SQL.

mod detect;
mod extended;
mod folding;
mod frame;
mod message;
mod open;
mod overflow;
mod preparation;
mod recovery;
mod response;
mod session;
mod statements;
mod tail;

use crate::exchange::{End, Finding, LossReason};
use crate::kit::follower::{Follower, TwoWay};
use crate::kit::holes;
use crate::kit::pieces::{BytePiece, Content};
use crate::kit::tail::Tail;
use crate::moment::{Close, Moment};
use crate::spec::{Capture, Spec, Transport};
use frame::{Framer, Hole};
use message::{ANSWER, Message, PACKET, Packet, READY_FOR_QUERY_LENGTH, Side, backend};
use session::Session;

/// PostgreSQL, and other databases with its protocol.
pub static SPEC: Spec = Spec {
    name: "postgres",
    title: "PostgreSQL",
    transport: Transport::Stream,
    detect: detect::detect,
    parser: Some(|from_start| Box::new(Postgres::new(from_start))),
    capture: Capture::Heads,
    concurrent: false,
    proves_roles: false,
};

/// The code of an open request's error, if the real code was not captured.
const UNKNOWN_ERROR: &str = "?";

/// The parser of one connection to PostgreSQL.
pub type Postgres = Follower<Dialogue>;

/// The requests and responses of one connection.
///
/// It is [`Unparsable`](crate::Unparsable) if a message has a kind or a length that the protocol does not have.
/// Encryption is reported as [`Finding::SwitchedProtocol`].
#[derive(Debug)]
pub struct Dialogue {
    frontend: Framer,
    backend: Framer,
    session: Session,
    /// The last bytes of the responses, while their framing is lost.
    tail: Tail,
    /// The responses end with a hole that was not recorded, so the next bytes may be in the middle of a message.
    follows_unrecorded: bool,
    /// Encryption follows, or a `CancelRequest`, which has no response. Everything else is ignored.
    is_silent: bool,
}

impl TwoWay for Dialogue {
    fn new(from_start: bool) -> Self {
        let (mut frontend, mut backend) = (Framer::new(Side::Frontend), Framer::new(Side::Backend));
        let session = Session::new(from_start);
        if from_start {
            frontend.expect_packet();
        } else {
            frontend.lose();
            backend.lose();
        }
        Self { frontend, backend, session, tail: Tail::default(), follows_unrecorded: false, is_silent: false }
    }

    fn request(&mut self, content: Content<'_>, at: Moment, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        match content {
            _ if self.is_silent => {}
            Content::Bytes(bytes) => self.requests(BytePiece { bytes, at }, found)?,
            Content::Hole(missing) => self.missing_requests(missing, at, found),
        }
        self.session.report_forgotten(found);
        Ok(())
    }

    fn response(
        &mut self,
        content: Content<'_>,
        at: Moment,
        hole: holes::Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        match content {
            _ if self.is_silent => {}
            Content::Bytes(bytes) => self.responses(BytePiece { bytes, at }, found)?,
            Content::Hole(missing) => self.missing_responses(missing, at, hole, found),
        }
        self.session.report_forgotten(found);
        Ok(())
    }

    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        self.session.close(ending(why, at, is_broken), found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        self.session.give_up_before(oldest, ending(Close::Aged, at, is_broken), found);
    }

    fn pass_time(&mut self, now: u64, found: &mut Vec<Finding>) {
        self.session.release_preparation_at(now, found);
    }

    fn open(&self) -> usize {
        self.session.account.open()
    }
}

impl Dialogue {
    fn requests(&mut self, mut piece: BytePiece<'_>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        if self.frontend.enters(piece.at.run) {
            self.session.request_run(piece.at, self.backend.is_lost(), found);
            if self.frontend.is_lost() {
                self.find_request(piece.bytes);
            }
        }
        while let Some(message) = self.frontend.next(&mut piece)? {
            if message.kind != PACKET {
                self.session.request(&message, found);
                continue;
            }
            match Packet::parse(message.body).ok_or("no start-up packet")? {
                Packet::Startup { database } => {
                    self.session.startup(message.start, message.end, database);
                    self.frontend.expect_message();
                    self.follow_responses();
                }
                Packet::Encryption => {
                    self.frontend.expect_packet();
                    self.backend.expect_answer();
                }
                Packet::Cancel => {
                    self.is_silent = true;
                    return Ok(());
                }
            }
        }
        if let Some(partial) = self.frontend.partial() {
            self.session.partial_request(partial, piece.at, found);
        }
        Ok(())
    }

    fn responses(&mut self, mut piece: BytePiece<'_>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        if self.session.requests.is_overtaken(piece.at.run) {
            self.session.observe_overtaking(piece.at.run, found);
        }
        let follows_unrecorded = std::mem::take(&mut self.follows_unrecorded);
        if self.backend.enters(piece.at.run) {
            self.session.requests.response_run(piece.at);
            if self.backend.is_lost()
                && self.session.match_run(piece.at, follows_unrecorded, found)
                && Side::Backend.is_spoken_in(piece.bytes)
            {
                self.follow_responses();
            }
        }
        if self.backend.is_lost() {
            self.find_ready(piece, found);
            return Ok(());
        }
        while let Some(message) = self.backend.next(&mut piece)? {
            if message.kind != ANSWER {
                self.session.response(&message, found);
                continue;
            }
            match message.body {
                b"N" | b"E" => {}
                b"S" | b"G" => {
                    self.is_silent = true;
                    found.push(Finding::SwitchedProtocol);
                    return Ok(());
                }
                _ => return Err("no answer to a request for encryption"),
            }
        }
        if let Some(partial) = self.backend.partial() {
            self.session.partial_response(partial, piece.at, found);
        }
        Ok(())
    }

    /// Resumes the framing of the requests if the first bytes of a run look like a message.
    fn find_request(&mut self, bytes: &[u8]) {
        if Packet::begins(bytes) {
            self.frontend.expect_packet();
        } else if Side::Frontend.is_spoken_in(bytes) {
            self.frontend.expect_message();
        }
    }

    /// Resumes the framing of the responses after a `ReadyForQuery` that ends the piece.
    fn find_ready(&mut self, piece: BytePiece<'_>, found: &mut Vec<Finding>) {
        let end = piece.at.advanced(piece.bytes.len() as u64);
        self.session.unknown_response(piece.at, end, found);
        self.tail.push(piece.bytes);
        if let Some((before, status)) = tail::ready(&self.tail) {
            let position = end.position.saturating_sub(READY_FOR_QUERY_LENGTH as u64);
            let start = Moment { position, ..end };
            let ready = Message { kind: backend::READY_FOR_QUERY, body: status, start, end };
            self.session.found_ready(before, &ready, found);
            self.tail.clear();
            self.follow_responses();
        }
    }

    /// The next byte of the responses begins a message, and belongs to the first open request.
    fn follow_responses(&mut self) {
        self.backend.expect_message();
        self.session.requests.relock();
    }

    fn missing_requests(&mut self, missing: u64, at: Moment, found: &mut Vec<Finding>) {
        let end = at.advanced(missing);
        if self.frontend.enters(at.run) {
            self.session.request_run(at, self.backend.is_lost(), found);
        }
        if self.frontend.expects_packet() {
            // The packet decides the form of the answer.
            self.frontend.lose();
            self.backend.lose();
            self.session.lose_requests(end, found);
            return;
        }
        match self.frontend.gap(missing, at) {
            Hole::Within => {
                if let Some(partial) = self.frontend.partial() {
                    self.session.partial_request(partial, end, found);
                }
            }
            Hole::Ends(message) => self.session.request(&message, found),
            Hole::Loses(message) => {
                if let Some(message) = message {
                    self.session.request(&message, found);
                }
                self.session.lose_requests(end, found);
            }
            Hole::Lost => {}
        }
    }

    fn missing_responses(&mut self, missing: u64, at: Moment, hole: holes::Hole, found: &mut Vec<Finding>) {
        let end = at.advanced(missing);
        // A hole in an earlier run was not recorded either.
        let is_unrecorded = hole == holes::Hole::Unrecorded || self.session.requests.is_overtaken(at.run);
        self.follows_unrecorded = is_unrecorded;
        if self.backend.enters(at.run) {
            self.session.requests.response_run(at);
            if self.backend.is_lost() {
                self.session.match_run(at, false, found);
            }
        }
        self.tail.clear();
        match self.backend.gap(missing, at) {
            Hole::Within => {
                if let Some(partial) = self.backend.partial() {
                    self.session.partial_response(partial, end, found);
                }
            }
            // If this message ends the answer, the end's time is unknown.
            Hole::Ends(message) if is_unrecorded && !matches!(message.kind, backend::DATA_ROW | backend::COPY_DATA) => {
                self.backend.lose();
                self.session.unknown_response(at, end, found);
            }
            Hole::Ends(message) => self.session.response(&message, found),
            Hole::Loses(message) => {
                if let Some(message) = message {
                    self.session.response(&message, found);
                }
                self.session.unknown_response(at, end, found);
            }
            Hole::Lost => self.session.unknown_response(at, end, found),
        }
    }
}

/// How a request without an answer ends.
fn ending(why: Close, at: Moment, is_broken: bool) -> Result<End, LossReason> {
    if is_broken { Err(LossReason::Unparsable) } else { Ok(End::Closed(why, at)) }
}
