//! How kernel memory is read.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::arch::asm;
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

/// Reads a pointer that is a member of a typed kernel struct. `None` if this kernel does not have it, or if it is null.
///
/// It is not loaded directly. For each pointer from a struct that it trusts, the verifier looks for names among all of the
/// kernel's types, one by one: that took half of the time of loading the programs. What the pointer points to is read with
/// [`at`].
#[inline(always)]
pub fn pointer(object: *const c_void, offset: u32) -> Option<u64> {
    at(object as u64, offset).filter(|&pointer| pointer != 0)
}

/// The address of a kernel object as a number, which can be passed to a global function.
#[inline(always)]
pub fn number(object: *const c_void) -> u64 {
    let mut address = object as u64;
    // SAFETY: the two instructions leave the value as it is. What was a pointer for the verifier is a number after the first.
    unsafe { asm!("{address} = -{address}", "{address} = -{address}", address = inout(reg) address) };
    address
}

/// Reads a member of the struct at an address. `None` if this kernel does not have it.
#[inline(always)]
pub fn at<T: Copy>(object: u64, offset: u32) -> Option<T> {
    if offset == MISSING { None } else { probe(object.wrapping_add(u64::from(offset))) }
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
