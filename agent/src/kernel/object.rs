//! The kernel programs, as they are embedded.

/// An ELF file for the kernel's loader, aligned as its readers need it.
pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ONLOOKER_EBPF_OBJECT"));
