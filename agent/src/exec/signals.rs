//! Signals that somebody sent to the agent and meant for the command.
//!
//! Those that the terminal sends (Ctrl-C, Ctrl-\, its closing) reach the command by themselves, as a process of the same
//! group: passed on, they would come twice, and many programs take the second for "at once". They only must not end
//! the agent before the command.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use signal_hook_registry::{SigId, register_sigaction, unregister};
use tokio::net::unix::pipe::{self, Receiver};

use crate::signals::is_ignored;

/// Also what service managers and people send to a server's main process: to reload, to open logs anew.
const PASSED_ON: [i32; 6] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// Catches signals from its making on; dropped, they have no effect any more.
#[derive(Debug)]
pub(super) struct Signals {
    caught: Receiver,
    actions: Vec<SigId>,
}

impl Signals {
    /// To be called in a tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let (sender, caught) = pipe::pipe()?;
        let sender = Arc::new(sender.into_nonblocking_fd()?);
        let mut signals = Self { caught, actions: Vec::with_capacity(PASSED_ON.len()) };
        // One that is ignored stays so, for the agent and, across exec, for the command: `nohup onlooker exec -- server`.
        for signal in PASSED_ON.into_iter().filter(|signal| !is_ignored(*signal)) {
            let sender = Arc::clone(&sender);
            let action = move |info: &libc::siginfo_t| {
                // Positive: the kernel's own doing, here the terminal's (sigaction(2)).
                if info.si_code <= 0 {
                    // A full pipe has signals enough.
                    let _ = rustix::io::write(sender.as_fd(), &[signal as u8]);
                }
            };
            // SAFETY: the action is async-signal-safe: it makes one system call.
            signals.actions.push(unsafe { register_sigaction(signal, action) }?);
        }
        Ok(signals)
    }

    /// The next signal to pass on. May be dropped while it waits; nothing is lost.
    pub(super) async fn next(&mut self) -> i32 {
        let mut signal = [0];
        loop {
            match self.caught.try_read(&mut signal) {
                Ok(1) => return signal[0].into(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.caught.readable().await.is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        // The pipe's other end is in the actions, which end with this.
        std::future::pending().await
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            unregister(action);
        }
    }
}
