//! The queue to the thread that follows processes. It is bounded, and the sender never waits.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onlooker_common::process::Execution;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::PendingService;
use tokio::sync::oneshot;

use crate::discover::select::Selectors;

/// How many messages may wait, of 48 bytes each. A build on many cores starts as many processes in two seconds.
const CAPACITY: usize = 8192;

/// A change of a process that the kernel reported.
#[derive(Debug, Clone, Copy)]
pub struct LifecycleChange {
    /// One of `onlooker_common`'s `lifecycle` constants.
    pub change: u32,
    pub tgid: u32,
    /// Depends on `change`, such as the child of a fork.
    pub other: u32,
}

#[derive(Debug)]
pub(super) enum WatchMessage {
    ProcessChanged(LifecycleChange),
    ServiceRequested(PendingService),
    /// A process whose records wait until it is known whether it is selected.
    Undecided(Box<Execution>),
    /// There are other rules.
    RulesChanged,
    /// There is news about pods.
    PodsChanged,
}

/// Rules to apply, and where to say that they are.
#[derive(Debug)]
pub(super) struct OtherRules {
    pub(super) rules: Selectors,
    pub(super) applied: oneshot::Sender<usize>,
}

/// The sending end.
#[derive(Debug)]
pub struct WatchSender {
    sender: Arc<SyncSender<WatchMessage>>,
    rules: Arc<Mutex<Option<OtherRules>>>,
    overflowed: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

/// The receiving end. It is disconnected when the sender is dropped.
#[derive(Debug)]
pub(super) struct WatchReceiver {
    messages: Receiver<WatchMessage>,
    /// Rules that are not applied yet. They are no message, because there may be no room for one.
    rules: Arc<Mutex<Option<OtherRules>>>,
    overflowed: Arc<AtomicBool>,
}

pub(super) fn channel(counters: Arc<Counters>) -> (WatchSender, WatchReceiver) {
    let (sender, messages) = sync_channel(CAPACITY);
    let overflowed = Arc::new(AtomicBool::new(false));
    let rules = Arc::<Mutex<Option<OtherRules>>>::default();
    let sender = WatchSender {
        sender: Arc::new(sender),
        rules: Arc::clone(&rules),
        overflowed: Arc::clone(&overflowed),
        counters,
    };
    (sender, WatchReceiver { messages, rules, overflowed })
}

impl WatchSender {
    /// Sends a change. If there is no room it is counted, and a later scan of all processes makes up for it.
    pub fn process_changed(&self, change: LifecycleChange) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(WatchMessage::ProcessChanged(change)) {
            self.counters.process_changes_missed.add(1);
            self.overflowed.store(true, Relaxed);
        }
    }

    /// Requests the decision about a process. False if there is no room; a later scan makes up for it.
    #[must_use]
    pub fn request_decision(&self, execution: &Execution) -> bool {
        let sent = self.sender.try_send(WatchMessage::Undecided(Box::new(*execution))).is_ok();
        if !sent {
            self.counters.process_changes_missed.add(1);
            self.overflowed.store(true, Relaxed);
        }
        sent
    }

    /// Applies other rules, within a second. Returns the place where it is said how many processes are selected then. It is closed
    /// if still others come first.
    pub fn apply(&self, rules: Selectors) -> oneshot::Receiver<usize> {
        let (applied, notice) = oneshot::channel();
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(OtherRules { rules, applied });
        // Without room for it, the thread is awake and looks by itself.
        let _ = self.sender.try_send(WatchMessage::RulesChanged);
        notice
    }

    /// Wakes the thread when there is news about pods. It does not keep the queue open.
    pub(super) fn wake_for_pods(&self) -> impl Fn() + Send + Sync + 'static {
        let sender = Arc::downgrade(&self.sender);
        move || {
            if let Some(sender) = sender.upgrade() {
                // Without room for it, the thread is awake and looks by itself.
                let _ = sender.try_send(WatchMessage::PodsChanged);
            }
        }
    }

    /// Requests the service of a process. False if there is no room.
    #[must_use]
    pub fn request_service(&self, pending: PendingService) -> bool {
        self.sender.try_send(WatchMessage::ServiceRequested(pending)).is_ok()
    }
}

impl WatchReceiver {
    /// The next message, if one comes within `timeout`.
    pub(super) fn recv_timeout(&self, timeout: Duration) -> Result<WatchMessage, RecvTimeoutError> {
        self.messages.recv_timeout(timeout)
    }

    /// Rules that were not applied yet.
    pub(super) fn other_rules(&self) -> Option<OtherRules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether changes were missed since the last call.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_without_room_is_counted_and_the_sender_does_not_wait() {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = channel(Arc::clone(&counters));
        let change = LifecycleChange { change: 1, tgid: 7, other: 0 };
        for _ in 0..CAPACITY {
            sender.process_changed(change);
        }
        assert!(!receiver.overflowed() && counters.process_changes_missed.get() == 0);
        sender.process_changed(change);
        sender.process_changed(change);
        assert_eq!(counters.process_changes_missed.get(), 2);
        assert!(receiver.overflowed() && !receiver.overflowed());
        drop(receiver);
        sender.process_changed(change);
        assert_eq!(counters.process_changes_missed.get(), 2, "after the end nothing is missed");
    }
}
