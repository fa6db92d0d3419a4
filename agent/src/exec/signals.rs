//! Forwards signals that were sent to the agent to the command.
//!
//! Signals of the terminal (Ctrl-C, Ctrl-\, its closing) are not forwarded. They reach the command too, because it is in
//! the same process group, and many programs end at once when a signal arrives twice. They only must not end the agent
//! before the command.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use signal_hook_registry::{SigId, register_sigaction, unregister};
use tokio::net::unix::pipe::{self, Receiver};

use crate::signals::is_ignored;

/// Includes those that make servers reload their configuration or reopen their logs.
const FORWARDED: [i32; 6] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// Catches signals until it is dropped. After that they have no effect.
#[derive(Debug)]
pub(super) struct ForwardedSignals {
    caught: Receiver,
    actions: Vec<SigId>,
}

impl ForwardedSignals {
    /// To be called in a tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let (sender, caught) = pipe::pipe()?;
        let sender = Arc::new(sender.into_nonblocking_fd()?);
        let mut signals = Self { caught, actions: Vec::with_capacity(FORWARDED.len()) };
        // An ignored signal stays ignored, also for the command: `nohup onlooker exec -- server`.
        for signal in FORWARDED.into_iter().filter(|signal| !is_ignored(*signal)) {
            let sender = Arc::clone(&sender);
            let action = move |info: &libc::siginfo_t| {
                // A positive code means that the kernel sent it, here for the terminal (sigaction(2)).
                if info.si_code <= 0 {
                    // If the pipe is full, enough signals are waiting.
                    let _ = rustix::io::write(sender.as_fd(), &[signal as u8]);
                }
            };
            // SAFETY: the action is async-signal-safe, because it only makes one system call.
            signals.actions.push(unsafe { register_sigaction(signal, action) }?);
        }
        Ok(signals)
    }

    /// The next signal to forward. Cancel-safe.
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
        // Unreachable: the actions hold the other end of the pipe as long as this exists.
        std::future::pending().await
    }
}

impl Drop for ForwardedSignals {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            unregister(action);
        }
    }
}
