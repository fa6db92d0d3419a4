//! What becomes of signals, by the wish of whoever started the agent.

use std::mem::MaybeUninit;

/// Whether a signal is ignored, as it is from the start under `nohup`. One that is stays so.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: changes nothing; the action is plain integers, valid as zeroes, and written where the call succeeds.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
