//! Memory that was taken once and is not needed again goes back to the machine.

/// Gives back what was freed. Reading the kernel's types takes tens of MiB for a moment, which the allocator would keep
/// for what never comes.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
