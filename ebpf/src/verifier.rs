//! What only the verifier needs.

/// Hides what the compiler knows about `value`. Otherwise it would remove a bound that the verifier needs to see.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    // SAFETY: a read of a local.
    unsafe { core::ptr::read_volatile(&raw const value) }
}
