//! Puts the segments of one connection back in order and has them cut into exchanges.
//!
//! Segments arrive per direction with their stream position, and with how far the other direction had come: a response
//! never reaches the parser before the request bytes that came before it. A hole is never guessed over: the parser is
//! told its exact length and decides whether it can go on. Nothing here knows a protocol; nothing here reads a clock.

use std::sync::Arc;

use onlooker_common::connection::{ConnectionChange, change, role};
use onlooker_common::owner::MessageIds;
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::{Begun, Close, Direction, Exchange, Lost, Moment};
use rustc_hash::FxHashMap;

use crate::model::counters::Counters;
use crate::model::span::{Address, Ends, Role};

pub use crate::connection::Connection;
pub use crate::connection::origin::Origin;

/// Capacities and ages of the stream layer.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections followed at once. One costs about a kilobyte, and half of one more for what its spans say of it.
    pub connections: usize,
    /// Nanoseconds for which a segment waits for what comes before it: longer than records overtake each other on
    /// their way out of the kernel, shorter than anybody waits for a trace.
    pub hold: u64,
    /// Nanoseconds after which a request that has no answer is given up.
    pub request_age: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 50_000, hold: 30_000_000, request_age: 300_000_000_000 }
    }
}

/// Who hears what is learnt from connections, in the order in which it happened on each.
pub trait Listener {
    /// A request is on its way; `origin` is the operation that it began with.
    fn begun(&mut self, place: Place, begun: &Begun, origin: Option<&Origin>);
    /// More of the request that began at `start` comes in another run: `message` is that.
    fn goes_on(&mut self, place: Place, start: Moment, message: &MessageIds);
    /// Several requests of the connection are open at once, for the first time.
    fn pipelined(&mut self, place: Place);
    /// A request is over; `still_open` others of the connection are not.
    fn exchanged(&mut self, place: Place, exchange: Box<Exchange>, ends: Arc<Ends>, still_open: usize);
    /// A request that began can't be told truthfully.
    fn lost(&mut self, place: Place, lost: Lost);
    /// A request that is known only from the hole its event left: counted where that was lost.
    fn untold(&mut self, place: Place, start: Moment);
    /// The head of a message was longer than what is captured of a run.
    fn head_cut(&mut self, place: Place, direction: Direction);
    /// The connection is forgotten: this is the last that is heard of it, unless it is used again.
    fn forgotten(&mut self, place: Place);
}

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub cookie: u64,
    pub tgid: u32,
    pub role: Role,
}

/// Every connection that is followed, by cookie.
#[derive(Debug)]
pub struct Streams {
    connections: FxHashMap<u64, Connection>,
    /// Connections with held segments or an end to come: those that `advance` looks at.
    attention: Vec<u64>,
    limits: Limits,
    counters: Arc<Counters>,
    last_sweep: u64,
    /// Until then (time of segments) there is no use in looking for idle connections.
    full_until: u64,
}

/// How often connections are looked through for requests beyond their age.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

