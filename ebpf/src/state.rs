//! What is remembered of sockets and threads: plain data, used in place.
//!
//! Other CPUs may use the same memory at the same time, so no Rust reference to it exists: each struct has a pointer type
//! with a getter and a setter for every field. A field that several CPUs write at once is changed atomically.

mod shared;

pub mod connection;
pub mod event_loop;
pub mod frames;
pub mod goroutine;
pub mod injection;
pub mod owner;
pub mod stream;
pub mod thread;
pub mod tls;
pub mod unit;
pub mod walk;
