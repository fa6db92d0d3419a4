//! A protocol that exists only for tests. It uses everything that the model allows.
//!
//! - Several requests may be open at once. Responses carry the id of their request and come in any order.
//! - Either end may send requests: an id belongs to the end that chose it.
//! - The same messages travel over [streams](STREAM) and as [datagrams](DATAGRAM).
//!
//! A message is `~`, then `?` for a request or `!` for a response, an id of one byte, the payload's length of one byte,
//! and the payload. A request's payload names its destination. A response's payload that begins with `-` is an error.
//!
//! ```
//! use onlooker_protocols::testing::{STREAM, message};
//! use onlooker_protocols::Direction::{ToClient, ToServer};
//! use onlooker_protocols::{Finding, Moment};
//!
//! let mut parser = STREAM.parser.expect("it has one")(true);
//! let mut found = Vec::new();
//! parser.bytes(ToServer, &message(b'?', 1, "orders"), Moment::default(), &mut found)?;
//! parser.bytes(ToClient, &message(b'?', 1, "prices"), Moment::default(), &mut found)?;
//! assert_eq!(parser.open(), 2);
//! parser.bytes(ToClient, &message(b'!', 1, ""), Moment::default(), &mut found)?;
//! let Some(Finding::Exchange(exchange)) = found.last() else { panic!("{found:?}") };
//! assert_eq!((exchange.direction, parser.open()), (ToServer, 1));
//! # Ok::<(), onlooker_protocols::Unparsable>(())
//! ```
//!
//! Memory is bounded: 64 requests are open per direction, and 64 bytes of a payload are kept.

mod frame;

use compact_str::CompactString;

use crate::facts::{Messaging, Operation};
use crate::kit::by_id::{Answered, ById, Opened};
use crate::kit::pieces::BytePiece;
use crate::moment::{Close, Direction, Moment};
use crate::parser::{Parser, Unparsable};
use crate::spec::{Capture, Spec, Transport};
use crate::spec::{Looks, Sample};
use crate::{Begun, End, Exchange, Facts, Finding, LossReason, Lost};
use frame::{Framer, Kind, Message, Step};

/// The protocol over a stream. It is no row of [`PROTOCOLS`](crate::PROTOCOLS).
pub static STREAM: Spec = Spec {
    name: "echo",
    title: "Echo",
    transport: Transport::Stream,
    detect,
    parser: Some(|_| Box::new(Echo::new())),
    capture: Capture::Most,
    concurrent: true,
    proves_roles: false,
};

/// The protocol in datagrams.
pub static DATAGRAM: Spec = Spec {
    name: "echodatagram",
    title: "Echo in datagrams",
    transport: Transport::Datagram,
    detect,
    parser: Some(|_| Box::new(Echo::new())),
    capture: Capture::Heads,
    concurrent: true,
    proves_roles: false,
};

const MAX_OPEN: usize = 64;

/// The bytes of a message of this kind (`?` or `!`).
///
/// # Panics
///
/// If the payload is longer than 255 bytes.
#[must_use]
pub fn message(kind: u8, id: u8, payload: &str) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a payload of at most 255 bytes");
    [&[frame::MAGIC, kind, id, length], payload.as_bytes()].concat()
}

/// The first message of a connection is a client's request. Later messages say nothing of their direction.
fn detect(direction: Direction, sample: &Sample<'_>) -> Looks {
    let is_first = sample.from_start && direction == Direction::ToServer;
    if sample.direction.is_none() && !is_first {
        return Looks::Wrong;
    }
    match sample.bytes {
        [frame::MAGIC] => Looks::RightSoFar,
        [frame::MAGIC, b'?', ..] => Looks::Right,
        [frame::MAGIC, b'!', ..] if !is_first => Looks::Right,
        _ => Looks::Wrong,
    }
}

#[derive(Debug)]
struct Echo {
    framers: [Framer; 2],
    /// Open requests, by the direction in which they travel.
    requests: [ById<u8, Box<Exchange>>; 2],
    broken: bool,
}

impl Echo {
    fn new() -> Self {
        Self { framers: Default::default(), requests: [ById::new(MAX_OPEN), ById::new(MAX_OPEN)], broken: false }
    }

    /// A message's header has passed, or more of its payload.
    fn passed(&mut self, direction: Direction, message: &Message, is_new: bool, found: &mut Vec<Finding>) {
        match message.kind {
            Kind::Request if is_new => self.begin(direction, message, found),
            Kind::Request => {
                if let Some(exchange) = self.requests[direction as usize].get_mut(message.id)
                    && exchange.request_start == message.start
                {
                    exchange.request_end = message.end;
                    exchange.facts = facts(direction, message);
                }
            }
            Kind::Response => {
                if let Some(exchange) = self.requests[direction.opposite() as usize].get_mut(message.id) {
                    exchange.response_start.get_or_insert(message.start);
                    exchange.response_end = Some(message.end);
                }
            }
        }
    }

