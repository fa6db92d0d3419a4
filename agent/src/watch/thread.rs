//! The thread, and what it does when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use onlooker_common::losses::Loss;

use super::Watch;
use super::messages::{OtherRules, WatchMessage, WatchReceiver};
use crate::memory;
use crate::undecided::Verdict;

/// How often it is checked whether changes were missed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two scans of all processes. When changes are missed, the host is busy.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is checked whether processes that a port selects accept on it.
const PROMOTION_INTERVAL: Duration = Duration::from_secs(5);
/// How often selected processes are checked for having ended. The kernel reports nearly all ends.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The running thread.
#[derive(Debug)]
pub struct WatchThread {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) missed: Arc<AtomicU64>,
    /// Receives one message when the processes selected at the start are examined. Disconnected when the thread ends.
    pub(super) progress: Receiver<()>,
}

impl Watch {
    pub(super) fn run(mut self, messages: &WatchReceiver, report: &Sender<()>, verdicts: &Sender<Verdict>) {
        self.examine_unexamined();
        // This fails only if the agent has given up waiting.
        let _ = report.send(());
        memory::give_back();
        let start = Instant::now();
        let (mut next_check, mut next_scan, mut next_sweep) = (start, start, start + SWEEP_INTERVAL);
        let mut next_promotion = start + PROMOTION_INTERVAL;
        let mut overflowed = false;
        while !self.stop.load(Relaxed) {
            let due = self.callers.next_look().map_or(next_check, |caller| caller.min(next_check));
            match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(WatchMessage::ServiceRequested(pending)) => self.services.answer(&pending),
                Ok(WatchMessage::ProcessChanged(change)) => self.changed(change),
                Ok(WatchMessage::Undecided(execution)) => {
                    // This fails only when the agent ends.
                    let _ = verdicts.send(self.decide(&execution));
                }
                Ok(WatchMessage::RulesChanged | WatchMessage::PodsChanged) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(OtherRules { rules, applied }) = messages.other_rules() {
                self.apply(rules);
                // This fails only if the receiver was dropped.
                let _ = applied.send(self.selection.selected().len());
            }
            overflowed |= self.take_news_of_pods();
            let now = Instant::now();
            if self.callers.next_look().is_some_and(|due| due <= now) || self.ticks_traced && now >= next_check {
                self.look_at_callers(now);
            }
            if now < next_check {
                continue;
            }
            next_check = now + CHECK_INTERVAL;
            overflowed |= messages.overflowed();
            let lost = self.losses.count(Loss::RingFullProcess);
            if now >= next_scan && (overflowed || lost > self.losses_handled) {
                next_scan = now + SCAN_INTERVAL;
                overflowed = false;
                self.losses_handled = lost;
                self.rescan();
            }
            if now >= next_promotion {
                next_promotion = now + PROMOTION_INTERVAL;
                self.promote_children();
            }
            if now >= next_sweep {
                next_sweep = now + SWEEP_INTERVAL;
                self.sweep();
            }
        }
    }
}

impl WatchThread {
    /// How often changes were missed. After each time, all services must be requested again.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Waits until the processes that were selected at the start are examined. False if that takes longer than `within`.
    #[must_use]
    pub fn has_examined(&self, within: Duration) -> bool {
        self.progress.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }

    /// Makes the thread end after what it is doing. To be called after the sender was dropped.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether the thread ends within this time.
    #[must_use]
    pub fn has_ended(&self, within: Duration) -> bool {
        // The first message may not have been received.
        let by = Instant::now() + within;
        while self.progress.recv_timeout(by.saturating_duration_since(Instant::now())) == Ok(()) {}
        self.progress.try_recv() == Err(TryRecvError::Disconnected)
    }
}
