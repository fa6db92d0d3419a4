//! The kernel's records of one server with many connections, request after request.

use onlooker_common::connection::{ConnectionChange, change, role};
use onlooker_common::kind;
use onlooker_common::owner::MessageIds;
use onlooker_common::segment::{Segment, flag};
use std::process;

use zerocopy::{FromBytes as _, IntoBytes as _};

/// Exchanges per batch: what the agent finds in the ring after 10 ms at 400,000 exchanges per second.
pub(super) const PER_BATCH: usize = 4096;
const CONNECTIONS: usize = 64;

/// From one exchange to the next, and from a request to its response, in nanoseconds.
const INTERVAL: u64 = 2_000;
const RESPONSE_AFTER: u64 = 1_000;

/// A request of wrk, and nginx's response.
const REQUEST: &[u8] = b"GET /products/7 HTTP/1.1\r\nHost: 127.0.0.1:20001\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nhello, world";

/// The size of a segment with the largest capture here, in words, because records in the ring are aligned.
const SLOT: usize = (size_of::<Segment>() + 256) / size_of::<u64>();
type Slot = [u64; SLOT];

/// The records of one batch. Each batch is written into the same memory.
#[derive(Debug)]
pub(super) struct Records {
    /// Request and response of each exchange.
    slots: Vec<[Slot; 2]>,
    connections: Vec<Slot>,
    /// The time of the next exchange.
    next: u64,
    /// Exchanges per connection so far.
    rounds: u64,
}

impl Records {
    pub(super) fn new() -> Self {
        let slots = (0..PER_BATCH).map(|number| {
            let cookie = cookie(number % CONNECTIONS);
            [segment(cookie, 0, REQUEST), segment(cookie, flag::EGRESS, RESPONSE)]
        });
        Self {
            slots: slots.collect(),
            connections: (0..CONNECTIONS).map(connection).collect(),
            next: 1_000_000_000,
            rounds: 0,
        }
    }

    /// The records that announce the connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = &[u8]> {
        self.connections.iter().map(|slot| &slot.as_bytes()[..size_of::<ConnectionChange>()])
    }

    /// Writes the next batch. Returns the time just after its last record.
    pub(super) fn next_batch(&mut self) -> u64 {
        for (number, slots) in self.slots.iter_mut().enumerate() {
            if number > 0 && number % CONNECTIONS == 0 {
                self.rounds += 1;
            }
            let [request, response] = slots.each_mut().map(header);
            // Positions start anywhere, as sequence numbers do.
            let first = cookie(number % CONNECTIONS) * 0x0123_4567;
            let asked = first + self.rounds * REQUEST.len() as u64;
            let answered = first + self.rounds * RESPONSE.len() as u64;
            (request.position, request.opposite) = (asked, answered);
            (response.position, response.opposite) = (answered, asked + REQUEST.len() as u64);
            (request.time, response.time) = (self.next, self.next + RESPONSE_AFTER);
            request.run = 2 * self.rounds as u32;
            response.run = request.run + 1;
            request.message = MessageIds { trace_id: [self.next, 1], span_id: self.next };
            response.message = request.message;
            self.next += INTERVAL;
        }
        self.rounds += 1;
        self.next
    }

    /// The records of this batch, ordered by time.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = &[u8]> {
        self.slots.iter().flatten().map(|slot| {
            let bytes = slot.as_bytes();
            let (header, _) = Segment::ref_from_prefix(bytes).expect("a slot has room for a segment");
            &bytes[..size_of::<Segment>() + header.captured as usize]
        })
    }
}

fn cookie(connection: usize) -> u64 {
    connection as u64 + 1
}

fn header(slot: &mut Slot) -> &mut Segment {
    Segment::mut_from_prefix(slot.as_mut_bytes()).expect("a slot has room for a segment").0
}

fn segment(cookie: u64, direction: u32, bytes: &[u8]) -> Slot {
    let mut slot = [0; SLOT];
    *header(&mut slot) = Segment {
        kind: kind::SEGMENT,
        captured: bytes.len() as u32,
        cookie,
        length: bytes.len() as u32,
        flags: direction | flag::BEGINS | flag::FROM_START | flag::LOOP,
        role: role::SERVER,
        tgid: process::id(),
        tid: process::id(),
        ..Segment::default()
    };
    slot.as_mut_bytes()[size_of::<Segment>()..][..bytes.len()].copy_from_slice(bytes);
    slot
}

fn connection(number: usize) -> Slot {
    const AF_INET: u16 = 2;
    let mut slot = [0; SLOT];
    let (record, _) = ConnectionChange::mut_from_prefix(slot.as_mut_bytes()).expect("a slot has room for a connection");
    record.kind = kind::CONNECTION;
    record.change = change::SEEN;
    record.cookie = cookie(number);
    record.tgid = process::id();
    record.family = AF_INET;
    record.role = role::SERVER;
    record.from_start = 1;
    record.local_port = 20_001;
    record.remote_port = 40_000 + number as u16;
    record.local_address[..4].copy_from_slice(&[127, 0, 0, 1]);
    record.remote_address[..4].copy_from_slice(&[127, 0, 0, 1]);
    slot
}
