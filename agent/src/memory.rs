//! Returns unused memory to the operating system.

/// Returns freed memory. Reading the kernel's types needs tens of MiB once, which the allocator would otherwise keep.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
