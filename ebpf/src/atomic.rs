//! Atomic operations on words that several CPUs, or the agent, change.
//!
//! The BPF target's `core` has no atomics, so these are inline assembly.

use core::arch::asm;

/// Adds `change` to `word` and returns the previous value.
///
/// # Safety
/// `word` must point to an aligned, live word of a map or of local storage.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut i64, change: i64) -> i64 {
    let mut value = change;
    // SAFETY: the caller's promise. One instruction of BPF's instruction set v3.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value)
    };
    value
}

/// Writes `value` to `word` and returns the previous value.
///
/// # Safety
/// As for `fetch_add`.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: as in `fetch_add`.
    unsafe { asm!("{value} = xchg_64({word} + 0, {value})", word = in(reg) word, value = inout(reg) value) };
    value
}

/// Clears all but `bits` in `word`.
///
/// # Safety
/// As for `fetch_add`.
#[inline(always)]
pub unsafe fn and(word: *mut u64, bits: u64) {
    // SAFETY: as in `fetch_add`.
    unsafe { asm!("lock *(u64 *)({word} + 0) &= {bits}", word = in(reg) word, bits = in(reg) bits) };
}

/// Sets `bits` in `word`.
///
/// # Safety
/// As for `fetch_add`.
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) {
    // SAFETY: as in `fetch_add`.
    unsafe { asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) word, bits = in(reg) bits) };
}
