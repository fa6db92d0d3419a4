//! Judges every span exactly once, however many exporters it goes to and however they end.
//!
//! The spans of one [`super::Shipment`] enter the books as one [`Ticket`]; every lane (an exporter and its queue) has
//! [`Share`]s of it. A share that is dropped without a word is lost: so an aborted task or a panic cannot
//! make a span vanish from the books. With several lanes a ticket is judged by the one that lost most of it, as which
//! of the spans a collector rejected is not known: *exported* means by all of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use onlooker_engine::model::counters::Counters;

/// How many lanes there can be: OTLP, file and console.
pub(super) const LANES: usize = 3;

/// What became of a span on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Exported,
    QueueFull,
    /// Not delivered within the retries, or refused.
    Failed,
    /// The request was accepted, the span not (OTLP partial success).
    Rejected,
}

/// The books of all lanes.
#[derive(Debug)]
pub(super) struct Account {
    counters: Arc<Counters>,
    /// Spans that entered and are not judged; none once the books are closed.
    unsettled: Mutex<Option<u64>>,
}

impl Account {
    pub(super) fn open(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { counters, unsettled: Mutex::new(Some(0)) })
    }

    /// For spans that will be entered.
    pub(super) fn ticket(self: &Arc<Self>) -> Arc<Ticket> {
        Arc::new(Ticket { account: Arc::clone(self), spans: AtomicU64::new(0), lanes: Default::default() })
    }

    /// Writes off what is still on its way; what is heard of it later no longer counts.
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

/// The spans of one shipment, judged when the last share of them is gone.
#[derive(Debug)]
pub(super) struct Ticket {
    account: Arc<Account>,
    spans: AtomicU64,
    lanes: [Losses; LANES],
}

impl Ticket {
    /// Takes `spans` into the books.
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
        if let Some(worst) = self.lanes.iter().max_by_key(|lane| lane.total()) {
            self.account.settle(self.spans.load(Relaxed), worst);
        }
    }
}

/// One exporter's way out: how many spans it may hold, and does.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its place among the lanes, below [`LANES`].
    index: usize,
    limit: u64,
    held: AtomicU64,
}

impl Lane {
    pub(super) fn new(index: usize, limit: usize) -> Arc<Self> {
        assert!(index < LANES, "a lane has a place in every ticket");
        Arc::new(Self { index, limit: limit as u64, held: AtomicU64::new(0) })
    }

    /// Whether it may hold one more. Only one thread takes spans, so that is still so when it does.
    pub(super) fn has_room(&self) -> bool {
        self.held.load(Relaxed) < self.limit
    }

    /// A span of the ticket that it does not take.
    pub(super) fn refuse(&self, ticket: &Ticket, fate: Fate) {
        ticket.lanes[self.index].record(fate, 1);
    }
}

/// A lane's responsibility for some spans of a ticket. Dropped unsettled, they count as failed.
#[derive(Debug)]
pub(super) struct Share {
    ticket: Arc<Ticket>,
    lane: Arc<Lane>,
    spans: u64,
}

impl Share {
    /// Of no spans yet.
    pub(super) fn new(ticket: &Arc<Ticket>, lane: &Arc<Lane>) -> Self {
        Self { ticket: Arc::clone(ticket), lane: Arc::clone(lane), spans: 0 }
    }

    pub(super) fn is_of(&self, ticket: &Arc<Ticket>) -> bool {
        Arc::ptr_eq(&self.ticket, ticket)
    }

    pub(super) fn spans(&self) -> u64 {
        self.spans
    }

    /// Takes on one more span.
    pub(super) fn grow(&mut self) {
        self.spans += 1;
        self.lane.held.fetch_add(1, Relaxed);
    }

    /// Says what became of its spans.
    pub(super) fn settle(mut self, fate: Fate) {
        self.conclude(fate);
    }

    /// Parts with `spans` of its spans, or with all if it has fewer.
    pub(super) fn split_off(&mut self, spans: u64) -> Self {
        let spans = spans.min(self.spans);
        self.spans -= spans;
        Self { ticket: Arc::clone(&self.ticket), lane: Arc::clone(&self.lane), spans }
    }

