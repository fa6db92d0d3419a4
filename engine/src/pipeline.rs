//! The line from records to spans: strictly forward, on one thread, nothing queued that is not bounded.
//!
//! A record goes to the `stream` of its connection. What that hears becomes of `requests`: each gets its place among the
//! `parent`s, waits a moment when it is over until it is settled and known whose it is, is described and handed on to be
//! exported.

mod requests;

use std::sync::Arc;

use onlooker_common::decode::Event;
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_common::segment::flag;
use onlooker_protocols::Direction;

use crate::connections::{Limits, Streams};
use crate::model::clock::Reading;
use crate::model::counters::Counters;
use crate::model::service::PendingService;
use crate::model::sink::Finished;
use requests::Requests;

/// What the pipeline asks and tells the world outside: so that it runs as well without a kernel.
pub trait Surroundings {
    /// PendingService span it is, now or soon.
    fn whose(&mut self, tgid: u32) -> PendingService;
    /// Every request of the connection that begins before `until` is complete.
    fn completed(&mut self, cookie: u64, until: u64);
    /// As many bytes of the connection's runs are wanted as can be captured.
    fn raise(&mut self, cookie: u64);
    /// The heads of what the process's connections carry this way are longer than what is captured.
    fn raise_process(&mut self, tgid: u32, direction: Direction);
    /// The connection is over.
    fn forget(&mut self, cookie: u64);
    /// A process changed.
    fn process(&mut self, process: &ProcessChange);
}

/// Records in, spans out.
#[derive(Debug)]
pub struct Pipeline<S> {
    streams: Streams,
    requests: Requests<S>,
    counters: Arc<Counters>,
    /// Records taken since they were counted last.
    events: u64,
    latest: u64,
}

impl<S: Surroundings> Pipeline<S> {
    /// `reading` is that of the clocks now.
    pub fn new(surroundings: S, limits: Limits, reading: Reading, counters: Arc<Counters>) -> Self {
        Self {
            streams: Streams::new(limits, counters.clone()),
            requests: Requests::new(surroundings, reading, counters.clone()),
            counters,
            events: 0,
            latest: 0,
        }
    }

    pub fn surroundings(&mut self) -> &mut S {
        &mut self.requests.surroundings
    }

    /// Takes one record of the ring.
    pub fn record(&mut self, bytes: &[u8]) {
        self.events += 1;
        match Event::decode(bytes) {
            Ok(Event::Segment(segment, captured)) => {
                self.latest = self.latest.max(segment.time);
                if segment.flags & flag::LOOP != 0 {
                    self.requests.runs_loop(segment.tgid);
                }
                self.streams.segment(segment, captured, &mut self.requests);
            }
            Ok(Event::Connection(connection)) => {
                self.latest = self.latest.max(connection.time);
                self.streams.change(connection, &mut self.requests);
            }
            Ok(Event::Process(process)) => {
                self.latest = self.latest.max(process.time);
                if process.change == lifecycle::EXIT {
                    self.streams.process_ended(process.tgid, process.time);
                }
                self.requests.process(process);
            }
            // The kernel programs do not write the other records yet.
            Ok(Event::Plaintext(..) | Event::Tie(_) | Event::Datagram(..)) | Err(_) => {
                self.counters.events_malformed.add(1)
            }
        }
    }

    /// Lets time pass until `now` (kernel monotonic): closes, gives up and settles what is due. Each finished exchange goes to `made`.
    pub fn advance(&mut self, now: u64, made: impl FnMut(Finished<'_>)) {
        self.counters.events.add(std::mem::take(&mut self.events));
        self.streams.advance(now, &mut self.requests);
        self.requests.settle_due(now, now, made);
    }

    /// Takes a reading of the clocks, to find steps of the wall clock. To be called every second or oftener.
    pub fn clock(&mut self, reading: Reading) {
        self.requests.clock_is(reading);
    }

    /// Time of the newest record that was taken (kernel monotonic).
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Whether something waits for its time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.requests.is_busy()
    }

    /// Whether something waits only to know whose it is.
    #[must_use]
    pub fn waits_for_services(&self) -> bool {
        self.requests.waits_for_services()
    }

    /// Ends everything that is open, as of `now`, and settles it. What waits to know whose it is goes on to wait.
    pub fn shutdown(&mut self, now: u64, made: impl FnMut(Finished<'_>)) {
        self.streams.shutdown(now, &mut self.requests);
        self.requests.settle_due(u64::MAX, now, made);
    }
}

#[cfg(test)]
mod tests;
