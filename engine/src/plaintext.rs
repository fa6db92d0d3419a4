//! Plaintext streams: which socket carries each of them, and what waits until that is known.
//!
//! A TLS library's object is a stream beside the socket. Its segments may come before its tie to the socket. Until then
//! they are held, bounded in bytes and time. A stream that is not tied in time is followed without a socket.

use std::collections::VecDeque;

use onlooker_common::plaintext::StreamKey;
use onlooker_common::segment::Segment;
use rustc_hash::FxHashMap;

use crate::order::Held;

/// Nanoseconds for which segments wait for the tie. It comes with the first socket operation of the library's call, or with
/// the send that follows it.
const PATIENCE: u64 = 250_000_000;

/// Memory of the segments that one stream, and all streams together, may hold. A request that is larger is followed
/// without a socket.
const MAX_STREAM_BYTES: usize = 64 << 10;
const MAX_BYTES: usize = 8 << 20;

/// Every plaintext stream, by process and object.
#[derive(Debug, Default)]
pub(crate) struct Plaintexts {
    streams: FxHashMap<(u32, u64), Stream>,
    by_socket: FxHashMap<u64, (u32, u64)>,
    /// Streams that began untied, with the time of their first segment, oldest first.
    untied: VecDeque<(u64, StreamKey)>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Stream {
    generation: u32,
    /// The id of its connection.
    id: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Its socket is unknown.
    Waiting {
        held: Vec<Held>,
        bytes: usize,
    },
    /// It is followed without a socket.
    Untied,
    Tied {
        socket: u64,
    },
}

/// What is to be done with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It belongs to an object that is gone.
    Stale,
    /// It waits for the tie.
    Held,
    /// It waits, and too much waits: the stream must be [released](Plaintexts::release).
    Full,
    /// It belongs to the connection with this id.
    Deliver(u64),
}

/// A stream that begins to be followed, and its segments so far.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) id: u64,
    pub(crate) held: Vec<Held>,
}

impl Plaintexts {
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn contains(&self, key: &StreamKey) -> bool {
        self.streams.contains_key(&(key.tgid, key.object))
    }

    /// The stream of an earlier object at the same address.
    pub(crate) fn earlier(&self, key: &StreamKey) -> Option<StreamKey> {
        let earlier = self.streams.get(&(key.tgid, key.object))?.generation;
        is_newer(key.generation, earlier).then_some(StreamKey { generation: earlier, ..*key })
    }

    /// Takes a segment of the stream.
    pub(crate) fn segment(&mut self, key: &StreamKey, segment: &Segment, captured: &[u8]) -> Verdict {
        let stream = self.streams.entry((key.tgid, key.object)).or_insert_with(|| {
            self.untied.push_back((segment.time, *key));
            let state = State::Waiting { held: Vec::new(), bytes: 0 };
            Stream { generation: key.generation, id: key.id(), state }
        });
        if stream.generation != key.generation {
            return Verdict::Stale;
        }
        let State::Waiting { held, bytes } = &mut stream.state else { return Verdict::Deliver(stream.id) };
        let size = size_of::<Held>() + captured.len();
        held.push(Held { segment: *segment, captured: captured.to_vec() });
        *bytes += size;
        self.held_bytes += size;
        if *bytes > MAX_STREAM_BYTES || self.held_bytes > MAX_BYTES { Verdict::Full } else { Verdict::Held }
    }

    /// Ties the stream to the socket. Returns the stream if it begins to be followed with this, `None` if the object is
    /// gone.
    pub(crate) fn tie(&mut self, key: &StreamKey, socket: u64) -> Option<Released> {
        let place = (key.tgid, key.object);
        let stream = self.streams.entry(place).or_insert_with(|| Stream {
            generation: key.generation,
            id: key.id(),
            state: State::Untied,
        });
        if stream.generation != key.generation {
            return None;
        }
        let id = stream.id;
        let before = std::mem::replace(&mut stream.state, State::Tied { socket });
        if let State::Tied { socket: before } = before
            && before != socket
        {
            self.by_socket.remove(&before);
        }
        self.by_socket.insert(socket, place);
        Some(Released { id, held: self.no_longer_held(before) })
    }

    /// Stops waiting for the stream's tie.
    pub(crate) fn release(&mut self, key: &StreamKey) -> Option<Released> {
        let stream = self.streams.get_mut(&(key.tgid, key.object))?;
        if stream.generation != key.generation || !matches!(stream.state, State::Waiting { .. }) {
            return None;
        }
        let id = stream.id;
        let before = std::mem::replace(&mut stream.state, State::Untied);
        Some(Released { id, held: self.no_longer_held(before) })
    }

    /// A stream that has waited for its tie for too long at `now`.
    pub(crate) fn overdue(&mut self, now: u64) -> Option<StreamKey> {
        let &(since, key) = self.untied.front()?;
        if now.saturating_sub(since) < PATIENCE {
            return None;
        }
        self.untied.pop_front();
        Some(key)
    }

    /// The streams of a process that wait for their tie.
    pub(crate) fn waiting_of(&self, tgid: u32) -> Vec<StreamKey> {
        self.untied.iter().map(|&(_, key)| key).filter(|key| key.tgid == tgid).collect()
    }

    /// Forgets the streams whose connections are not followed.
    pub(crate) fn retain(&mut self, mut is_followed: impl FnMut(u64) -> bool) {
        let gone = self
            .streams
            .iter()
            .filter(|(_, stream)| !matches!(stream.state, State::Waiting { .. }) && !is_followed(stream.id));
        for place in gone.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.remove(place);
        }
    }

    /// The connection of the stream that is tied to the socket.
    pub(crate) fn of_socket(&self, socket: u64) -> Option<u64> {
        self.streams.get(self.by_socket.get(&socket)?).map(|stream| stream.id)
    }

    /// The connection of the stream.
    pub(crate) fn id_of(&self, key: &StreamKey) -> Option<u64> {
        let stream = self.streams.get(&(key.tgid, key.object))?;
        (stream.generation == key.generation).then_some(stream.id)
    }

    /// The socket of a tied stream.
    pub(crate) fn socket_of(&self, key: &StreamKey) -> Option<u64> {
        match self.streams.get(&(key.tgid, key.object))?.state {
            State::Tied { socket } => Some(socket),
            State::Waiting { .. } | State::Untied => None,
        }
    }

    /// The stream that is tied to the socket is over.
    pub(crate) fn forget_socket(&mut self, socket: u64) {
        if let Some(place) = self.by_socket.get(&socket).copied() {
            self.remove(place);
        }
    }

    /// The stream is over.
    pub(crate) fn forget(&mut self, key: &StreamKey) {
        let place = (key.tgid, key.object);
        if self.streams.get(&place).is_some_and(|stream| stream.generation == key.generation) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: (u32, u64)) {
        let Some(stream) = self.streams.remove(&place) else { return };
        if let State::Tied { socket } = stream.state {
            self.by_socket.remove(&socket);
        }
        self.no_longer_held(stream.state);
    }

    fn no_longer_held(&mut self, state: State) -> Vec<Held> {
        let State::Waiting { held, bytes } = state else { return Vec::new() };
        self.held_bytes -= bytes;
        held
    }
}

/// Generations wrap around.
fn is_newer(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than).cast_signed() > 0
}
