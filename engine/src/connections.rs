//! Follows every connection: gives each segment to its connection, and lets time pass for all of them.
//!
//! A [`Connection`] orders its segments and has them cut into exchanges. What it reports goes to an [`Observer`]. Nothing
//! here knows a protocol or reads a clock.
//!
//! ```
//! use std::sync::Arc;
//!
//! use onlooker_common::connection::role;
//! use onlooker_common::segment::{Segment, flag};
//! use onlooker_engine::connections::{Connections, Limits};
//! use onlooker_engine::observer::{Observer, Place, Report};
//!
//! /// Collects the paths of finished requests.
//! #[derive(Default)]
//! struct Paths(Vec<String>);
//!
//! impl Observer for Paths {
//!     fn observe(&mut self, _place: Place, report: Report<'_>) {
//!         if let Report::Ended { exchange, .. } = report {
//!             self.0.extend(exchange.facts.as_http().map(|http| http.path.to_string()));
//!         }
//!     }
//! }
//!
//! let request = b"GET /cart HTTP/1.1\r\n\r\n";
//! let response = b"HTTP/1.1 204 No Content\r\n\r\n";
//! let operation = Segment { cookie: 7, role: role::SERVER, ..Segment::default() };
//! let read = Segment { length: request.len() as u32, flags: flag::BEGINS, ..operation };
//! let sent = Segment {
//!     length: response.len() as u32,
//!     opposite: request.len() as u64,
//!     flags: flag::BEGINS | flag::EGRESS,
//!     run: 1,
//!     ..operation
//! };
//!
//! let mut connections = Connections::new(Limits::default(), Arc::default());
//! let mut paths = Paths::default();
//! connections.segment(&read, request, &mut paths);
//! connections.segment(&sent, response, &mut paths);
//! assert_eq!(paths.0, ["/cart"]);
//! ```

use std::sync::Arc;

use onlooker_common::connection::{ConnectionChange, change, role};
use onlooker_common::plaintext::{Plaintext, StreamKey, Tie};
use onlooker_common::segment::{Segment, flag};
use onlooker_protocols::Close;
use rustc_hash::FxHashMap;

use crate::addresses;
use crate::aged::Aged;
use crate::model::counters::Counters;
use crate::observer::Observer;
use crate::order::Held;
use crate::plaintext::{Plaintexts, Released, Verdict};

pub use crate::connection::Connection;

/// Capacities and ages.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections followed at once. One costs about a kilobyte, and half a kilobyte more for what its spans share.
    pub connections: usize,
    /// Nanoseconds for which a segment waits for the bytes before it. Longer than records overtake each other on their way
    /// out of the kernel, shorter than anybody waits for a trace.
    pub hold: u64,
    /// Nanoseconds after which a request is aged: see [`crate::aged`].
    pub request_age: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 50_000, hold: 30_000_000, request_age: 300_000_000_000 }
    }
}

/// Every connection that is followed.
#[derive(Debug)]
pub struct Connections {
    /// By socket cookie, or by the id of a plaintext stream.
    connections: FxHashMap<u64, Connection>,
    plaintexts: Plaintexts,
    /// Connections with held segments or an end to come.
    attention: Vec<u64>,
    limits: Limits,
    counters: Arc<Counters>,
    aged: Aged,
    last_sweep: u64,
    /// Until then (time of segments) no connection is idle.
    full_until: u64,
}

/// How often all connections are looked at, for requests beyond their age.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

