//! What the kernel programs and the agent must agree on: layouts, limits and names.
//!
//! Everything here is plain old data with a fixed layout, asserted at compile time. The kernel side writes it, the
//! agent reads it with `decode` (feature of the same name), which takes hostile bytes.
#![no_std]

pub mod agent;
pub mod context;
#[cfg(feature = "decode")]
pub mod decode;
pub mod event;
pub mod limits;
pub mod loss;
pub mod offsets;
pub mod process;
