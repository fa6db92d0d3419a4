//! What the kernel programs and the agent share: records, map entries, limits and names.
//!
//! Everything here is plain old data with a fixed layout, asserted at compile time. The kernel programs write records
//! to a ring buffer. The agent reads them with `decode` (feature of the same name), which accepts hostile bytes.
#![no_std]

pub mod async_ids;
pub mod capture;
pub mod connection;
pub mod datagram;
#[cfg(feature = "decode")]
pub mod decode;
pub mod frames;
pub mod injection;
pub mod kind;
pub mod limits;
pub mod losses;
pub mod offsets;
pub mod owner;
pub mod plaintext;
pub mod process;
pub mod reader;
pub mod segment;
pub mod selection;
pub mod tls_function;
pub mod unit;
