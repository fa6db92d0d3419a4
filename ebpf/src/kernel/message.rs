//! Messages: `struct msghdr`.

use core::ffi::c_void;

use super::member::load;
use crate::globals::offset;

/// How many bytes of a send are still to be taken.
///
/// # Safety
/// `message` must be a `struct msghdr *` argument of the running program.
#[inline(always)]
pub unsafe fn bytes_left(message: *const c_void) -> Option<u64> {
    // SAFETY: the caller's promise; msg_iter.count is a size_t.
    unsafe { load(message, offset!(message_left)) }
}
