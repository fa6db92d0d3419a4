//! Waiting for something to be so, with a deadline and a name for what did not come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Between two looks. Short beside everything that is waited for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The moment after which waiting has failed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    patience: Duration,
    despite_signals: bool,
}

/// A deadline `patience` from now.
#[must_use]
pub fn within(patience: Duration) -> Deadline {
    Deadline { start: Instant::now(), patience, despite_signals: false }
}

impl Deadline {
    /// Goes on waiting when a signal asks this process to end: for clearing up, which is what it then has to do.
    pub(crate) fn despite_signals(self) -> Self {
        Self { despite_signals: true, ..self }
    }
}

/// Looks until `look` finds something, and returns it.
///
/// Fails when `look` does, when the deadline passes ("no `what` within 5 s"), and when a signal asked this process to end.
pub fn until<T>(deadline: Deadline, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if !deadline.despite_signals && interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if deadline.start.elapsed() >= deadline.patience {
            bail!("no {what} within {:?}", deadline.patience);
        }
        thread::sleep(PAUSE);
    }
}

/// From now on SIGINT and SIGTERM make waiting fail in place of killing the process, so that what was started is stopped.
pub fn heed_signals() -> Result<()> {
    extern "C" fn remember(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler stores to an atomic, which is async-signal-safe, and stays valid for the process's life.
        let previous = unsafe { libc::signal(signal, remember as *const () as libc::sighandler_t) };
        if previous == libc::SIG_ERR {
            return Err(std::io::Error::last_os_error()).context("cannot handle SIGINT and SIGTERM");
        }
    }
    Ok(())
}

/// Whether a signal has asked this process to end.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{until, within};

    #[test]
    fn what_did_not_come_is_named() {
        let error = until::<()>(within(Duration::ZERO), "answer", || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0ns");
    }

    #[test]
    fn what_is_there_is_found_even_without_patience() {
        assert_eq!(until(within(Duration::ZERO), "answer", || Ok(Some(42))).unwrap(), 42);
    }
}
