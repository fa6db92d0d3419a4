//! Follows datagram sockets: gives each datagram to its flow, the datagrams between the socket and one peer.
//!
//! Datagrams have no order of their own. Each is a whole message, and its record is delivered as it comes. A parser matches
//! responses with requests by their ids.

use std::net::SocketAddr;
use std::sync::Arc;

use onlooker_common::connection::role;
use onlooker_common::datagram::Datagram;
use onlooker_protocols::detect::{Guess, Sample, detect};
use onlooker_protocols::{Close, Direction, Finding, Moment, Parser, Transport};
use rustc_hash::FxHashMap;

use crate::addresses::{self, AF_INET};
use crate::connections::Limits;
use crate::conversation::Conversation;
use crate::model::counters::Counters;
use crate::model::span::{Address, Role};
use crate::observer::{Observer, Place, Report};
use crate::order::Way;
use crate::origin::Origin;

/// Datagrams of a flow that are looked at before the flow is left alone.
const ATTEMPTS: u8 = 8;

/// How often all flows are looked at.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

/// Nanoseconds after which a flow without open requests is forgotten. Resolvers use a new port for each question.
const IDLE: u64 = 10_000_000_000;

/// Every datagram socket that is followed, by cookie.
#[derive(Debug)]
pub struct Datagrams {
    sockets: FxHashMap<u64, Socket>,
    flows: usize,
    limits: Limits,
    counters: Arc<Counters>,
    last_sweep: u64,
}

#[derive(Debug, Default)]
struct Socket {
    tgid: u32,
    /// Per way, the bytes of all earlier datagrams. A datagram counts for at least one, so that positions differ.
    positions: [u64; 2],
    flows: FxHashMap<SocketAddr, Flow>,
}

#[derive(Debug)]
struct Flow {
    conversation: Conversation,
    content: Content,
    last: Option<Way>,
    run: u32,
    last_activity: u64,
    found: Vec<Finding>,
}

#[derive(Debug)]
enum Content {
    Undecided { attempts: u8 },
    Parsed(Box<dyn Parser>),
    Unparsed,
}

impl Datagrams {
    /// Sets other limits.
    pub fn bound(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The protocols are those of the counters.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self { sockets: FxHashMap::default(), flows: 0, limits, counters, last_sweep: 0 }
    }

    /// Takes one datagram with its captured bytes.
    pub fn datagram(&mut self, datagram: &Datagram, captured: &[u8], observer: &mut dyn Observer) {
        let is_v4 = datagram.family == AF_INET;
        let local = addresses::socket(is_v4, &datagram.local_address, datagram.local_port);
        let peer = addresses::socket(is_v4, &datagram.remote_address, datagram.remote_port);
        let is_full = self.flows >= self.limits.connections;
        let socket = self.sockets.get_mut(&datagram.cookie);
        let is_known = socket.is_some_and(|socket| socket.flows.contains_key(&peer));
        if is_full && !is_known {
            return self.counters.datagrams_over_limit.add(1);
        }
        let socket = self.sockets.entry(datagram.cookie).or_default();
        let flow = socket.flows.entry(peer).or_insert_with(|| {
            self.flows += 1;
            Flow::new(datagram.cookie, Address::Inet(local), Address::Inet(peer), self.counters.clone())
        });
        socket.tgid = datagram.tgid;
        let position = &mut socket.positions[Way::of(datagram.flags) as usize];
        let start = *position;
        *position += u64::from(datagram.length).max(1);
        flow.datagram(datagram, captured, start, observer);
    }

    /// The socket is closed.
    pub fn closed(&mut self, cookie: u64, why: Close, now: u64, observer: &mut dyn Observer) {
        let Some(socket) = self.sockets.remove(&cookie) else { return };
        self.flows -= socket.flows.len();
        socket.end(cookie, why, now, observer);
    }

    /// A process has ended, and its sockets with it.
    pub fn process_ended(&mut self, tgid: u32, now: u64, observer: &mut dyn Observer) {
        for (cookie, socket) in self.sockets.extract_if(|_, socket| socket.tgid == tgid) {
            self.flows -= socket.flows.len();
            socket.end(cookie, Close::ProcessExit, now, observer);
        }
    }

    /// A process is not recorded any more, and goes on.
    pub fn process_deselected(&mut self, tgid: u32, now: u64, observer: &mut dyn Observer) {
        for (cookie, socket) in self.sockets.extract_if(|_, socket| socket.tgid == tgid) {
            self.flows -= socket.flows.len();
            let open: usize = socket.flows.values().map(|flow| flow.conversation.requests.len()).sum();
            self.counters.requests_deselected.add(open as u64);
            socket.end(cookie, Close::Deselected, now, observer);
        }
    }

    /// Lets time pass: gives up requests that are too old, and forgets idle flows.
    pub fn advance(&mut self, now: u64, observer: &mut dyn Observer) {
        if now.saturating_sub(self.last_sweep) < SWEEP_INTERVAL {
            return;
        }
        self.last_sweep = now;
        let (oldest, idle_since) = (now.saturating_sub(self.limits.request_age), now.saturating_sub(IDLE));
        for (&cookie, socket) in &mut self.sockets {
            socket.flows.retain(|_, flow| {
                flow.give_up_before(oldest, now, observer);
                flow.conversation.count_bytes();
                let is_kept = flow.last_activity >= idle_since || !flow.conversation.requests.is_empty();
                if !is_kept {
                    self.flows -= 1;
                    flow.forget();
                }
                is_kept
            });
            if socket.flows.is_empty() {
                observer.observe(socket.place(cookie), Report::Forgotten);
            }
        }
        self.sockets.retain(|_, socket| !socket.flows.is_empty());
    }

