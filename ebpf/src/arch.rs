//! What differs between processors: numbers of system calls, registers, and how a 32-bit call is recognised.

pub mod x86_64;

#[cfg(bpf_target_arch = "x86_64")]
pub use x86_64 as processor;
