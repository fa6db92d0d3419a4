//! Counts every span exactly once, however many sinks it goes to and however they end.
//!
//! The spans of one [`super::Shipment`] are counted together, as one [`Ticket`]. Each sink's [`SinkQueue`] has [`Share`]s of
//! the ticket. A share that is dropped without a word counts as failed, so an aborted task or a panic cannot make a span
//! vanish. With several sinks, the one that lost most of a ticket decides: which of its spans a collector rejected is
//! unknown. *Exported* means by all of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use onlooker_engine::model::counters::Counters;

/// What happened to a span in one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Exported,
    QueueFull,
    /// Refused, or not delivered within the retries.
    Failed,
    /// The request was accepted, but not this span (OTLP partial success).
    Rejected,
}

/// The accounting of all sinks.
#[derive(Debug)]
pub(super) struct Account {
    counters: Arc<Counters>,
    queues: usize,
    /// Spans that were entered and have no fate yet. None once the account is closed.
    unsettled: Mutex<Option<u64>>,
}

impl Account {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, queues: 0, unsettled: Mutex::new(Some(0)) }
    }

    /// Opens the queue of one more sink. All are opened before the account is shared, so every ticket has a place for
    /// each.
    pub(super) fn open_queue(&mut self, limit: usize) -> Arc<SinkQueue> {
        let index = self.queues;
        self.queues += 1;
        Arc::new(SinkQueue { index, limit: limit as u64, held: AtomicU64::new(0) })
    }

    /// A ticket for spans that will be entered.
    pub(super) fn ticket(self: &Arc<Self>) -> Arc<Ticket> {
        let losses = (0..self.queues).map(|_| Losses::default()).collect();
        Arc::new(Ticket { account: Arc::clone(self), spans: AtomicU64::new(0), losses })
    }

    /// Counts all unsettled spans as failed. What is reported about them later does not count.
    pub(super) fn close(&self) {
        let left = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.counters.spans_dropped_export_failed.add(left.unwrap_or(0));
    }

    fn settle(&self, spans: u64, lost: &Losses) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unsettled) = &mut *unsettled else { return };
        *unsettled -= spans;
        self.counters.spans_exported.add(spans - lost.total());
        self.counters.spans_dropped_queue_full.add(lost.queue_full.load(Relaxed));
        self.counters.spans_dropped_export_failed.add(lost.failed.load(Relaxed));
        self.counters.spans_rejected_by_collector.add(lost.rejected.load(Relaxed));
    }
}

/// The spans of one shipment. They are counted when the last share of them is gone.
#[derive(Debug)]
pub(super) struct Ticket {
    account: Arc<Account>,
    spans: AtomicU64,
    /// Per queue.
    losses: Box<[Losses]>,
}

impl Ticket {
    /// Enters `spans` into the account.
    pub(super) fn enter(&self, spans: u64) {
        self.spans.fetch_add(spans, Relaxed);
        let counters = &self.account.counters;
        counters.spans_made.add(spans);
        match &mut *self.account.unsettled.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(unsettled) => *unsettled += spans,
            None => counters.spans_dropped_export_failed.add(spans),
        }
    }
}

#[derive(Debug, Default)]
struct Losses {
    queue_full: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

impl Losses {
    fn record(&self, fate: Fate, spans: u64) {
        let counter = match fate {
            Fate::Exported => return,
            Fate::QueueFull => &self.queue_full,
            Fate::Failed => &self.failed,
            Fate::Rejected => &self.rejected,
        };
        counter.fetch_add(spans, Relaxed);
    }

    fn total(&self) -> u64 {
        self.queue_full.load(Relaxed) + self.failed.load(Relaxed) + self.rejected.load(Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let none = Losses::default();
        let most = self.losses.iter().max_by_key(|losses| losses.total()).unwrap_or(&none);
        self.account.settle(self.spans.load(Relaxed), most);
    }
}

/// How many spans one sink may hold, and holds.
#[derive(Debug)]
pub(super) struct SinkQueue {
    /// Its place in every ticket.
    index: usize,
    limit: u64,
    held: AtomicU64,
}

impl SinkQueue {
    /// Whether it may hold one more. Only one thread adds spans, so this stays true until it does.
    pub(super) fn has_room(&self) -> bool {
        self.held.load(Relaxed) < self.limit
    }

    /// Records the fate of a span of the ticket that the sink does not take.
    pub(super) fn refuse(&self, ticket: &Ticket, fate: Fate) {
        ticket.losses[self.index].record(fate, 1);
    }
}

/// A sink's responsibility for some spans of a ticket. Dropped unsettled, they count as failed.
#[derive(Debug)]
pub(super) struct Share {
    ticket: Arc<Ticket>,
    queue: Arc<SinkQueue>,
    spans: u64,
}

impl Share {
    /// A share of no spans yet.
    pub(super) fn new(ticket: &Arc<Ticket>, queue: &Arc<SinkQueue>) -> Self {
        Self { ticket: Arc::clone(ticket), queue: Arc::clone(queue), spans: 0 }
    }

