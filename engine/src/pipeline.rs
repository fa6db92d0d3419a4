//! From records to spans: strictly forward, on one thread, with nothing queued that is not bounded.
//!
//! A record goes to its connection. What the connection reports becomes a request: it gets its place among the parents when
//! it begins. When it is over, it waits until its parent is settled and its service is known. Then it is described and
//! handed out.

mod requests;
mod routes;
mod surroundings;

use std::sync::Arc;

use onlooker_common::connection::change;
use onlooker_common::decode::Event;
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_common::segment::flag;
use onlooker_protocols::Close;

use crate::connections::{Connections, Limits};
use crate::datagrams::Datagrams;
use crate::model::clock::Reading;
use crate::model::counters::Counters;
use crate::model::sink::Finished;
use requests::Requests;

pub use surroundings::{Notice, Surroundings};

/// Records in, spans out.
///
/// The protocols are those of the counters.
///
/// ```
/// use std::sync::Arc;
///
/// use onlooker_common::connection::role;
/// use onlooker_common::kind;
/// use onlooker_common::segment::{Segment, flag};
/// use onlooker_engine::connections::Limits;
/// use onlooker_engine::model::clock::Reading;
/// use onlooker_engine::model::counters::Counters;
/// use onlooker_engine::model::service::{PendingService, Service};
/// use onlooker_engine::pipeline::{Notice, Pipeline, Surroundings};
/// use opentelemetry_sdk::Resource;
/// use zerocopy::IntoBytes;
///
/// /// Everything belongs to one service, and there is no kernel to report to.
/// struct Replay(PendingService);
///
/// impl Surroundings for Replay {
///     fn service(&mut self, _tgid: u32) -> PendingService {
///         self.0.clone()
///     }
///
///     fn take(&mut self, _notice: Notice<'_>) {}
/// }
///
/// let shop = Service::new("shop", Resource::builder_empty().build());
/// let surroundings = Replay(PendingService::known(Arc::new(shop)));
/// let clock = Reading { monotonic: 0, wall: 1_700_000_000_000_000_000, uncertainty: 0 };
/// let mut pipeline = Pipeline::new(surroundings, Limits::default(), clock, Arc::new(Counters::default()));
///
/// let request = b"GET /cart HTTP/1.1\r\n\r\n";
/// let response = b"HTTP/1.1 204 No Content\r\n\r\n";
/// let operation = Segment { kind: kind::SEGMENT, cookie: 7, role: role::SERVER, ..Segment::default() };
/// let read = Segment { time: 1_000_000, flags: flag::BEGINS, ..operation };
/// let sent = Segment {
///     time: 3_000_000,
///     opposite: request.len() as u64,
///     flags: flag::BEGINS | flag::EGRESS,
///     run: 1,
///     ..operation
/// };
/// for (segment, bytes) in [(read, &request[..]), (sent, &response[..])] {
///     let length = bytes.len() as u32;
///     let segment = Segment { captured: length, length, ..segment };
///     // Records are aligned to eight bytes, as in the kernel's ring.
///     let mut record = vec![0_u64; (size_of::<Segment>() + bytes.len()).div_ceil(8)];
///     let (header, payload) = record.as_mut_bytes().split_at_mut(size_of::<Segment>());
///     header.copy_from_slice(segment.as_bytes());
///     payload[..bytes.len()].copy_from_slice(bytes);
///     pipeline.record(record.as_bytes());
/// }
///
/// let mut names = Vec::new();
/// pipeline.advance(1_000_000_000, |finished| names.push(finished.span.name.clone()));
/// assert_eq!(names, ["GET /cart"]);
/// ```
#[derive(Debug)]
pub struct Pipeline<S> {
    connections: Connections,
    datagrams: Datagrams,
    requests: Requests<S>,
    counters: Arc<Counters>,
    /// Records taken since they were last counted.
    events: u64,
    latest: u64,
    /// The process whose threads were last seen to prove nothing, and the flags that say so. Nothing has happened to any
    /// process since.
    loop_of: Option<(u32, u32)>,
}

impl<S: Surroundings> Pipeline<S> {
    /// `reading` is that of the clocks now.
    pub fn new(surroundings: S, limits: Limits, reading: Reading, counters: Arc<Counters>) -> Self {
        Self {
            connections: Connections::new(limits.clone(), counters.clone()),
            datagrams: Datagrams::new(limits, counters.clone()),
            requests: Requests::new(surroundings, reading, counters.clone()),
            counters,
            events: 0,
            latest: 0,
            loop_of: None,
        }
    }

    pub fn surroundings(&mut self) -> &mut S {
        &mut self.requests.surroundings
    }

