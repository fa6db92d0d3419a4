//! Records as the kernel writes them: of one server with many connections, request after request.

use onlooker_common::connection::{ConnectionChange, change, role};
use onlooker_common::kind;
use onlooker_common::owner::MessageIds;
use onlooker_common::segment::{Segment, flag};
use std::process;

use zerocopy::{FromBytes as _, IntoBytes as _};

/// Exchanges that are handed over together: what the agent finds after 10 ms at 400,000 a second.
pub(super) const PER_LOOK: usize = 4096;
const CONNECTIONS: usize = 64;

/// Nanoseconds between two exchanges, and from a request to its response.
const INTERVAL: u64 = 2_000;
const ANSWER: u64 = 1_000;

/// What wrk sends, and what nginx answers.
const REQUEST: &[u8] = b"GET /products/7 HTTP/1.1\r\nHost: 127.0.0.1:20001\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\nhello, world";

/// A segment with the largest capture that is needed here, in words, as records of the ring are aligned.
const SLOT: usize = (size_of::<Segment>() + 256) / size_of::<u64>();
type Slot = [u64; SLOT];

/// The records of one look after the other, written into the same memory.
#[derive(Debug)]
pub(super) struct Records {
    /// Request and response of each exchange.
    slots: Vec<[Slot; 2]>,
    connections: Vec<Slot>,
    /// When the next exchange begins.
    next: u64,
    /// How many turns each connection has had.
    turns: u64,
}

impl Records {
    pub(super) fn new() -> Self {
        let slots = (0..PER_LOOK).map(|number| {
            let cookie = cookie(number % CONNECTIONS);
            [segment(cookie, 0, REQUEST), segment(cookie, flag::EGRESS, RESPONSE)]
        });
        Self {
            slots: slots.collect(),
            connections: (0..CONNECTIONS).map(connection).collect(),
            next: 1_000_000_000,
            turns: 0,
        }
    }

    /// What the kernel says of the connections, once.
    pub(super) fn connections(&self) -> impl Iterator<Item = &[u8]> {
        self.connections.iter().map(|slot| &slot.as_bytes()[..size_of::<ConnectionChange>()])
    }

    /// Goes on to the next look; returns the time at which it is taken, just after its last record.
    pub(super) fn next_look(&mut self) -> u64 {
        for (number, slots) in self.slots.iter_mut().enumerate() {
            if number > 0 && number % CONNECTIONS == 0 {
                self.turns += 1;
            }
            let [request, response] = slots.each_mut().map(header);
            // As sequence numbers, positions begin anywhere.
            let first = cookie(number % CONNECTIONS) * 0x0123_4567;
            let asked = first + self.turns * REQUEST.len() as u64;
            let answered = first + self.turns * RESPONSE.len() as u64;
            (request.position, request.opposite) = (asked, answered);
            (response.position, response.opposite) = (answered, asked + REQUEST.len() as u64);
            (request.time, response.time) = (self.next, self.next + ANSWER);
            request.run = 2 * self.turns as u32;
            response.run = request.run + 1;
            request.message = MessageIds { trace_id: [self.next, 1], span_id: self.next };
            response.message = request.message;
            self.next += INTERVAL;
        }
        self.turns += 1;
        self.next
    }

    /// The records of this look, in the order of their time.
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
