//! Signals that the agent was started with as ignored.

use std::mem::MaybeUninit;

/// Whether a signal is ignored. `nohup` starts programs with SIGHUP ignored, and it must stay so.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call changes nothing. The action is plain integers, valid as zeroes, and written if the call succeeds.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