    /// Takes one record of the kernel's ring. It must be aligned to eight bytes.
    pub fn record(&mut self, bytes: &[u8]) {
        self.events += 1;
        match Event::decode(bytes) {
            Ok(Event::Segment(segment, captured)) => {
                self.sees(segment.time, segment.tgid, segment.flags);
                self.connections.segment(segment, captured, &mut self.requests);
            }
            Ok(Event::Plaintext(plaintext, captured)) => {
                let segment = &plaintext.segment;
                self.sees(segment.time, segment.tgid, segment.flags);
                self.connections.plaintext(plaintext, captured, &mut self.requests);
            }
            Ok(Event::Datagram(datagram, captured)) => {
                self.sees(datagram.time, datagram.tgid, datagram.flags);
                self.datagrams.datagram(datagram, captured, &mut self.requests);
            }
            Ok(Event::Tie(tie)) => {
                self.latest = self.latest.max(tie.time);
                self.connections.tie(tie, &mut self.requests);
            }
            Ok(Event::Connection(connection)) => {
                self.latest = self.latest.max(connection.time);
                self.connections.change(connection, &mut self.requests);
                if connection.change == change::CLOSED {
                    let why = if connection.error == 0 { Close::Normal } else { Close::Error(connection.error) };
                    self.datagrams.closed(connection.cookie, why, connection.time, &mut self.requests);
                }
            }
            Ok(Event::Process(process)) => self.process(process),
            Ok(Event::Execution(execution)) => self.process(&execution.change),
            Err(_malformed) => self.counters.events_malformed.add(1),
        }
    }

    fn sees(&mut self, time: u64, tgid: u32, flags: u32) {
        self.latest = self.latest.max(time);
        let flags = flags & (flag::LOOP | flag::VIRTUAL_THREADS | flag::PROXY);
        if flags != 0 && self.loop_of.replace((tgid, flags)) != Some((tgid, flags)) {
            if flags & flag::LOOP != 0 {
                self.requests.runs_loop(tgid);
            } else {
                self.requests.runs_virtual_threads(tgid, time);
            }
            if flags & flag::PROXY != 0 {
                self.requests.is_proxy(tgid);
            }
        }
    }

    fn process(&mut self, process: &ProcessChange) {
        self.latest = self.latest.max(process.time);
        self.loop_of = None;
        if process.change == lifecycle::EXIT {
            self.connections.process_ended(process.tgid, process.time, &mut self.requests);
            self.datagrams.process_ended(process.tgid, process.time, &mut self.requests);
        }
        self.requests.process(process);
    }

    /// A process is not recorded any more since `now`, and goes on. Its open requests end, because their responses are not seen.
    pub fn process_deselected(&mut self, tgid: u32, now: u64) {
        self.loop_of = None;
        self.connections.process_deselected(tgid, now, &mut self.requests);
        self.datagrams.process_deselected(tgid, now, &mut self.requests);
        self.requests.process_deselected(tgid, now);
    }

    /// Lets time pass until `now` (kernel monotonic): closes, gives up and settles what is due. Each finished exchange goes
    /// to `made`.
    pub fn advance(&mut self, now: u64, made: impl FnMut(Finished<'_>)) {
        self.counters.events.add(std::mem::take(&mut self.events));
        self.connections.advance(now, &mut self.requests);
        self.datagrams.advance(now, &mut self.requests);
        self.requests.settle_due(now, now, made);
    }

    /// Bounds what is followed from now on.
    pub fn bound(&mut self, limits: &Limits) {
        self.connections.bound(limits.clone());
        self.datagrams.bound(limits.clone());
    }

    /// Takes a reading of the clocks, to find steps of the wall clock. To be called at least once a second.
    pub fn clock(&mut self, reading: Reading) {
        self.requests.clock_is(reading);
    }

    /// Time of the newest record (kernel monotonic).
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Whether something waits for its time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.requests.is_busy()
    }

    /// Whether processes make calls. Their surroundings need to know soon which requests are complete.
    #[must_use]
    pub fn has_callers(&self) -> bool {
        self.requests.has_callers()
    }

    /// Whether something waits only for its service.
    #[must_use]
    pub fn waits_for_services(&self) -> bool {
        self.requests.waits_for_services()
    }

    /// Ends everything that is open, as of `now`, and settles it. What waits for its service goes on waiting.
    pub fn shutdown(&mut self, now: u64, made: impl FnMut(Finished<'_>)) {
        self.connections.shutdown(now, &mut self.requests);
        self.datagrams.shutdown(now, &mut self.requests);
        self.requests.settle_due(u64::MAX, now, made);
    }
}

#[cfg(test)]
mod tests;
