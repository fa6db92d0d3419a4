//! The only reader of kernel memory.
//!
//! Members of typed kernel pointers are loaded directly at offsets that the verifier knows and checks: such a load
//! can't fault, and needs no helper. Where a member is missing on this kernel, the load is not made.

mod sock;
mod task;
mod unix;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use onlooker_common::offsets::MISSING;

use crate::maps::offset;

pub use sock::{AF_UNIX, Fins, FormerSock, Sock, tcp_state};
pub use task::{Cgroup, Task};

/// Loads a member of a typed kernel struct.
///
/// # Safety
/// `object` must be a pointer the verifier knows the type of, and `offset` that of a member of type `T`, or MISSING.
#[inline(always)]
unsafe fn member<T: Copy>(object: *const c_void, offset: u32) -> Option<T> {
    if offset == MISSING {
        return None;
    }
    // SAFETY: the caller's promise, and the verifier's check.
    Some(unsafe { ptr::read_volatile(object.cast::<u8>().add(offset as usize).cast::<T>()) })
}

/// Reads kernel memory that may be anybody's.
#[inline(always)]
fn read<T: Copy>(at: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: writes all of a local, whatever it answers: a plain word, of which any is a value.
    unsafe {
        let failed = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at as *const c_void);
        let value = value.assume_init();
        if failed == 0 { Some(value) } else { None }
    }
}

/// How many bytes of a send are still to be taken.
///
/// # Safety
/// `message` must be a `struct msghdr *` argument of the running program.
#[inline(always)]
pub unsafe fn bytes_left(message: *const c_void) -> Option<u64> {
    // SAFETY: the caller's promise; msg_iter.count is a size_t.
    unsafe { member(message, offset!(message_left)) }
}
