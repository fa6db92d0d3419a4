//! Collects encoded spans into requests: full ones leave at once, others after the schedule delay.
//!
//! [`Batcher::put`] is called by the pipeline's thread and encodes there, so a span's memory is freed where it was
//! taken, and what waits for a slow collector is bytes, bounded by count and by size. [`Batcher::next`] is called by
//! the exporter's thread, which sleeps as long as there is nothing to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::account::{Fate, Lane, Share, Ticket};
use super::encode;
use crate::span::Span;

/// A request is cut when its spans have this size: the Collector's gRPC receiver takes 4 MiB by default, and resources
/// come to it.
const REQUEST_BYTES: usize = 2 << 20;

/// What may wait in bytes, also when spans are far larger than usual (about 500 bytes). Reached at the default queue
/// size of 65,536 spans by spans of 512 bytes.
const QUEUE_BYTES: usize = 32 << 20;

/// When spans leave: `OTEL_BSP_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How long the first span of a request waits for others: `OTEL_BSP_SCHEDULE_DELAY`.
    pub delay: Duration,
    /// How long the delivery of a request may take, retries included: `OTEL_BSP_EXPORT_TIMEOUT`.
    pub export_timeout: Duration,
    /// How many spans an exporter may hold, those on their way included: `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
    /// How many spans a request may have: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch_size: usize,
}

impl Default for Schedule {
    /// The specification's delay of 5 s is for an SDK's own process; spans of an agent are looked for at once. Its queue
    /// of 2,048 spans would be full in 20 ms at 100,000 requests a second.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(200),
            export_timeout: Duration::from_secs(30),
            max_queue_size: 65_536,
            max_batch_size: 2_048,
        }
    }
}

/// A lane's queue.
#[derive(Debug)]
pub(super) struct Batcher {
    lane: Arc<Lane>,
    schedule: Schedule,
    /// Size of all batches that are not done with, those on their way included.
    bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    closed: bool,
}

impl Batcher {
    pub(super) fn new(lane: Arc<Lane>, schedule: Schedule) -> Arc<Self> {
        Arc::new(Self { lane, schedule, bytes: Arc::default(), state: Mutex::default(), changed: Notify::new() })
    }

    /// Takes the spans of a ticket that there is room for.
    pub(super) fn put(&self, ticket: &Arc<Ticket>, spans: &[Span]) {
        let mut share = self.lane.admit(ticket, spans.len());
        let mut spans = spans[..share.spans()].iter();
        let mut wake = false;
        let mut state = self.state();
        while !spans.as_slice().is_empty() {
            if state.closed {
                return;
            }
            if self.bytes.load(Relaxed) >= QUEUE_BYTES {
                share.settle(Fate::QueueFull);
                break;
            }
            wake |= state.open.is_none();
            let batch = state.open.get_or_insert_with(|| Batch::new(&self.bytes));
            let room = self.schedule.max_batch_size - batch.spans;
            let mut taken = 0;
            for span in spans.by_ref().take(room) {
                batch.encoded.push(span);
                taken += 1;
                if batch.encoded.bytes() >= REQUEST_BYTES {
                    break;
                }
            }
            self.bytes.fetch_add(batch.encoded.bytes() - batch.size, Relaxed);
            batch.size = batch.encoded.bytes();
            batch.spans += taken;
            batch.shares.push(share.split_off(taken));
            if batch.spans >= self.schedule.max_batch_size || batch.encoded.bytes() >= REQUEST_BYTES {
                wake = true;
                let full = state.open.take();
                state.ready.extend(full);
            }
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    /// The next batch that is full or has waited long enough; `None` when closed and empty.
    pub(super) async fn next(&self) -> Option<Batch> {
        loop {
            let due = {
                let mut state = self.state();
                if let Some(batch) = state.ready.pop_front() {
                    return Some(batch);
                }
                if state.closed {
                    return state.open.take();
                }
                let due = state.open.as_ref().map(|open| open.since + self.schedule.delay);
                if due.is_some_and(|due| due <= Instant::now()) {
                    return state.open.take();
                }
                due
            };
            // `Notify` keeps a permit, so what changes between the look above and here is not missed.
            match due {
                Some(due) => drop(timeout_at(due, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes nothing more; what is there is due now.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spans that go out together. Dropped undelivered, they count as failed.
#[derive(Debug)]
pub(super) struct Batch {
    encoded: encode::Batch,
    spans: usize,
    shares: Vec<Share>,
    since: Instant,
    /// This batch's part of what the batcher holds.
    size: usize,
    held: Arc<AtomicUsize>,
}

impl Batch {
    fn new(held: &Arc<AtomicUsize>) -> Self {
        Self {
            encoded: encode::Batch::default(),
            spans: 0,
            shares: Vec::new(),
            since: Instant::now(),
            size: 0,
            held: Arc::clone(held),
        }
    }

    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// The request, once: an `ExportTraceServiceRequest`.
    pub(super) fn request(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.encoded).finish()
    }

    /// It arrived, and the receiver took all but `rejected` of its spans.
    pub(super) fn delivered(mut self, rejected: u64) {
        let mut rejected = usize::try_from(rejected).unwrap_or(usize::MAX);
        for mut share in self.shares.drain(..) {
            let refused = share.split_off(rejected);
            rejected -= refused.spans();
            refused.settle(Fate::Rejected);
            share.settle(Fate::Exported);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.held.fetch_sub(self.size, Relaxed);
    }
}