impl Streams {
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            connections: FxHashMap::default(),
            attention: Vec::new(),
            limits,
            counters,
            last_sweep: 0,
            full_until: 0,
        }
    }

    /// The connection `cookie`, while it is followed.
    #[must_use]
    pub fn get(&self, cookie: u64) -> Option<&Connection> {
        self.connections.get(&cookie)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes one socket operation with its captured bytes; what it completes is told to the listener.
    pub fn segment(&mut self, segment: &Segment, captured: &[u8], listener: &mut dyn Listener) {
        let Some(connection) = self.connection(segment.cookie, segment.time, listener) else {
            self.counters.connections_over_limit.add(1);
            self.counters.requests_lost_over_limit.add(u64::from(begins_request(segment)));
            return;
        };
        connection.segment(segment, captured, listener);
        if connection.wants_attention() {
            self.attention.push(segment.cookie);
        }
        if segment.flags & (flag::UNIX | flag::FIN) == flag::UNIX | flag::FIN {
            self.unix_peer_ended(segment.peer, segment.time);
        }
    }

    /// The kernel does not tell of a unix socket's end, but its peer reads it.
    fn unix_peer_ended(&mut self, cookie: u64, now: u64) {
        if let Some(connection) = self.connections.get_mut(&cookie)
            && !connection.is_busy()
        {
            connection.closing(Close::Normal, now);
            self.attention.push(cookie);
        }
    }

    /// Takes a connection's birth, turn of state or end.
    pub fn change(&mut self, record: &ConnectionChange, listener: &mut dyn Listener) {
        // CONNECTING and CONNECTED carry times only: a connection that never speaks has no exchange.
        match record.change {
            change::CONNECTING => {
                if let Some(before) = self.connections.remove(&record.cookie) {
                    // The socket is used again: what was open on it is over.
                    before.end(Close::Normal, record.time, listener);
                }
                return;
            }
            change::CONNECTED => return self.counters.connections_opened.add(1),
            _ => {}
        }
        let known = if record.change == change::SEEN {
            self.connection(record.cookie, record.time, listener)
        } else {
            self.connections.get_mut(&record.cookie)
        };
        let Some(connection) = known else { return };
        match record.change {
            change::SEEN => connection.introduce(record.tgid, ends(record), record.from_start != 0),
            change::FINISHED => connection.finished(record.time, listener),
            change::DESTROYED => connection.destroyed(record.next),
            _ => {
                let why = if record.error == 0 { Close::Normal } else { Close::Error(record.error) };
                connection.closed(why, record.time, record.next, record.arrived);
            }
        }
        if connection.wants_attention() {
            self.attention.push(record.cookie);
        }
    }

    /// A process is gone. Its connections are over, but those that others have too: TCP will tell; unix sockets tell of their
    /// end only so.
    pub fn process_ended(&mut self, tgid: u32, now: u64) {
        for connection in self.connections.values_mut().filter(|connection| connection.tgid == tgid) {
            connection.process_ended(now);
            if connection.wants_attention() {
                self.attention.push(connection.cookie);
            }
        }
    }

    /// Lets time pass: holes that stay are declared, connections that closed are finished, what is too old is given up.
    pub fn advance(&mut self, now: u64, listener: &mut dyn Listener) {
        self.attention.sort_unstable();
        self.attention.dedup();
        let (connections, hold) = (&mut self.connections, self.limits.hold);
        self.attention.retain(|cookie| {
            let Some(connection) = connections.get_mut(cookie) else { return false };
            let over = connection.advance(now, hold, listener);
            if over && let Some(connection) = connections.remove(cookie) {
                connection.forget(listener);
            }
            !over && connections.get(cookie).is_some_and(Connection::wants_attention)
        });
        if now.saturating_sub(self.last_sweep) >= SWEEP_INTERVAL {
            self.last_sweep = now;
            for connection in self.connections.values_mut() {
                connection.give_up_before(now.saturating_sub(self.limits.request_age), now, listener);
            }
        }
    }

    /// Ends everything: the agent stops.
    pub fn shutdown(&mut self, now: u64, listener: &mut dyn Listener) {
        for (_, connection) in self.connections.drain() {
            connection.end(Close::Shutdown, now, listener);
        }
    }

    /// The connection, from now on if it is new; none if there is no room for it.
    fn connection(&mut self, cookie: u64, now: u64, listener: &mut dyn Listener) -> Option<&mut Connection> {
        if self.connections.len() >= self.limits.connections && !self.connections.contains_key(&cookie) {
            self.make_room(now, listener);
            if self.connections.len() >= self.limits.connections {
                return None;
            }
        }
        let fresh = || Connection::new(cookie, self.counters.clone());
        Some(self.connections.entry(cookie).or_insert_with(fresh))
    }

    /// Forgets those connections that have been idle for the longest: so many at once that it need not be done again soon.
    fn make_room(&mut self, now: u64, listener: &mut dyn Listener) {
        /// Of all that there are.
        const SHARE: usize = 16;
        /// Where all were busy there is no use in looking again at once.
        const PAUSE: u64 = 100_000_000;
        if now < self.full_until {
            return;
        }
        self.full_until = now + PAUSE;
        let idle = self.connections.values().filter(|connection| !connection.is_busy());
        let mut idle: Vec<_> = idle.map(|connection| (connection.last_activity, connection.cookie)).collect();
        let most = (self.limits.connections / SHARE).max(1).min(idle.len());
        if most < idle.len() {
            idle.select_nth_unstable(most);
        }
        for (_, cookie) in idle.into_iter().take(most) {
            if let Some(connection) = self.connections.remove(&cookie) {
                self.counters.connections_evicted.add(1);
                connection.forget(listener);
                self.full_until = 0;
            }
        }
    }
}

/// Whether a request begins with the segment, as far as the kernel can tell.
fn begins_request(segment: &Segment) -> bool {
    let egress = segment.flags & flag::EGRESS != 0;
    segment.flags & flag::BEGINS != 0 && (segment.role == role::SERVER) != egress
}

/// The addresses of a connection as the kernel tells them.
fn ends(record: &ConnectionChange) -> (Option<Role>, Address, Address) {
    const AF_UNIX: u16 = 1;
    const AF_INET: u16 = 2;
    let role = match record.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    };
    let (local, peer) = match record.family {
        AF_UNIX => {
            let path = unix_path(record);
            // The name is the listener's: the server's own, the client's peer.
            let unnamed = Address::Unix(compact_str::CompactString::default());
            if role == Some(Role::Server) { (Address::Unix(path), unnamed) } else { (unnamed, Address::Unix(path)) }
        }
        family => (
            inet(family == AF_INET, &record.local_address, record.local_port),
            inet(family == AF_INET, &record.remote_address, record.remote_port),
        ),
    };
    (role, local, peer)
}

fn inet(v4: bool, bytes: &[u8; 16], port: u16) -> Address {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let address = if v4 {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    } else {
        // A dual-stack socket talks to IPv4 peers under mapped addresses.
        Ipv6Addr::from(*bytes).to_canonical()
    };
    Address::Inet(SocketAddr::new(address, port))
}

fn unix_path(record: &ConnectionChange) -> compact_str::CompactString {
    let length = (record.path_length as usize).min(record.path.len());
    let path = &record.path[..length];
    match path.split_first() {
        // An abstract name: no terminator, any bytes.
        Some((0, name)) => {
            let mut shown = compact_str::CompactString::from("@");
            shown.push_str(&String::from_utf8_lossy(name));
            shown
        }
        _ => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(length);
            compact_str::CompactString::from_utf8_lossy(&path[..end])
        }
    }
}

#[cfg(test)]
mod tests;
