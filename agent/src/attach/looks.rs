//! Processes that a thread looks at again later, between its messages.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) tgid: u32,
    /// How many looks came before.
    pub(super) before: u32,
    due: Instant,
}

impl Look {
    /// The first look, which is due at once.
    pub(super) fn first(tgid: u32) -> Self {
        Self { tgid, before: 0, due: Instant::now() }
    }
}

/// Looks that are not due yet.
#[derive(Debug, Default)]
pub(super) struct Looks {
    queue: VecDeque<Look>,
}

impl Looks {
    pub(super) fn add(&mut self, look: Look) {
        self.queue.push_back(look);
    }

    /// Looks again after a pause at a process that was looked at `before` times before this time.
    pub(super) fn again(&mut self, tgid: u32, before: u32, pause: Duration) {
        self.add(Look { tgid, before: before + 1, due: Instant::now() + pause });
    }

    /// Does not look at the process any more.
    pub(super) fn remove(&mut self, tgid: u32) {
        self.queue.retain(|look| look.tgid != tgid);
    }

    pub(super) fn contains(&self, tgid: u32) -> bool {
        self.queue.iter().any(|look| look.tgid == tgid)
    }

    /// Waits for the next message. Returns `None` when a look is due before.
    ///
    /// # Errors
    /// If no more messages come.
    pub(super) fn receive<T>(&self, messages: &Receiver<T>) -> Result<Option<T>, RecvError> {
        let Some(due) = self.queue.iter().map(|look| look.due).min() else { return messages.recv().map(Some) };
        match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// Takes a look that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Look> {
        let at = self.queue.iter().position(|look| look.due <= now)?;
        self.queue.remove(at)
    }
}

/// A pause that doubles with each look that came before, up to the longest.
pub(super) fn doubling(first: Duration, before: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(before)).min(longest)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn looks_are_taken_when_they_are_due_and_messages_come_first() {
        let mut looks = Looks::default();
        let (sender, messages) = mpsc::channel();
        sender.send("message").unwrap();
        assert_eq!(looks.receive(&messages), Ok(Some("message")));
        let first = Look::first(1);
        looks.add(first);
        looks.again(2, 4, Duration::from_secs(3600));
        assert_eq!(looks.receive(&messages), Ok(None));
        let now = Instant::now();
        assert_eq!(looks.take_due(now), Some(first));
        assert_eq!(looks.take_due(now), None);
        let later = looks.take_due(now + Duration::from_secs(7200));
        assert_eq!(later.map(|look| (look.tgid, look.before)), Some((2, 5)));
        drop(sender);
        assert_eq!(looks.receive(&messages), Err(RecvError));
    }

    #[test]
    fn a_process_that_has_ended_is_not_looked_at() {
        let mut looks = Looks::default();
        looks.add(Look::first(1));
        looks.again(1, 0, Duration::ZERO);
        looks.add(Look::first(2));
        looks.remove(1);
        assert_eq!((looks.contains(1), looks.contains(2)), (false, true));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |before| doubling(Duration::from_millis(20), before, Duration::from_millis(200)).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 1000].map(pause), [20, 40, 80, 160, 200, 200]);
    }
}
