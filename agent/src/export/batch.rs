//! Collects encoded spans into requests. A full request is sent at once, others after the schedule delay.
//!
//! [`Batcher::put`] runs on the pipeline's thread and encodes there, while the span is in the cache. So what waits for a
//! slow collector is bytes, bounded by count and by size. [`Batcher::next`] runs on the sink's thread, which sleeps while
//! there is nothing to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::account::{Fate, Share, SinkQueue, Ticket};
use super::buffers::Buffers;
use super::encode::RequestEncoder;
use super::settings::Schedule;
use onlooker_engine::model::sink::{Finished, Sink};
use onlooker_engine::model::span::Span;

/// A request is complete when its spans have this size. The Collector's gRPC receiver accepts 4 MiB by default, and the
/// resources are added.
const REQUEST_BYTES: usize = 2 << 20;

/// How many bytes may wait, also when spans are much larger than usual (about 500 bytes). The default queue of 65,536
/// spans reaches it with spans of 512 bytes.
const QUEUE_BYTES: usize = 32 << 20;

/// A queue of OTLP requests.
#[derive(Debug)]
pub(super) struct Batcher {
    queue: Arc<SinkQueue>,
    schedule: Schedule,
    buffers: Arc<Buffers>,
    /// Size of all requests that are not delivered or given up, including those being sent.
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

/// A request that spans are added to.
#[derive(Debug)]
struct Open {
    encoder: RequestEncoder,
    batch: Batch,
    since: Instant,
}

impl Batcher {
    pub(super) fn new(queue: Arc<SinkQueue>, schedule: Schedule) -> Arc<Self> {
        Arc::new(Self {
            queue,
            schedule,
            buffers: Arc::default(),
            bytes: Arc::default(),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Adds a span of the ticket, if there is room.
    pub(super) fn put(&self, ticket: &Arc<Ticket>, span: &Span) {
        let mut state = self.state();
        if state.closed {
            return self.queue.refuse(ticket, Fate::Failed);
        }
        if !self.queue.has_room() || self.bytes.load(Relaxed) >= QUEUE_BYTES {
            return self.queue.refuse(ticket, Fate::QueueFull);
        }
        let mut wake = state.open.is_none();
        let open = state.open.get_or_insert_with(|| self.open());
        open.encoder.push(span);
        open.batch.add(ticket, &self.queue, open.encoder.bytes());
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
        Open { encoder: RequestEncoder::new(Arc::clone(&self.buffers)), batch, since: Instant::now() }
    }

    /// The next request that is full or has waited long enough, with its spans. `None` when closed and empty.
    pub(super) async fn next(&self) -> Option<(Bytes, Batch)> {
        let Open { encoder, batch, .. } = self.due().await?;
        Some((encoder.finish(), batch))
    }

    async fn due(&self) -> Option<Open> {
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
            // `Notify` keeps a permit, so a change since the check above is not missed.
            match due {
                Some(due) => drop(timeout_at(due, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Refuses further spans. What it holds is due now.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The spans of one request. Dropped undelivered, they count as failed.
#[derive(Debug)]
pub(super) struct Batch {
    spans: usize,
    shares: Vec<Share>,
    /// Its part of the bytes that the batcher holds.
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Batch {
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// Adds a span, with which the request has `bytes`.
    fn add(&mut self, ticket: &Arc<Ticket>, queue: &Arc<SinkQueue>, bytes: usize) {
        if !self.shares.last().is_some_and(|share| share.is_of(ticket)) {
            self.shares.push(Share::new(ticket, queue));
        }
        if let Some(share) = self.shares.last_mut() {
            share.grow();
        }
        self.spans += 1;
        self.held.fetch_add(bytes - self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// The receiver has the request, and accepted all but `rejected` of its spans.
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

/// The sink that fills a batcher, and closes it at its end.
#[derive(Debug)]
pub(super) struct BatchSink(pub(super) Arc<Batcher>);

impl Sink<Arc<Ticket>> for BatchSink {
    fn put(&self, Finished { span, .. }: Finished<'_>, ticket: &Arc<Ticket>) {
        self.0.put(ticket, span);
    }
}

impl Drop for BatchSink {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            let mut account = Account::new(Arc::clone(&counters));
            let queue = account.open_queue(schedule.max_queue_size);
            Self { counters, account: Arc::new(account), batcher: Batcher::new(queue, schedule) }
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
    async fn a_full_request_is_sent_at_once_and_the_rest_at_the_end() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(5);
        assert_eq!([pipeline.deliver().await, pipeline.deliver().await], [2, 2]);
        pipeline.batcher.close();
        assert_eq!(pipeline.batcher.next().await.unwrap().1.spans(), 1, "dropped here, so it is not exported");
        assert!(pipeline.batcher.next().await.is_none());
        assert_eq!(
            (pipeline.counters.spans_exported.get(), pipeline.counters.spans_dropped_export_failed.get()),
            (4, 1)
        );
    }

    #[tokio::test]
    async fn a_span_waits_for_the_delay_and_not_longer() {
        let pipeline = Arc::new(Pipeline::new(Schedule { delay: Duration::from_millis(20), ..schedule() }));
        let batcher = Arc::clone(&pipeline.batcher);
        let waiting = tokio::spawn(async move { batcher.next().await.unwrap().1.spans() });
        let sent = Instant::now();
        pipeline.send_some(1);
        assert_eq!(waiting.await.unwrap(), 1);
        assert!(sent.elapsed() >= Duration::from_millis(20), "it waited for others");
    }

    #[tokio::test]
    async fn spans_beyond_the_limit_are_counted_until_there_is_room() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(12);
        assert_eq!(pipeline.counters.spans_judged(), 0, "counted together with those that are not delivered yet");
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
    async fn rejected_spans_are_counted_across_tickets() {
        let pipeline = Pipeline::new(Schedule { max_batch_size: 6, ..schedule() });
        for _ in 0..3 {
            pipeline.send_some(2);
        }
        pipeline.batcher.next().await.unwrap().1.delivered(3);
        let counters = &pipeline.counters;
        assert_eq!((counters.spans_exported.get(), counters.spans_rejected_by_collector.get()), (3, 3));
    }

    #[tokio::test]
    async fn a_collector_cannot_reject_more_spans_than_it_got() {
        let pipeline = Pipeline::new(schedule());
        pipeline.send_some(2);
        pipeline.batcher.next().await.unwrap().1.delivered(u64::MAX);
        assert_eq!(pipeline.counters.spans_rejected_by_collector.get(), 2);
        assert_eq!(pipeline.counters.spans_judged(), 2);
    }

    #[tokio::test]
    async fn large_spans_make_requests_and_the_queue_shorter() {
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
    fn a_closed_batcher_takes_no_spans() {
        let pipeline = Pipeline::new(schedule());
        pipeline.batcher.close();
        pipeline.send_some(3);
        assert_eq!(pipeline.counters.spans_dropped_export_failed.get(), 3);
    }
}
