//! Turns the kernel's records of socket operations into OpenTelemetry spans.
//!
//! The way of a request is strictly forward:
//!
//! 1. [`connections`] puts each connection's segments in order. `onlooker_protocols` cuts them into exchanges.
//! 2. [`parent`] settles the parent of each exchange.
//! 3. [`describe`] gives it a name, a status and attributes; [`route`] finds the route of an HTTP path.
//! 4. [`pipeline`] connects these, and hands out spans. [`assemble`] gathers spans into traces.
//!
//! This crate is pure. It opens no file or socket, reads no clock and starts no thread: records, clock readings and service
//! names are passed in. So it runs the same on a live host, on a capture file and in a test.

mod addresses;
pub mod aged;
pub mod assemble;
mod connection;
pub mod connections;
mod content;
mod conversation;
pub mod datagrams;
pub mod describe;
mod ending;
mod hello;
mod lengths;
pub mod model;
pub mod observer;
mod open_requests;
mod order;
pub mod origin;
pub mod parent;
mod pieces;
pub mod pipeline;
mod plaintext;
mod preamble;
mod prefetch;
pub mod protobuf;
pub mod route;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod unit;
