//! Atomic arithmetic on words that several CPUs and the agent change: the compiler's own atomics have none for BPF.

use core::arch::asm;

/// Adds `change` to `word`; gives what it was.
///
/// # Safety
/// `word` must point to an aligned, live word of a map.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut i64, change: i64) -> i64 {
    let mut value = change;
    // SAFETY: the caller's promise; one instruction of the third BPF instruction set.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({word} + 0), {value})", word = in(reg) word, value = inout(reg) value)
    };
    value
}

/// Puts `value` into `word`; gives what it was.
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

/// Sets `bits` in `word`.
///
/// # Safety
/// As for `fetch_add`.
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) {
    // SAFETY: as in `fetch_add`.
    unsafe { asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) word, bits = in(reg) bits) };
}