    fn begin(&mut self, direction: Direction, message: &Message, found: &mut Vec<Finding>) {
        found.push(Finding::Begun(Begun::plain(direction, message.start)));
        let exchange = Box::new(Exchange {
            direction,
            request_start: message.start,
            request_end: message.end,
            response_start: None,
            response_end: None,
            end: End::Complete,
            facts: facts(direction, message),
        });
        let opened = self.requests[direction as usize].open(message.id, message.start, exchange);
        let reason = opened.reason();
        match opened {
            Opened::Waiting => {}
            Opened::Replaced { earlier } => lose(&earlier, reason, found),
            Opened::Ambiguous { earlier, this } => {
                earlier.iter().for_each(|earlier| lose(earlier, reason, found));
                lose(&this, reason, found);
            }
            Opened::Full { this } => lose(&this, reason, found),
        }
    }

    /// A response has come to its end.
    fn answer(&mut self, direction: Direction, message: &Message, found: &mut Vec<Finding>) {
        match self.requests[direction.opposite() as usize].finish(message.id) {
            Answered::Request(mut exchange) => {
                if let Facts::Messaging(facts) = &mut exchange.facts
                    && let Some(error) = message.payload.strip_prefix('-')
                {
                    facts.error = error.into();
                }
                found.push(Finding::Exchange(exchange));
            }
            Answered::Reported => {}
            Answered::Unknown => found.push(Finding::Orphan(message.start)),
        }
    }

    /// A hole hides responses in `direction`. The requests that they answer are lost, and so are all that may be.
    fn miss(&mut self, direction: Direction, found: &mut Vec<Finding>) {
        found.push(Finding::CaptureMore(direction));
        for (exchange, _) in self.requests[direction.opposite() as usize].close() {
            lose(&exchange, LossReason::ResponseMissing, found);
        }
    }

    fn step(&mut self, direction: Direction, step: Step, found: &mut Vec<Finding>) {
        let Step { message, is_new, is_over } = step;
        self.passed(direction, &message, is_new, found);
        if is_over && message.kind == Kind::Response {
            self.answer(direction, &message, found);
        }
    }

    /// Reports every open request whose responses travel in `direction`.
    fn end_responses(&mut self, direction: Direction, why: Close, at: Moment, found: &mut Vec<Finding>) {
        for (mut exchange, _) in self.requests[direction.opposite() as usize].close() {
            if self.broken {
                lose(&exchange, LossReason::Unparsable, found);
            } else {
                exchange.end = End::Closed(why, at);
                found.push(Finding::Exchange(exchange));
            }
        }
    }
}

impl Parser for Echo {
    fn bytes(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        let mut piece = BytePiece { bytes, at };
        while !piece.bytes.is_empty() && !self.broken {
            match self.framers[direction as usize].bytes(&mut piece) {
                Ok(Some(step)) => self.step(direction, step, found),
                Ok(None) => {}
                Err(_no_message) => self.broken = true,
            }
        }
        if self.broken { Err(NO_MESSAGE) } else { Ok(()) }
    }

    fn gap(
        &mut self,
        direction: Direction,
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        if self.broken {
            return Err(NO_MESSAGE);
        }
        match self.framers[direction as usize].gap(missing, at) {
            Some(step) => self.step(direction, step, found),
            None => self.miss(direction, found),
        }
        Ok(())
    }

    fn datagram(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        missing: u64,
        at: Moment,
        found: &mut Vec<Finding>,
    ) -> Result<(), Unparsable> {
        let Some(message) = Message::of_datagram(bytes, missing, at) else { return Err(NO_MESSAGE) };
        self.step(direction, Step { message, is_new: true, is_over: true }, found);
        Ok(())
    }

    fn end(&mut self, direction: Direction, at: Moment, found: &mut Vec<Finding>) {
        self.end_responses(direction, Close::Normal, at, found);
    }

    fn close(&mut self, why: Close, at: Moment, found: &mut Vec<Finding>) {
        self.end_responses(Direction::ToServer, why, at, found);
        self.end_responses(Direction::ToClient, why, at, found);
    }

    fn give_up_before(&mut self, oldest: u64, at: Moment, found: &mut Vec<Finding>) {
        for (mut exchange, _) in self.requests.iter_mut().flat_map(|requests| requests.give_up_before(oldest)) {
            exchange.end = End::Closed(Close::Aged, at);
            found.push(Finding::Exchange(exchange));
        }
    }

    fn open(&self) -> usize {
        self.requests.iter().map(ById::len).sum()
    }
}

const NO_MESSAGE: Unparsable = Unparsable { reason: "not a message" };

/// A server's requests are deliveries.
fn facts(direction: Direction, message: &Message) -> Facts {
    let (operation, operation_name) = match direction {
        Direction::ToServer => (Operation::Send, "send"),
        Direction::ToClient => (Operation::Process, "deliver"),
    };
    Facts::Messaging(Box::new(Messaging {
        system: "echo",
        operation,
        operation_name,
        destination: CompactString::new(&message.payload),
        body_size: Some(message.length.into()),
        ..Messaging::default()
    }))
}

fn lose(exchange: &Exchange, reason: LossReason, found: &mut Vec<Finding>) {
    let Exchange { direction, request_start: start, .. } = *exchange;
    found.push(Finding::Lost(Lost { direction, start, reason }));
}
