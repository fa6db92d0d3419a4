//! Collects encoded spans into requests: full ones leave at once, others after the schedule delay.
//!
//! [`Batcher::put`] is called by the pipeline's thread and encodes there, while the span is hot: what waits for a slow
//! collector is bytes, bounded by count and by size. [`Batcher::next`] is called by the exporter's thread, which sleeps
//! as long as there is nothing to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::account::{Fate, Lane, Share, Ticket};
use super::buffers::Buffers;
use super::encode;
use onlooker_engine::model::span::Span;

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
    buffers: Arc<Buffers>,
    /// Size of all batches that are not done with, those on their way included.
    bytes: Arc<AtomicUsize>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    ready: VecDeque<Open>,
    closed: bool,
}

/// A request that is being made.
#[derive(Debug)]
struct Open {
    encoded: encode::Batch,
    batch: Batch,
    since: Instant,
}

impl Batcher {
    pub(super) fn new(lane: Arc<Lane>, schedule: Schedule) -> Arc<Self> {
        Arc::new(Self {
            lane,
            schedule,
            buffers: Arc::default(),
            bytes: Arc::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Takes a span of the ticket, if there is room for it.
    pub(super) fn put(&self, ticket: &Arc<Ticket>, span: &Span) {
        let mut state = self.state();
        if state.closed {
            return self.lane.refuse(ticket, Fate::Failed);
        }
        if !self.lane.has_room() || self.bytes.load(Relaxed) >= QUEUE_BYTES {
            return self.lane.refuse(ticket, Fate::QueueFull);
        }
        let mut wake = state.open.is_none();
        let open = state.open.get_or_insert_with(|| self.open());
        open.encoded.push(span);
        open.batch.add(ticket, &self.lane, open.encoded.bytes());
        if open.batch.spans >= self.schedule.max_batch_size || open.batch.bytes >= REQUEST_BYTES {
            wake = true;
            let full = state.open.take();
            state.ready.extend(full);
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }

    fn open(&self) -> Open {
        let batch = Batch { spans: 0, shares: Vec::new(), bytes: 0, held: Arc::clone(&self.bytes) };
        Open { encoded: encode::Batch::new(Arc::clone(&self.buffers)), batch, since: Instant::now() }
    }

    /// The next request that is full or has waited long enough, with whose it is; `None` when closed and empty.
    pub(super) async fn next(&self) -> Option<(Bytes, Batch)> {
        let Open { encoded, batch, .. } = self.leaving().await?;
        Some((encoded.finish(), batch))
    }

    async fn leaving(&self) -> Option<Open> {
        loop {
            let due = {
                let mut state = self.state();
                if let Some(full) = state.ready.pop_front() {
                    return Some(full);
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
    spans: usize,
    shares: Vec<Share>,
    /// This batch's part of what the batcher holds.
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Batch {
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// One more span, with which it has `bytes`.
    fn add(&mut self, ticket: &Arc<Ticket>, lane: &Arc<Lane>, bytes: usize) {
        if !self.shares.last().is_some_and(|share| share.is_of(ticket)) {
            self.shares.push(Share::new(ticket, lane));
        }
        if let Some(share) = self.shares.last_mut() {
            share.grow();
        }
        self.spans += 1;
        self.held.fetch_add(bytes - self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// It arrived, and the receiver took all but `rejected` of its spans.
    pub(super) fn delivered(mut self, mut rejected: u64) {
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
        self.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;

    use super::*;
    use crate::export::account::Account;
    use onlooker_engine::model::counters::Counters;
    use onlooker_engine::testing as sample;

    const LONG: Duration = Duration::from_secs(3600);

    struct Pipeline {
        counters: Arc<Counters>,
        account: Arc<Account>,
        batcher: Arc<Batcher>,
    }

    impl Pipeline {
        fn new(schedule: Schedule) -> Self {
            let counters = Arc::new(Counters::default());
            let account = Account::open(Arc::clone(&counters));
            Self { counters, account, batcher: Batcher::new(Lane::new(0, schedule.max_queue_size), schedule) }
        }

        fn send(&self, spans: &[Span]) {
            let ticket = self.account.ticket();
            for span in spans {
                self.batcher.put(&ticket, span);
            }
            ticket.enter(spans.len() as u64);
        }

        /// How many spans the next batch has; they are delivered.
        async fn deliver(&self) -> usize {
            let (_, batch) = self.batcher.next().await.unwrap();
            let spans = batch.spans();
            batch.delivered(0);
            spans
        }

        fn send_some(&self, count: u64) {
            let service = sample::service("shop");
            self.send(&(0..count).map(|id| sample::span(id + 1, &service)).collect::<Vec<_>>());
        }
    }

    fn schedule() -> Schedule {
        Schedule { delay: LONG, max_queue_size: 10, max_batch_size: 2, ..Schedule::default() }
    }

    #[tokio::test]
    async fn a_full_batch_leaves_at_once_and_the_rest_at_the_end() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(5);
        assert_eq!([pipeline.deliver().await, pipeline.deliver().await], [2, 2]);
        pipeline.batcher.close();
        assert_eq!(pipeline.batcher.next().await.unwrap().1.spans(), 1, "dropped here, so not exported");
        assert!(pipeline.batcher.next().await.is_none());
        assert_eq!(
            (pipeline.counters.spans_exported.get(), pipeline.counters.spans_dropped_export_failed.get()),
            (4, 1)
        );
    }

    #[tokio::test]
    async fn a_span_waits_no_longer_than_the_delay() {
        let pipeline = Arc::new(Pipeline::new(Schedule { delay: Duration::from_millis(20), ..schedule() }));
        let batcher = Arc::clone(&pipeline.batcher);
        let waiting = tokio::spawn(async move { batcher.next().await.unwrap().1.spans() });
        let sent = Instant::now();
        pipeline.send_some(1);
        assert_eq!(waiting.await.unwrap(), 1);
        assert!(sent.elapsed() >= Duration::from_millis(20), "it waited for others");
    }

    #[tokio::test]
    async fn what_is_too_much_is_counted_and_room_comes_back() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(12);
        assert_eq!(pipeline.counters.spans_judged(), 0, "judged together with those that are still on their way");
        for _ in 0..5 {
            pipeline.deliver().await;
        }
        assert_eq!((pipeline.counters.spans_exported.get(), pipeline.counters.spans_dropped_queue_full.get()), (10, 2));
        pipeline.send_some(10);
        for _ in 0..5 {
            pipeline.deliver().await;
        }
        assert_eq!((pipeline.counters.spans_exported.get(), pipeline.counters.spans_dropped_queue_full.get()), (20, 2));
    }

    #[tokio::test]
    async fn rejected_spans_are_counted_across_the_sends_of_a_batch() {
        let pipeline = Pipeline::new(Schedule { max_batch_size: 6, ..schedule() });
        for _ in 0..3 {
            pipeline.send_some(2);
        }
        pipeline.batcher.next().await.unwrap().1.delivered(3);
        let counters = &pipeline.counters;
        assert_eq!((counters.spans_exported.get(), counters.spans_rejected_by_collector.get()), (3, 3));
    }

    #[tokio::test]
    async fn a_collector_that_rejects_more_than_it_got_is_not_believed() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(2);
        pipeline.batcher.next().await.unwrap().1.delivered(u64::MAX);
        assert_eq!(pipeline.counters.spans_rejected_by_collector.get(), 2);
        assert_eq!(pipeline.counters.spans_judged(), 2);
    }

    #[tokio::test]
    async fn large_spans_make_small_batches_and_a_short_queue() {
        let pipeline = Pipeline::new(Schedule { max_queue_size: 100, max_batch_size: 100, ..schedule() });
        let service = sample::service("shop");
        let large = KeyValue::new("large", "x".repeat(REQUEST_BYTES / 2));
        let span = |id| Span { attributes: [large.clone()].into_iter().collect(), ..sample::span(id, &service) };
        for id in 0..40 {
            pipeline.send(&[span(id + 1)]);
        }
        pipeline.batcher.close();
        let mut delivered = 0;
        while let Some((request, batch)) = pipeline.batcher.next().await {
            assert!(request.len() < 2 * REQUEST_BYTES);
            delivered += batch.spans();
            batch.delivered(0);
        }
        assert_eq!(delivered, QUEUE_BYTES / (REQUEST_BYTES / 2));
        assert_eq!(pipeline.counters.spans_dropped_queue_full.get(), 40 - delivered as u64);
        assert_eq!(pipeline.counters.spans_judged(), 40);
    }

    #[test]
    fn after_the_end_nothing_is_taken() {
        let pipeline = Pipeline::new(schedule());
        pipeline.batcher.close();
        pipeline.send_some(3);
        assert_eq!(pipeline.counters.spans_dropped_export_failed.get(), 3);
    }
}
