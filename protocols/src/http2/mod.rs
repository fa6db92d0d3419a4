//! HTTP/2 (RFC 9113), in clear text or decrypted.
//!
//! ```text
//!   bytes and holes ──► Lane (to the server) ──► frames ──┐
//!                                                         ├─► Http2 ──► Streams ──► exchanges
//!   bytes and holes ──► Lane (to the client) ──► frames ──┘
//! ```
//!
//! A [`Lane`] cuts one direction into frames, [`hpack`] decodes header blocks, and [`Streams`] matches responses with
//! requests by the id of their stream. [`Http2`] connects them. Payloads of DATA are stepped over by their length, through
//! holes as well. Calls of gRPC and its relatives are recognised by their content type: see [`crate::grpc`].
//!
//! - A hole that hides the boundary of a frame makes what follows it unknown. An operation that begins with two valid frame
//!   headers, one behind the other, ends that. If responses are hidden, all open requests are lost.
//! - Header fields that refer to what passed unseen are unknown, and left out of the facts.
//! - Pushed responses are stepped over. They are not reported, because no client asked for them.
//! - A request that is answered before its client has ended the stream is reported when the client has, or after a second.
//!
//! Memory is bounded to about 17 MiB per connection: 4,096 open requests of 3 KiB at most, 256 that were answered early, and for
//! each direction a payload of 64 KiB, a header block of 64 KiB and a dynamic table of 64 KiB.

mod answered_early;
mod block;
mod detect;
mod error;
mod field;
mod frame;
mod head;
pub mod hpack;
mod lane;
mod stream;
mod streams;

use crate::kit::follower::{Follower, TwoWay};
use crate::kit::holes::Hole;
use crate::kit::pieces::{Content, Piece};
use crate::{Capture, Close, Direction, Exchange, Finding, LossReason, Moment, Reset, Spec, Transport};
use block::{Block, Blocks, Purpose};
use field::Field;
use frame::{FrameHeader, Kind, flag};
use head::Head;
use hpack::Decoder;
use lane::{Frame, Lane, Step, Sync};
use streams::Streams;

/// The row of HTTP/2. Nothing else begins like its preface or its requests, so those prove which end is the server.
pub static SPEC: Spec = Spec {
    name: "http2",
    title: "HTTP/2",
    transport: Transport::Stream,
    detect: detect::detect,
    parser: Some(|from_start| Box::new(Http2::new(from_start))),
    capture: Capture::Frames,
    concurrent: true,
    proves_roles: true,
};

/// The parser of one HTTP/2 connection.
pub type Http2 = Follower<Dialogue>;

/// The streams of one connection.
///
/// It gives up ([`Unparsable`](crate::Unparsable)) on frames and header blocks that every endpoint treats as an error of
/// the connection.
#[derive(Debug)]
pub struct Dialogue {
    lanes: [Lane; 2],
    decoders: [Decoder<Field>; 2],
    blocks: [Blocks; 2],
    streams: Streams,
    /// A request that was begun while the boundaries of its direction were uncertain, and the newest stream before it.
    tentative: Option<(u32, u32)>,
}

const DIRECTIONS: [Direction; 2] = [Direction::ToServer, Direction::ToClient];

impl TwoWay for Dialogue {
    fn new(from_start: bool) -> Self {
        Self {
            lanes: DIRECTIONS.map(|direction| Lane::new(direction, from_start)),
            decoders: DIRECTIONS.map(|_| Decoder::new(from_start)),
            blocks: Default::default(),
            streams: Streams::new(from_start),
            tentative: None,
        }
    }

    fn request(&mut self, content: Content<'_>, at: Moment, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        self.pass(Direction::ToServer, content, at, Hole::Skipped, found)
    }

    fn response(
        &mut self,
        content: Content<'_>,
        at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        self.pass(Direction::ToClient, content, at, hole, found)
    }

    fn close(&mut self, why: Close, at: Moment, is_broken: bool, found: &mut Vec<Finding>) {
        if is_broken {
            self.streams.miss_responses(LossReason::Unparsable, found);
        } else if self.lane(Direction::ToClient).sync == Sync::Lost {
            self.streams.miss_responses(LossReason::ResponseMissing, found);
        }
        self.streams.close(why, at, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, _is_broken: bool, found: &mut Vec<Finding>) {
        self.streams.give_up_before(oldest, at, found);
    }

    fn pass_time(&mut self, now: u64, found: &mut Vec<Finding>) {
        self.streams.pass_time(now, found);
    }

    fn begins_frame(&self, direction: Direction) -> bool {
        self.lanes[direction as usize].begins_frame()
    }

    fn open(&self) -> usize {
        self.streams.open()
    }
}

impl Dialogue {
    /// The parser of a connection that changed from HTTP/1 to HTTP/2 with this request, which is answered on stream 1. That
    /// the request has begun was reported.
    pub(crate) fn upgraded(exchange: Box<Exchange>) -> Self {
        Self { streams: Streams::upgraded(exchange), ..Self::new(true) }
    }