    pub(super) fn is_of(&self, ticket: &Arc<Ticket>) -> bool {
        Arc::ptr_eq(&self.ticket, ticket)
    }

    pub(super) fn spans(&self) -> u64 {
        self.spans
    }

    /// Adds one span.
    pub(super) fn grow(&mut self) {
        self.spans += 1;
        self.queue.held.fetch_add(1, Relaxed);
    }

    /// Records the fate of its spans.
    pub(super) fn settle(mut self, fate: Fate) {
        self.conclude(fate);
    }

    /// Gives away `spans` of its spans, or all if it has fewer.
    pub(super) fn split_off(&mut self, spans: u64) -> Self {
        let spans = spans.min(self.spans);
        self.spans -= spans;
        Self { ticket: Arc::clone(&self.ticket), queue: Arc::clone(&self.queue), spans }
    }

    fn conclude(&mut self, fate: Fate) {
        let spans = std::mem::take(&mut self.spans);
        self.ticket.losses[self.queue.index].record(fate, spans);
        self.queue.held.fetch_sub(spans, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.conclude(Fate::Failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exported, queue full, failed, rejected.
    fn counted(counters: &Counters) -> [u64; 4] {
        assert_eq!(counters.spans_made.get(), counters.spans_judged());
        [
            counters.spans_exported.get(),
            counters.spans_dropped_queue_full.get(),
            counters.spans_dropped_export_failed.get(),
            counters.spans_rejected_by_collector.get(),
        ]
    }

    /// An account with one queue per limit.
    fn open(limits: &[usize]) -> (Arc<Counters>, Arc<Account>, Vec<Arc<SinkQueue>>) {
        let counters = Arc::new(Counters::default());
        let mut account = Account::new(Arc::clone(&counters));
        let queues = limits.iter().map(|limit| account.open_queue(*limit)).collect();
        (counters, Arc::new(account), queues)
    }

    /// What `queue` takes of `spans` spans of the ticket.
    fn take(queue: &Arc<SinkQueue>, ticket: &Arc<Ticket>, spans: u64) -> Share {
        let mut share = Share::new(ticket, queue);
        for _ in 0..spans {
            if queue.has_room() {
                share.grow();
            } else {
                queue.refuse(ticket, Fate::QueueFull);
            }
        }
        share
    }

    fn enter(account: &Arc<Account>, spans: u64) -> Arc<Ticket> {
        let ticket = account.ticket();
        ticket.enter(spans);
        ticket
    }

    #[test]
    fn a_dropped_share_counts_as_failed() {
        let (counters, account, queues) = open(&[100]);
        let mut share = take(&queues[0], &enter(&account, 10), 10);
        share.split_off(7).settle(Fate::Exported);
        drop(share);
        assert_eq!(counted(&counters), [7, 0, 3, 0]);
    }

    #[test]
    fn the_sink_that_lost_most_decides() {
        let (counters, account, queues) = open(&[100, 4]);
        let ticket = enter(&account, 10);
        let mut at_collector = take(&queues[0], &ticket, 10);
        let on_console = take(&queues[1], &ticket, 10);
        drop(ticket);
        at_collector.split_off(2).settle(Fate::Rejected);
        at_collector.settle(Fate::Exported);
        assert_eq!(counters.spans_judged(), 0, "counted when the last sink is done");
        on_console.settle(Fate::Exported);
        assert_eq!(counted(&counters), [4, 6, 0, 0]);
    }

    #[test]
    fn a_ticket_is_counted_only_when_it_is_complete() {
        let (counters, account, queues) = open(&[100]);
        let ticket = account.ticket();
        take(&queues[0], &ticket, 3).settle(Fate::Exported);
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (0, 0), "more may come");
        ticket.enter(3);
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (3, 0));
        drop(ticket);
        assert_eq!(counted(&counters), [3, 0, 0, 0]);
    }

    #[test]
    fn settled_spans_make_room_in_their_queue() {
        let (counters, account, queues) = open(&[4]);
        let queue = &queues[0];
        let first = take(queue, &enter(&account, 3), 3);
        let second = take(queue, &enter(&account, 3), 3);
        assert_eq!((first.spans(), second.spans()), (3, 1));
        first.settle(Fate::Exported);
        let third = take(queue, &enter(&account, 3), 3);
        assert_eq!(third.spans(), 3);
        third.settle(Fate::Exported);
        second.settle(Fate::Exported);
        assert_eq!(counted(&counters), [7, 2, 0, 0]);
    }

    #[test]
    fn spans_that_end_after_the_account_is_closed_are_not_counted_twice() {
        let (counters, account, queues) = open(&[100]);
        let share = take(&queues[0], &enter(&account, 5), 5);
        account.close();
        share.settle(Fate::Exported);
        assert_eq!(counted(&counters), [0, 0, 5, 0]);
        drop(enter(&account, 1));
        assert_eq!(counted(&counters), [0, 0, 6, 0]);
    }

    #[test]
    fn without_sinks_every_span_counts_as_exported() {
        let (counters, account, _) = open(&[]);
        drop(enter(&account, 5));
        assert_eq!(counted(&counters), [5, 0, 0, 0]);
    }
}
