//! Requests that were answered, and whose client may send more.
//!
//! A server may answer before its client has ended the stream, and then give it up: grpc-java ends some calls with an empty DATA frame
//! that it sends later than the message, or not at all if it reads first that the server gave up. How much a client sent is known
//! when it ends the stream or gives it up, or when nothing more can be on its way. So the report waits for that. It does not wait for
//! long: a client may never end its stream.

use std::collections::BTreeMap;

use super::stream::Stream;

/// How long a report waits, in nanoseconds. A client that ends its streams does it within a round trip.
const PATIENCE: u64 = 1_000_000_000;

/// Rare, so a few are enough. Of more, the one that began first is reported.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
pub(super) struct AnsweredEarly {
    waiting: BTreeMap<u32, Stream>,
}

impl AnsweredEarly {
    /// The response on this stream is over. Returns the stream whose report can wait no longer.
    pub(super) fn add(&mut self, id: u32, stream: Stream) -> Option<Stream> {
        self.waiting.insert(id, stream);
        if self.waiting.len() > MAX_WAITING { self.waiting.pop_first().map(|(_, first)| first) } else { None }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.waiting.get_mut(&id)
    }

    /// The stream, if its client has ended it.
    pub(super) fn take_if_sent(&mut self, id: u32) -> Option<Stream> {
        self.waiting.get(&id).is_some_and(|stream| !stream.is_sending()).then(|| self.waiting.remove(&id))?
    }

    /// All of them: the client's bytes are followed no longer.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Stream> + use<> {
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Those that have waited too long at `now` (nanoseconds, as in [`Moment`](crate::Moment)).
    pub(super) fn take_overdue(&mut self, now: u64) -> impl Iterator<Item = Stream> + use<> {
        let is_overdue = |_: &u32, stream: &mut Stream| now.saturating_sub(stream.answered_at()) >= PATIENCE;
        let overdue: Vec<_> = self.waiting.extract_if(.., is_overdue).collect();
        overdue.into_iter().map(|(_, mut stream)| {
            stream.wait_no_longer();
            stream
        })
    }
}