    fn conclude(&mut self, fate: Fate) {
        let spans = std::mem::take(&mut self.spans);
        self.ticket.lanes[self.lane.index].record(fate, spans);
        self.lane.held.fetch_sub(spans, Relaxed);
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
    fn books(counters: &Counters) -> [u64; 4] {
        assert_eq!(counters.spans_made.get(), counters.spans_judged());
        [
            counters.spans_exported.get(),
            counters.spans_dropped_queue_full.get(),
            counters.spans_dropped_export_failed.get(),
            counters.spans_rejected_by_collector.get(),
        ]
    }

    fn opened() -> (Arc<Counters>, Arc<Account>) {
        let counters = Arc::new(Counters::default());
        (Arc::clone(&counters), Account::open(counters))
    }

    /// What `lane` takes of `spans` spans of the ticket.
    fn taken(lane: &Arc<Lane>, ticket: &Arc<Ticket>, spans: u64) -> Share {
        let mut share = Share::new(ticket, lane);
        for _ in 0..spans {
            if lane.has_room() {
                share.grow();
            } else {
                lane.refuse(ticket, Fate::QueueFull);
            }
        }
        share
    }

    fn entered(account: &Arc<Account>, spans: u64) -> Arc<Ticket> {
        let ticket = account.ticket();
        ticket.enter(spans);
        ticket
    }

    #[test]
    fn a_share_that_vanishes_is_a_loss() {
        let (counters, account) = opened();
        let mut share = taken(&Lane::new(0, 100), &entered(&account, 10), 10);
        share.split_off(7).settle(Fate::Exported);
        drop(share);
        assert_eq!(books(&counters), [7, 0, 3, 0]);
    }

    #[test]
    fn the_lane_that_lost_most_judges() {
        let (counters, account) = opened();
        let ticket = entered(&account, 10);
        let mut at_collector = taken(&Lane::new(0, 100), &ticket, 10);
        let on_console = taken(&Lane::new(1, 4), &ticket, 10);
        drop(ticket);
        at_collector.split_off(2).settle(Fate::Rejected);
        at_collector.settle(Fate::Exported);
        assert_eq!(counters.spans_judged(), 0, "judged when the last lane is done");
        on_console.settle(Fate::Exported);
        assert_eq!(books(&counters), [4, 6, 0, 0]);
    }

    #[test]
    fn a_ticket_is_judged_no_sooner_than_it_is_complete() {
        let (counters, account) = opened();
        let ticket = account.ticket();
        taken(&Lane::new(0, 100), &ticket, 3).settle(Fate::Exported);
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (0, 0), "more may come");
        ticket.enter(3);
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (3, 0));
        drop(ticket);
        assert_eq!(books(&counters), [3, 0, 0, 0]);
    }

    #[test]
    fn room_comes_back_when_spans_are_done_with() {
        let (counters, account) = opened();
        let lane = Lane::new(2, 4);
        let first = taken(&lane, &entered(&account, 3), 3);
        let second = taken(&lane, &entered(&account, 3), 3);
        assert_eq!((first.spans(), second.spans()), (3, 1));
        first.settle(Fate::Exported);
        let third = taken(&lane, &entered(&account, 3), 3);
        assert_eq!(third.spans(), 3);
        third.settle(Fate::Exported);
        second.settle(Fate::Exported);
        assert_eq!(books(&counters), [7, 2, 0, 0]);
    }

    #[test]
    fn what_ends_after_the_books_are_closed_is_not_counted_twice() {
        let (counters, account) = opened();
        let share = taken(&Lane::new(0, 100), &entered(&account, 5), 5);
        account.close();
        share.settle(Fate::Exported);
        assert_eq!(books(&counters), [0, 0, 5, 0]);
        drop(entered(&account, 1));
        assert_eq!(books(&counters), [0, 0, 6, 0]);
    }

    #[test]
    fn without_exporters_all_of_them_have_it() {
        let (counters, account) = opened();
        drop(entered(&account, 5));
        assert_eq!(books(&counters), [5, 0, 0, 0]);
    }
}