    fn pass(
        &mut self,
        direction: Direction,
        content: Content<'_>,
        at: Moment,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        if !self.lane(direction).enter(content, at) {
            self.miss(direction, found);
            return Ok(());
        }
        let mut piece = Piece::new(content, at, false);
        while !piece.is_used_up() || self.lane(direction).has_empty_frame() {
            let is_certain = self.lane(direction).sync == Sync::Locked;
            let result = match self.lane(direction).step(&mut piece) {
                Ok(Step::Lost) => {
                    if is_certain {
                        found.push(Finding::CaptureMore(direction));
                    }
                    self.lose(direction, found);
                    return Ok(());
                }
                Ok(step) => self.step(direction, step, hole, found),
                Err(reason) => Err(reason),
            };
            match result {
                Ok(()) => {}
                Err(_) if !is_certain => {
                    if let (Some((stream, before)), Direction::ToServer) = (self.tentative, direction) {
                        self.streams.retract(stream, before, found);
                    }
                    self.lose(direction, found);
                    return Ok(());
                }
                Err(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        direction: Direction,
        step: Step<'_>,
        hole: Hole,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        match step {
            Step::Nothing | Step::Lost => Ok(()),
            Step::Header(header) => self.header(direction, &header),
            Step::Data(data) => {
                self.streams.data(direction, &data, hole == Hole::Unrecorded, found);
                Ok(())
            }
            Step::Frame(frame) => self.frame(direction, frame, found),
            Step::Holed { header, start, end } => {
                self.holed(direction, &header, start, end, found);
                Ok(())
            }
        }
    }

    /// Where boundaries are uncertain, a header must fit what is known of its stream.
    fn header(&mut self, direction: Direction, header: &FrameHeader) -> Result<(), &'static str> {
        if self.lane(direction).sync == Sync::Locked {
            return Ok(());
        }
        let opens = matches!(header.kind, Kind::Data | Kind::Headers | Kind::PushPromise | Kind::Continuation);
        let needs_response = header.kind == Kind::Data && direction == Direction::ToClient;
        let is_expected = self.streams.expect(direction, header.stream, opens, needs_response);
        if !self.lane(direction).judge(header, is_expected) {
            return Err("a frame is unlikely");
        }
        if self.lane(direction).sync == Sync::Locked && direction == Direction::ToServer {
            self.tentative = None;
        }
        Ok(())
    }

    fn frame(&mut self, direction: Direction, frame: Frame<'_>, found: &mut Vec<Finding>) -> Result<(), &'static str> {
        let Frame { header, payload, start, end } = frame;
        let word = |at: usize| payload.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match header.kind {
            Kind::Settings => self.settings(direction, &payload),
            Kind::RstStream => {
                let code = word(0).map_or(error::UNKNOWN, error::name);
                self.streams.reset(header.stream, Reset { code, by: direction }, end, found);
            }
            Kind::GoAway if direction == Direction::ToClient => {
                self.streams.go_away(word(0).unwrap_or(u32::MAX) & 0x7fff_ffff, end, found);
            }
            Kind::Headers | Kind::PushPromise | Kind::Continuation => {
                let is_over = header.has(flag::END_HEADERS);
                let fragment = frame::header_block(&header, &payload)?;
                if header.kind != Kind::Continuation && is_over {
                    // The usual case: the block is in one frame.
                    let block = Block::new(&header, start);
                    self.block(direction, block, fragment, end, found)?;
                } else if let Some((block, bytes)) = self.blocks[direction as usize].add(&header, start, fragment) {
                    match bytes {
                        Some(bytes) => {
                            self.block(direction, block, &bytes, end, found)?;
                            self.blocks[direction as usize].give_back(bytes);
                        }
                        None => self.hidden_block(direction, block, found),
                    }
                }
            }
            Kind::Data | Kind::Priority | Kind::Ping | Kind::GoAway | Kind::WindowUpdate | Kind::Extension => {}
        }
        self.lane(direction).give_back(payload);
        Ok(())
    }

    /// RFC 9113 6.5.1: the other end obeys them. A size of the dynamic table needs no look here: the encoder says in its
    /// next block which size it chose (RFC 7541 4.2).
    fn settings(&mut self, direction: Direction, payload: &[u8]) {
        const MAX_FRAME_SIZE: [u8; 2] = [0, 5];
        let (settings, _) = payload.as_chunks::<6>();
        for [a, b, value @ ..] in settings {
            if [*a, *b] == MAX_FRAME_SIZE {
                let length = u32::from_be_bytes(*value);
                self.lane(direction.opposite()).allow(length.min(frame::LARGEST_MAX_LENGTH));
            }
        }
    }

    /// A frame that matters has a hole.
    fn holed(
        &mut self,
        direction: Direction,
        header: &FrameHeader,
        start: Moment,
        end: Moment,
        found: &mut Vec<Finding>,
    ) {
        match header.kind {
            Kind::Headers | Kind::PushPromise | Kind::Continuation => {
                if let Some(block) = self.blocks[direction as usize].hide(header, start) {
                    self.hidden_block(direction, block, found);
                }
            }
            Kind::RstStream => {
                let reset = Reset { code: error::UNKNOWN, by: direction };
                self.streams.reset(header.stream, reset, end, found);
            }
            // Requests that a hidden GOAWAY refuses end with the connection.
            _ => return,
        }
        found.push(Finding::CaptureMore(direction));
    }

    /// A header block is complete.
    fn block(
        &mut self,
        direction: Direction,
        block: Block,
        bytes: &[u8],
        end: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), &'static str> {
        let Block { stream, purpose, ends_stream, start } = block;
        let decoder = &mut self.decoders[direction as usize];
        let head = match Head::decode(decoder, bytes) {
            Ok(head) => head,
            Err(_malformed) => return Err("a header block is malformed"),
        };
        if decoder.takes_cut() {
            found.push(Finding::TableNotKept);
        }
        match (purpose, direction) {
            (Purpose::Promise, _) => {}
            (Purpose::Message, Direction::ToClient) => {
                self.streams.respond(stream, &head, (start, end), ends_stream, found);
            }
            (Purpose::Message, Direction::ToServer) if stream.is_multiple_of(2) => {
                return Err("a request is on a stream of the server");
            }
            // If the method and all the rest is unknown, a request still differs from trailers: those end the stream.
            (Purpose::Message, Direction::ToServer)
                if self.streams.is_new(stream) && (head.is_request || (head.has_unknown && !ends_stream)) =>
            {
                if self.lane(direction).sync != Sync::Locked {
                    if !head.is_request {
                        return Err("a request is unlikely");
                    }
                    self.tentative = Some((stream, self.streams.newest()));
                }
                self.streams.begin(stream, head, (start, end), ends_stream, found);
            }
            (Purpose::Message, Direction::ToServer) => self.streams.request_trailers(stream, end, ends_stream, found),
        }
        Ok(())
    }

    /// A header block passed whose content is unknown.
    fn hidden_block(&mut self, direction: Direction, block: Block, found: &mut Vec<Finding>) {
        self.decoders[direction as usize].miss();
        match (block.purpose, direction) {
            (Purpose::Promise, _) => {}
            (Purpose::Message, Direction::ToClient) => {
                self.streams.hide_response(block.stream, block.ends_stream, found);
            }
            (Purpose::Message, Direction::ToServer) if self.streams.is_new(block.stream) => {
                if self.lane(direction).sync == Sync::Locked && !block.stream.is_multiple_of(2) {
                    self.streams.begin_hidden(block.stream, block.start, found);
                }
            }
            (Purpose::Message, Direction::ToServer) => {
                self.streams.request_trailers(block.stream, block.start, block.ends_stream, found);
            }
        }
    }

    /// It is not known where the next frame of this direction begins.
    fn lose(&mut self, direction: Direction, found: &mut Vec<Finding>) {
        self.lane(direction).lose();
        self.decoders[direction as usize].miss();
        self.blocks[direction as usize] = Blocks::default();
        self.miss(direction, found);
    }

    /// Frames pass unread.
    fn miss(&mut self, direction: Direction, found: &mut Vec<Finding>) {
        match direction {
            Direction::ToServer => {
                self.tentative = None;
                self.streams.miss_requests(found);
            }
            Direction::ToClient => self.streams.miss_responses(LossReason::ResponseMissing, found),
        }
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }
}
