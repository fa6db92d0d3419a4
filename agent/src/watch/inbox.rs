//! The way to the thread that follows processes: bounded, and never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::PendingService;

/// What may wait to be looked at: the processes that a build on many cores starts in two seconds. 48 bytes each.
const CAPACITY: usize = 8192;

/// A change of a process that the kernel told of.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub change: u32,
    pub tgid: u32,
    pub other: u32,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Told {
    Changed(Change),
    Asked(PendingService),
}

/// The sending end.
#[derive(Debug)]
pub struct Inbox {
    sender: SyncSender<Told>,
    overflowed: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

/// The receiving end. When the senders are gone, it hangs up.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) told: Receiver<Told>,
    overflowed: Arc<AtomicBool>,
}

pub(super) fn open(counters: Arc<Counters>) -> (Inbox, Incoming) {
    let (sender, told) = sync_channel(CAPACITY);
    let overflowed = Arc::new(AtomicBool::new(false));
    (Inbox { sender, overflowed: Arc::clone(&overflowed), counters }, Incoming { told, overflowed })
}

impl Inbox {
    /// Tells of a change. One that there is no room for is counted, and what came of it is looked for later.
    pub fn changed(&self, change: Change) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Told::Changed(change)) {
            self.counters.process_changes_missed.add(1);
            self.overflowed.store(true, Relaxed);
        }
    }

    /// Asks whose the spans of a process are. Gives whether there was room for the question.
    #[must_use]
    pub fn ask(&self, whose: PendingService) -> bool {
        self.sender.try_send(Told::Asked(whose)).is_ok()
    }
}

impl Incoming {
    /// Whether changes were missed since this was asked last.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_nobody_waits() {
        let counters = Arc::new(Counters::default());
        let (inbox, incoming) = open(Arc::clone(&counters));
        let change = Change { change: 1, tgid: 7, other: 0 };
        for _ in 0..CAPACITY {
            inbox.changed(change);
        }
        assert!(!incoming.overflowed() && counters.process_changes_missed.get() == 0);
        inbox.changed(change);
        inbox.changed(change);
        assert_eq!(counters.process_changes_missed.get(), 2);
        assert!(incoming.overflowed() && !incoming.overflowed());
        drop(incoming);
        inbox.changed(change);
        assert_eq!(counters.process_changes_missed.get(), 2, "at the end nobody misses anything");
    }
}
