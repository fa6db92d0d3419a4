//! The line from records to spans: strictly forward, on one thread, nothing queued that is not bounded.
//!
//! A record goes to the `stream` of its connection. What that hears becomes of `requests`: each gets its place among the
//! `parent`s, waits a moment when it is over until it is settled and known whose it is, is described and handed on to be
//! exported.

mod requests;

use std::sync::Arc;

use onlooker_common::decode::Event;
use onlooker_common::event::{self, flag, lifecycle};

use crate::clock::Reading;
use crate::enrich::Whose;
use crate::metrics::Metrics;
use crate::span::Span;
use crate::stream::{Limits, Streams};
use requests::Requests;

/// What the pipeline asks and tells the world outside: so that it runs as well without a kernel.
pub trait Surroundings {
    /// Whose span it is, now or soon.
    fn whose(&mut self, tgid: u32) -> Whose;
    /// Every request of the connection that begins before `until` is complete.
    fn completed(&mut self, cookie: u64, until: u64);
    /// As many bytes of the connection's runs are wanted as can be captured.
    fn raise(&mut self, cookie: u64);
    /// The connection is over.
    fn forget(&mut self, cookie: u64);
    /// A process changed.
    fn process(&mut self, process: &event::Process);
}

/// Records in, spans out.
#[derive(Debug)]
pub struct Pipeline<S> {
    streams: Streams,
    requests: Requests<S>,
    metrics: Arc<Metrics>,
    /// Records taken since they were counted last.
    events: u64,
    clock_read: u64,
    latest: u64,
}

impl<S: Surroundings> Pipeline<S> {
    /// `reading` is that of the clocks now.
    pub fn new(surroundings: S, limits: Limits, reading: Reading, metrics: Arc<Metrics>) -> Self {
        Self {
            streams: Streams::new(limits, metrics.clone()),
            requests: Requests::new(surroundings, reading, metrics.clone()),
            metrics,
            events: 0,
            clock_read: reading.monotonic,
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
            Err(_malformed) => self.metrics.events_malformed.add(1),
        }
    }

    /// Lets time pass until `now` (kernel monotonic): closes, gives up and settles what is due. Each span goes to `made`.
    pub fn advance(&mut self, now: u64, made: impl FnMut(&Span)) {
        self.metrics.events.add(std::mem::take(&mut self.events));
        self.look_at_the_clock(now);
        self.streams.advance(now, &mut self.requests);
        self.requests.settle_due(now, now, made);
    }

    fn look_at_the_clock(&mut self, now: u64) {
        /// Steps of the wall clock are looked for this often.
        const CLOCK_INTERVAL: u64 = 1_000_000_000;
        if now.saturating_sub(self.clock_read) < CLOCK_INTERVAL {
            return;
        }
        self.clock_read = now;
        match Reading::now() {
            Ok(reading) => self.requests.clock_is(reading),
            Err(error) => tracing::warn!(%error, "cannot read the clock"),
        }
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
    pub fn shutdown(&mut self, now: u64, made: impl FnMut(&Span)) {
        self.streams.shutdown(now, &mut self.requests);
        self.requests.settle_due(u64::MAX, now, made);
    }
}

#[cfg(test)]
mod tests;
