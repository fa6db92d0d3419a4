//! The only reader of kernel memory.
//!
//! Members of typed kernel pointers are loaded directly, at offsets that the verifier knows and checks. Such a load cannot
//! fault and needs no helper. A member that this kernel does not have is not read.

pub mod execution;
pub mod member;
pub mod message;
pub mod sock;
pub mod task;
pub mod unix;
pub mod wait;
