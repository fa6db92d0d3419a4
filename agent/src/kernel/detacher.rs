//! Detaches programs from functions, many at once.
//!
//! Closing a link waits until no processor executes its program, which takes 100 to 300 ms. Links that are closed at the same
//! time wait together.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

/// How long links are collected before they are closed. If the agent ends meanwhile, it does not wait for them.
const COLLECTED_FOR: Duration = Duration::from_millis(100);

/// How many links are closed at once.
const AT_ONCE: usize = 32;

/// How many links may wait. Nothing is attached while there are more.
const MOST_WAITING: usize = 1000;

/// A thread that closes links: it drops them.
#[derive(Debug)]
pub(super) struct Detacher<Link> {
    /// `None`: there is no thread, and links are closed where they are no longer needed.
    sender: Option<Sender<Link>>,
    waiting: Arc<AtomicUsize>,
}

impl<Link: Send + 'static> Detacher<Link> {
    pub(super) fn start() -> Self {
        let (sender, links) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("detach".to_owned()).spawn(move || close_all(&links, &left));
        Self { sender: thread.is_ok().then_some(sender), waiting }
    }

    pub(super) fn detach(&self, links: Vec<Link>) {
        let Some(sender) = &self.sender else { return };
        for link in links {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            // The thread ends only after the last sender.
            let _ = sender.send(link);
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MOST_WAITING
    }
}

/// Closes what is sent, until all senders are dropped.
fn close_all<Link: Send>(links: &Receiver<Link>, waiting: &AtomicUsize) {
    while let Ok(first) = links.recv() {
        thread::sleep(COLLECTED_FOR);
        let mut batch = vec![first];
        while batch.len() < AT_ONCE {
            match links.try_recv() {
                Ok(link) => batch.push(link),
                Err(TryRecvError::Empty) => break,
                // The agent is ending: see `crate::detach`.
                Err(TryRecvError::Disconnected) => return mem::forget(batch),
            }
        }
        let count = batch.len();
        thread::scope(|scope| {
            for link in batch {
                // Without a thread the link is closed here.
                let _ = thread::Builder::new().spawn_scoped(scope, move || drop(link));
            }
        });
        waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Takes as long to close as a link.
    struct Slow(Sender<()>);

    const CLOSED_WITHIN: Duration = Duration::from_millis(200);

    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(CLOSED_WITHIN);
            let _ = self.0.send(());
        }
    }

    #[test]
    fn links_are_closed_at_the_same_time() {
        let detacher = Detacher::start();
        let (closed, closes) = mpsc::channel();
        let begin = Instant::now();
        detacher.detach((0..AT_ONCE).map(|_| Slow(closed.clone())).collect());
        assert_eq!(closes.iter().take(AT_ONCE).count(), AT_ONCE);
        let one_after_the_other = CLOSED_WITHIN * u32::try_from(AT_ONCE).unwrap();
        assert!(begin.elapsed() < one_after_the_other / 2, "{:?}", begin.elapsed());
    }

    #[test]
    fn links_that_wait_when_the_agent_ends_are_left_to_others() {
        let detacher = Detacher::start();
        let (closed, closes) = mpsc::channel();
        detacher.detach(vec![Slow(closed)]);
        drop(detacher);
        assert!(closes.recv_timeout(COLLECTED_FOR + 2 * CLOSED_WITHIN).is_err());
    }
}
