//! Waits for conditions with a deadline. The error names what did not happen.

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Pause between two checks: short compared with what is waited for, long compared with the cost of a check.
const PAUSE: Duration = Duration::from_millis(5);

/// The variable with a whole number that every deadline is multiplied by, for slow machines such as emulated ones.
pub const PATIENCE_FACTOR: &str = "ONLOOKER_PATIENCE_FACTOR";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A moment after which waiting fails.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    patience: Duration,
    ignores_signals: bool,
}

/// Creates a deadline `patience` from now, or a multiple of it on a slow machine.
#[must_use]
pub fn within(patience: Duration) -> Deadline {
    static FACTOR: LazyLock<u32> =
        LazyLock::new(|| env::var(PATIENCE_FACTOR).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1));
    Deadline { start: Instant::now(), patience: patience * *FACTOR, ignores_signals: false }
}

impl Deadline {
    /// Keeps waiting when a signal asks this process to end. For clean-up, which must happen then.
    pub(crate) fn ignoring_signals(self) -> Self {
        Self { ignores_signals: true, ..self }
    }
}

/// Calls `check` until it returns a value, and returns that.
///
/// Fails if `check` fails, if the deadline passes ("no `what` within 5 s"), or if a signal asked this process to end.
pub fn until<T>(deadline: Deadline, what: &str, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(found) = check()? {
            return Ok(found);
        }
        if !deadline.ignores_signals && interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if deadline.start.elapsed() >= deadline.patience {
            bail!("no {what} within {:?}", deadline.patience);
        }
        thread::sleep(PAUSE);
    }
}

/// Makes SIGINT and SIGTERM fail the waiting functions instead of killing this process, so that it stops what it started.
pub fn handle_signals() -> Result<()> {
    extern "C" fn remember(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe, and it is a function of this process.
        let previous = unsafe { libc::signal(signal, remember as *const () as libc::sighandler_t) };
        if previous == libc::SIG_ERR {
            return Err(std::io::Error::last_os_error()).context("cannot handle SIGINT and SIGTERM");
        }
    }
    Ok(())
}

/// Returns whether a signal has asked this process to end.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{until, within};

    #[test]
    fn a_timeout_names_what_did_not_happen() {
        let error = until::<()>(within(Duration::ZERO), "answer", || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0ns");
    }

    #[test]
    fn a_condition_that_holds_is_found_without_patience() {
        assert_eq!(until(within(Duration::ZERO), "answer", || Ok(Some(42))).unwrap(), 42);
    }
}