    /// Ends all sockets, because the agent stops.
    pub fn shutdown(&mut self, now: u64, observer: &mut dyn Observer) {
        self.flows = 0;
        for (cookie, socket) in self.sockets.drain() {
            socket.end(cookie, Close::Shutdown, now, observer);
        }
    }
}

impl Socket {
    fn place(&self, cookie: u64) -> Place {
        Place { cookie, tgid: self.tgid, role: Role::Client, in_order: false }
    }

    fn end(mut self, cookie: u64, why: Close, now: u64, observer: &mut dyn Observer) {
        for flow in self.flows.values_mut() {
            flow.end(why, now, observer);
        }
        observer.observe(self.place(cookie), Report::Forgotten);
    }
}

impl Flow {
    fn new(cookie: u64, local: Address, peer: Address, counters: Arc<Counters>) -> Self {
        let mut conversation = Conversation::of_datagrams(cookie, counters);
        conversation.set_ends(local, peer);
        let content = Content::Undecided { attempts: 0 };
        Self { conversation, content, last: None, run: 0, last_activity: 0, found: Vec::new() }
    }

    fn datagram(&mut self, datagram: &Datagram, captured: &[u8], position: u64, observer: &mut dyn Observer) {
        let way = Way::of(datagram.flags);
        let from_start = self.last.is_none();
        if self.last.replace(way).is_some_and(|last| last != way) {
            self.run += 1;
        }
        self.last_activity = datagram.time;
        self.conversation.tgid = datagram.tgid;
        self.conversation.uncounted_bytes += u64::from(datagram.length);
        self.conversation.role = self.conversation.role.or(match datagram.role {
            role::CLIENT => Some(Role::Client),
            role::SERVER => Some(Role::Server),
            _ => None,
        });
        if let Content::Undecided { attempts } = self.content {
            self.decide(way, captured, from_start, attempts);
        }
        if !matches!(self.content, Content::Parsed(_)) {
            return;
        }
        if self.conversation.carries_requests(way) {
            self.conversation.requests.note_datagram(way, Origin::of_datagram(datagram, position));
        }
        let at = Moment { nanos: datagram.time, position, run: self.run };
        let missing = u64::from(datagram.length).saturating_sub(captured.len() as u64);
        let (Some(direction), Content::Parsed(parser)) = (self.conversation.direction(way), &mut self.content) else {
            return;
        };
        if parser.datagram(direction, captured, missing, at, &mut self.found).is_err() {
            self.conversation.counters.datagrams_unparsable.add(1);
        }
        self.report(observer);
    }

    /// Looks at one datagram for the protocol of the flow.
    fn decide(&mut self, way: Way, bytes: &[u8], from_start: bool, attempts: u8) {
        let direction = self.conversation.direction(way);
        let sample = Sample { transport: Transport::Datagram, direction, from_start, bytes };
        match detect(self.conversation.counters.protocols(), &sample) {
            Guess::Protocol(protocol, direction) => {
                self.content = match protocol.parser {
                    Some(new_parser) => Content::Parsed(new_parser(from_start)),
                    None => Content::Unparsed,
                };
                let is_server = (direction == Direction::ToServer) == (way == Way::Received);
                self.conversation.role = Some(if is_server { Role::Server } else { Role::Client });
                self.conversation.speaks(protocol);
            }
            Guess::Unparsed(protocol) => {
                self.content = Content::Unparsed;
                self.conversation.speaks(protocol);
            }
            // A datagram is whole: no more of it will come.
            Guess::NeedMore | Guess::Unknown if attempts + 1 < ATTEMPTS => {
                self.content = Content::Undecided { attempts: attempts + 1 };
            }
            Guess::NeedMore | Guess::Unknown => {
                self.content = Content::Unparsed;
                self.conversation.counters.connections_unknown.add(1);
            }
        }
    }

    fn report(&mut self, observer: &mut dyn Observer) {
        for finding in self.found.drain(..) {
            self.conversation.report(finding, false, observer);
        }
    }

    fn give_up_before(&mut self, oldest: u64, now: u64, observer: &mut dyn Observer) {
        if self.conversation.requests.oldest().is_some_and(|request| request.start.nanos < oldest)
            && let Content::Parsed(parser) = &mut self.content
        {
            parser.give_up_before(oldest, Moment { nanos: now, position: 0, run: self.run }, &mut self.found);
            self.report(observer);
        }
    }

    fn end(&mut self, why: Close, now: u64, observer: &mut dyn Observer) {
        if let Content::Parsed(parser) = &mut self.content {
            parser.close(why, Moment { nanos: now, position: 0, run: self.run }, &mut self.found);
        }
        self.report(observer);
        self.forget();
    }

    fn forget(&mut self) {
        if matches!(self.content, Content::Undecided { .. }) {
            self.conversation.counters.connections_unknown.add(1);
        }
        self.conversation.count_bytes();
    }
}