impl Connections {
    /// Sets other limits.
    pub fn bound(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The protocols are those of the counters.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            connections: FxHashMap::default(),
            plaintexts: Plaintexts::default(),
            attention: Vec::new(),
            limits,
            counters,
            aged: Aged::default(),
            last_sweep: 0,
            full_until: 0,
        }
    }

    /// The connection of the socket, while it is followed.
    #[must_use]
    pub fn get(&self, cookie: u64) -> Option<&Connection> {
        self.connections.get(&cookie)
    }

    /// The number of connections and plaintext streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes one socket operation with its captured bytes.
    pub fn segment(&mut self, segment: &Segment, captured: &[u8], observer: &mut dyn Observer) {
        let Some(connection) = self.connection(segment.cookie, segment.time, observer) else {
            return self.refuse(segment);
        };
        connection.segment(segment, captured, observer);
        if connection.wants_attention() {
            self.attention.push(segment.cookie);
        }
        if segment.flags & flag::FIN != 0
            && let Some(stream) = self.plaintexts.of_socket(segment.cookie)
            && let Some(stream) = self.connections.get_mut(&stream)
        {
            stream.input_finished(segment.time, observer);
        }
        if segment.flags & (flag::UNIX | flag::FIN) == flag::UNIX | flag::FIN {
            self.unix_peer_ended(segment.peer, segment.time);
        }
    }

    /// Takes plaintext of a TLS library. The segment's cookie may be 0: a tie will name the socket.
    pub fn plaintext(&mut self, record: &Plaintext, captured: &[u8], observer: &mut dyn Observer) {
        let Plaintext { segment, stream } = record;
        self.end_earlier(stream, segment.time, observer);
        if !self.has_room_for(stream) {
            return self.refuse(segment);
        }
        if segment.cookie != 0 && self.plaintexts.socket_of(stream) != Some(segment.cookie) {
            self.tie_stream(stream, segment.cookie, segment.time, observer);
        }
        match self.plaintexts.segment(stream, segment, captured) {
            Verdict::Stale => self.counters.segments_too_late.add(1),
            Verdict::Held => {}
            Verdict::Full => self.release(stream, observer),
            Verdict::Deliver(id) => self.deliver(id, stream, segment, captured, observer),
        }
    }

    /// Takes the socket of a plaintext stream.
    pub fn tie(&mut self, tie: &Tie, observer: &mut dyn Observer) {
        self.end_earlier(&tie.stream, tie.time, observer);
        if self.has_room_for(&tie.stream) {
            self.tie_stream(&tie.stream, tie.cookie, tie.time, observer);
        }
    }

    fn tie_stream(&mut self, stream: &StreamKey, cookie: u64, time: u64, observer: &mut dyn Observer) {
        let Some(Released { id, held }) = self.plaintexts.tie(stream, cookie) else { return };
        if let Some(mut socket) = self.connections.remove(&cookie) {
            socket.carries_plaintext(time, observer);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.carried_by(&socket);
            }
            self.connections.insert(cookie, socket);
        }
        for Held { segment, captured } in held {
            self.deliver(id, stream, &segment, &captured, observer);
        }
    }

    /// Follows a stream without its socket.
    fn release(&mut self, stream: &StreamKey, observer: &mut dyn Observer) {
        let Some(Released { id, held }) = self.plaintexts.release(stream) else { return };
        self.counters.plaintext_untied.add(1);
        for Held { segment, captured } in held {
            self.deliver(id, stream, &segment, &captured, observer);
        }
    }

    fn deliver(
        &mut self,
        id: u64,
        stream: &StreamKey,
        segment: &Segment,
        captured: &[u8],
        observer: &mut dyn Observer,
    ) {
        if !self.connections.contains_key(&id) {
            if self.is_full(segment.time, observer) {
                return self.refuse(segment);
            }
            let socket = self.plaintexts.socket_of(stream);
            let socket = socket.and_then(|socket| self.connections.get(&socket));
            let mut connection = Connection::plaintext(id, *stream, self.counters.clone());
            // What passed before the socket was followed is counted there.
            if segment.flags & flag::FROM_START == 0 && socket.is_none_or(Connection::is_from_start) {
                self.counters.connections_tls_read_late.add(1);
            }
            if let Some(socket) = socket {
                connection.carried_by(socket);
            }
            self.connections.insert(id, connection);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.segment(segment, captured, observer);
        if connection.wants_attention() {
            self.attention.push(id);
        }
    }

    /// Another object has the address of an earlier one: the earlier stream is over.
    fn end_earlier(&mut self, stream: &StreamKey, now: u64, observer: &mut dyn Observer) {
        let Some(earlier) = self.plaintexts.earlier(stream) else { return };
        self.release(&earlier, observer);
        if let Some(connection) = self.plaintexts.id_of(&earlier).and_then(|id| self.connections.remove(&id)) {
            connection.end(Close::Normal, now, observer);
        }
        self.plaintexts.forget(&earlier);
    }

    fn has_room_for(&mut self, stream: &StreamKey) -> bool {
        let is_full = |plaintexts: &Plaintexts| plaintexts.len() >= self.limits.connections;
        if is_full(&self.plaintexts) && !self.plaintexts.contains(stream) {
            let connections = &self.connections;
            self.plaintexts.retain(|id| connections.contains_key(&id));
            return !is_full(&self.plaintexts);
        }
        true
    }

    /// Counts a segment for which there is no room.
    fn refuse(&self, segment: &Segment) {
        self.counters.connections_over_limit.add(1);
        self.counters.requests_lost_over_limit.add(u64::from(begins_request(segment)));
    }

    /// The kernel does not record a unix socket's end, but the socket's peer reads it.
    fn unix_peer_ended(&mut self, cookie: u64, now: u64) {
        if let Some(connection) = self.connections.get_mut(&cookie)
            && !connection.is_busy()
        {
            connection.closing(Close::Normal, now);
            self.attention.push(cookie);
        }
    }

    /// Takes a connection's beginning, change of state or end.
    pub fn change(&mut self, record: &ConnectionChange, observer: &mut dyn Observer) {
        // CONNECTING and CONNECTED carry times only: a connection without bytes has no exchange.
        match record.change {
            change::CONNECTING => {
                // The socket is used again: what was open on it is over.
                let stream = self.plaintexts.of_socket(record.cookie);
                for id in stream.into_iter().chain([record.cookie]) {
                    if let Some(before) = self.connections.remove(&id) {
                        self.forget_stream(&before);
                        before.end(Close::Normal, record.time, observer);
                    }
                }
                return;
            }
            change::CONNECTED => return self.counters.connections_opened.add(1),
            _ => {}
        }
        if record.change == change::SEEN && record.from_start == 0 {
            self.counters.connections_begun_unseen.add(1);
        }
        let stream = self.plaintexts.of_socket(record.cookie);
        let known = if record.change == change::SEEN {
            self.connection(record.cookie, record.time, observer)
        } else {
            self.connections.get_mut(&record.cookie)
        };
        let Some(connection) = known else { return };
        let why = if record.error == 0 { Close::Normal } else { Close::Error(record.error) };
        match record.change {
            change::SEEN => connection.introduce(record.tgid, addresses::of_connection(record), record.from_start != 0),
            change::FINISHED => connection.finished(record.time, observer),
            change::FINISHED_BOTH => connection.finished_both(record.time, observer),
            change::DESTROYED => connection.destroyed(record.next),
            _ => connection.closed(why, record.time, record.next, record.arrived),
        }
        let ends = stream.map(|_| connection.known_ends());
        if connection.wants_attention() {
            self.attention.push(record.cookie);
        }
        if let Some((id, ends)) = stream.zip(ends)
            && let Some(stream) = self.connections.get_mut(&id)
        {
            match record.change {
                change::SEEN => stream.set_ends(ends),
                change::FINISHED | change::FINISHED_BOTH => stream.finished(record.time, observer),
                change::CLOSED => {
                    stream.closing(why, record.time);
                    self.attention.push(id);
                }
                _ => {}
            }
        }
    }

    /// A process has ended. Its connections are over, unless another process has them too. TCP reports its end; unix sockets
    /// and plaintext streams end only so.
    pub fn process_ended(&mut self, tgid: u32, now: u64, observer: &mut dyn Observer) {
        for stream in self.plaintexts.waiting_of(tgid) {
            self.release(&stream, observer);
        }
        for (&id, connection) in self.connections.iter_mut().filter(|(_, connection)| connection.tgid() == tgid) {
            connection.process_ended(now);
            if connection.wants_attention() {
                self.attention.push(id);
            }
        }
    }

    /// A process is not recorded any more, and goes on. Another process may have its connections too: then they are followed anew.
    pub fn process_deselected(&mut self, tgid: u32, now: u64, observer: &mut dyn Observer) {
        for stream in self.plaintexts.waiting_of(tgid) {
            self.release(&stream, observer);
        }
        let of_process = self.connections.extract_if(|_, connection| connection.tgid() == tgid);
        for (id, connection) in of_process.collect::<Vec<_>>() {
            self.forget_stream(&connection);
            self.plaintexts.forget_socket(id);
            connection.deselect(now, observer);
        }
    }

    /// Lets time pass: declares holes, finishes connections that closed, gives up requests that are too old.
    pub fn advance(&mut self, now: u64, observer: &mut dyn Observer) {
        while let Some(stream) = self.plaintexts.overdue(now) {
            self.release(&stream, observer);
        }
        let mut attention = std::mem::take(&mut self.attention);
        attention.sort_unstable();
        attention.dedup();
        attention.retain(|&id| {
            let Some(connection) = self.connections.get_mut(&id) else { return false };
            if !connection.advance(now, self.limits.hold, observer) {
                return connection.wants_attention();
            }
            if let Some(connection) = self.connections.remove(&id) {
                self.forget_stream(&connection);
                // A stream of which nothing has come ends with its socket.
                if let Some(stream) = self.plaintexts.of_socket(id)
                    && !self.connections.contains_key(&stream)
                {
                    self.plaintexts.forget_socket(id);
                }
                connection.forget(observer);
            }
            false
        });
        self.attention = attention;
        if now.saturating_sub(self.last_sweep) >= SWEEP_INTERVAL {
            self.last_sweep = now;
            let age = self.limits.request_age;
            let given_up_before = self.aged.look(self.connections.values(), age, now, &self.counters);
            for connection in self.connections.values_mut() {
                if let Some(oldest) = given_up_before {
                    connection.give_up_before(oldest, now, observer);
                }
                connection.pass_time(now, observer);
                connection.count_bytes();
            }
        }
    }

    fn forget_stream(&mut self, connection: &Connection) {
        if let Some(stream) = connection.stream() {
            self.plaintexts.forget(&stream);
        }
    }

    /// Ends all connections, because the agent stops.
    pub fn shutdown(&mut self, now: u64, observer: &mut dyn Observer) {
        while let Some(stream) = self.plaintexts.overdue(u64::MAX) {
            self.release(&stream, observer);
        }
        for (_, connection) in self.connections.drain() {
            connection.end(Close::Shutdown, now, observer);
        }
    }

    /// The connection of a socket. A new one begins here. `None` if there is no room for it.
    fn connection(&mut self, cookie: u64, now: u64, observer: &mut dyn Observer) -> Option<&mut Connection> {
        if self.connections.len() >= self.limits.connections
            && !self.connections.contains_key(&cookie)
            && self.is_full(now, observer)
        {
            return None;
        }
        let (counters, plaintexts) = (&self.counters, &self.plaintexts);
        Some(self.connections.entry(cookie).or_insert_with(|| {
            counters.connections_seen.add(1);
            let mut connection = Connection::new(cookie, counters.clone());
            if plaintexts.of_socket(cookie).is_some() {
                connection.carries_plaintext(now, observer);
            }
            connection
        }))
    }

    /// Whether no connection can be added. Forgets the connections that have been idle for the longest: so many at once
    /// that this is rarely necessary.
    fn is_full(&mut self, now: u64, observer: &mut dyn Observer) -> bool {
        /// One of so many is forgotten.
        const SHARE: usize = 16;
        /// Where all are busy, looking again at once is no use.
        const PAUSE: u64 = 100_000_000;
        if self.connections.len() < self.limits.connections {
            return false;
        }
        if now < self.full_until {
            return true;
        }
        self.full_until = now + PAUSE;
        let idle = self.connections.iter().filter(|(_, connection)| !connection.is_busy());
        let mut idle: Vec<_> = idle.map(|(&id, connection)| (connection.last_activity, id)).collect();
        let most = (self.limits.connections / SHARE).max(1).min(idle.len());
        if most < idle.len() {
            idle.select_nth_unstable(most);
        }
        for (_, id) in idle.into_iter().take(most) {
            if let Some(connection) = self.connections.remove(&id) {
                self.counters.connections_evicted.add(1);
                connection.forget(observer);
                self.full_until = 0;
            }
        }
        self.connections.len() >= self.limits.connections
    }
}

/// Whether a request begins with the segment, as far as the kernel can tell.
fn begins_request(segment: &Segment) -> bool {
    let is_sent = segment.flags & flag::EGRESS != 0;
    segment.flags & flag::BEGINS != 0 && (segment.role == role::SERVER) != is_sent
}

#[cfg(test)]
mod tests;
