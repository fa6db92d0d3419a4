//! How kernel memory is read.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use onlooker_common::offsets::MISSING;

/// Loads a member of a typed kernel struct. `None` if this kernel does not have it.
///
/// # Safety
/// The verifier must know the type of `object`. `offset` must be that of a member of type `T`, or MISSING.
#[inline(always)]
pub unsafe fn load<T: Copy>(object: *const c_void, offset: u32) -> Option<T> {
    if offset == MISSING {
        return None;
    }
    // SAFETY: the caller's promise, and the verifier's check.
    Some(unsafe { ptr::read_volatile(object.cast::<u8>().add(offset as usize).cast::<T>()) })
}

/// Reads a word at any address, which may be invalid by now.
#[inline(always)]
pub fn probe<T: Copy>(at: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all of the local, also if it fails. `T` is a plain word, so any bytes are a value.
    unsafe {
        let failed = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at as *const c_void);
        let value = value.assume_init();
        if failed == 0 { Some(value) } else { None }
    }
}
