//! Puts the segments of one connection back in order and has them cut into exchanges.
//!
//! Segments arrive per direction with their stream position, and with how far the other direction had come: a response
//! never reaches the parser before the request bytes that came before it. A hole is never guessed over: the parser is
//! told its exact length and decides whether it can go on. Nothing here knows a protocol; nothing here reads a clock.

mod connection;
mod origin;

use std::sync::Arc;

use onlooker_common::event::{self, change, role};
use onlooker_protocols::{Begun, Close, Exchange, Lost, Moment, Protocol};
use rustc_hash::FxHashMap;

use crate::metrics::Metrics;
use crate::span::{Address, Ends, Role};

pub use connection::Connection;
pub use origin::Origin;

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

/// Something learnt from a connection. It may be the last that is heard of it: the connection is forgotten then.
#[derive(Debug)]
pub struct Happening {
    pub cookie: u64,
    pub tgid: u32,
    pub role: Role,
    pub learnt: Learnt,
}

/// What a parser found, with what the connection knows of it.
#[derive(Debug)]
pub enum Learnt {
    /// A request is on its way; the operation that it began with.
    Begun(Begun, Option<Origin>),
    Exchange(Box<Exchange>, Arc<Ends>),
    Lost(Lost),
    /// A request that is known only from the hole its event left: counted where that was lost.
    Untold(Moment),
}

/// Every connection that is followed, by cookie.
#[derive(Debug)]
pub struct Streams {
    connections: FxHashMap<u64, Connection>,
    /// Connections with held segments or an end to come: those that `advance` looks at.
    attention: Vec<u64>,
    limits: Limits,
    metrics: Arc<Metrics>,
    last_sweep: u64,
}

/// How often connections are looked through for requests beyond their age.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

impl Streams {
    #[must_use]
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self { connections: FxHashMap::default(), attention: Vec::new(), limits, metrics, last_sweep: 0 }
    }

    /// The connection `cookie`, while it is followed.
    #[must_use]
    pub fn get(&self, cookie: u64) -> Option<&Connection> {
        self.connections.get(&cookie)
    }

    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&cookie)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes one socket operation with its captured bytes; what it completes is appended to `happened`.
    pub fn segment(&mut self, segment: &event::Segment, captured: &[u8], happened: &mut Vec<Happening>) {
        let Some(connection) = self.connection(segment.cookie) else { return };
        connection.segment(segment, captured, happened);
        if connection.wants_attention() {
            self.attention.push(segment.cookie);
        }
    }

    /// Takes a connection's birth, turn of state or end.
    pub fn change(&mut self, record: &event::Connection, happened: &mut Vec<Happening>) {
        if record.change == change::CLOSED && !self.connections.contains_key(&record.cookie) {
            return;
        }
        if record.change == change::CONNECTING
            && let Some(mut before) = self.connections.remove(&record.cookie)
        {
            // The socket is used again: what was open on it is over.
            before.close(Close::Normal, record.time, happened);
        }
        let metrics = self.metrics.clone();
        let Some(connection) = self.connection(record.cookie) else { return };
        match record.change {
            change::SEEN => connection.introduce(record.tgid, ends(record), record.from_start != 0),
            change::FINISHED => connection.finished(record.time, happened),
            change::CLOSED => {
                let why = if record.error == 0 { Close::Normal } else { Close::Error(record.error) };
                connection.closed(why, record.time, record.next);
            }
            // CONNECTING and CONNECTED carry times only: a connection that never speaks has no exchange.
            _ => metrics.connections_opened.add(u64::from(record.change == change::CONNECTED)),
        }
        if self.connections.get(&record.cookie).is_some_and(Connection::wants_attention) {
            self.attention.push(record.cookie);
        }
    }

    /// A process is gone: so is every connection that was its alone. Unix sockets tell of their end only so.
    pub fn process_ended(&mut self, tgid: u32, now: u64) {
        for connection in self.connections.values_mut().filter(|connection| connection.tgid == tgid) {
            connection.closing(Close::ProcessExit, now);
            self.attention.push(connection.cookie);
        }
    }

    /// Lets time pass: holes that stay are declared, connections that closed are finished, what is too old is given up.
    pub fn advance(&mut self, now: u64, happened: &mut Vec<Happening>, ended: &mut Vec<u64>) {
        let mut again = Vec::new();
        for cookie in std::mem::take(&mut self.attention) {
            let Some(connection) = self.connections.get_mut(&cookie) else { continue };
            if connection.advance(now, self.limits.hold, happened) {
                self.connections.remove(&cookie);
                ended.push(cookie);
            } else if connection.wants_attention() {
                again.push(cookie);
            }
        }
        again.sort_unstable();
        again.dedup();
        self.attention.append(&mut again);
        if now.saturating_sub(self.last_sweep) >= SWEEP_INTERVAL {
            self.last_sweep = now;
            for connection in self.connections.values_mut() {
                connection.give_up_before(now.saturating_sub(self.limits.request_age), now, happened);
            }
        }
    }

    /// Ends everything: the agent stops.
    pub fn shutdown(&mut self, now: u64, happened: &mut Vec<Happening>) {
        for (_, mut connection) in self.connections.drain() {
            connection.advance(u64::MAX, 0, happened);
            connection.close(Close::Shutdown, now, happened);
        }
    }

    fn connection(&mut self, cookie: u64) -> Option<&mut Connection> {
        if !self.connections.contains_key(&cookie) {
            if self.connections.len() >= self.limits.connections && !self.make_room() {
                self.metrics.connections_over_limit.add(1);
                return None;
            }
            self.connections.insert(cookie, Connection::new(cookie, self.metrics.clone()));
        }
        self.connections.get_mut(&cookie)
    }

    /// Drops connections on which nothing is open. Whether there is room now.
    fn make_room(&mut self) -> bool {
        let before = self.connections.len();
        let newest = self.connections.values().map(|c| c.last_activity).max().unwrap_or(0);
        let idle_since = newest.saturating_sub(60_000_000_000);
        self.connections.retain(|_, connection| connection.is_busy() || connection.last_activity > idle_since);
        let dropped = before - self.connections.len();
        self.metrics.connections_evicted.add(dropped as u64);
        dropped > 0
    }
}

/// The addresses of a connection as the kernel tells them.
fn ends(record: &event::Connection) -> (Option<Role>, Address, Address) {
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

fn unix_path(record: &event::Connection) -> compact_str::CompactString {
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

/// What is known of a connection beyond its bytes.
impl Connection {
    /// What content showed, where the kernel could not tell.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.unwrap_or(Role::Client)
    }

    /// Both ends, as far as they are known; its spans share them.
    pub fn ends(&mut self) -> Arc<Ends> {
        let role = self.role();
        let known = self.ends.take().filter(|ends| ends.role == role);
        let ends = known.unwrap_or_else(|| Arc::new(Ends::new(role, self.local.clone(), self.peer.clone())));
        Arc::clone(self.ends.insert(ends))
    }

    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.followed_protocol()
    }
}

#[cfg(test)]
mod tests;
