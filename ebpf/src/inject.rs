//! Adds `traceparent` to requests.
//!
//! - `enrolment`: a client socket of a selected process is enrolled when its connection is established, and leaves as soon as its
//!   first request has gone, or when something is received. From then on it is like any other socket.
//! - `message`: what is sent on an enrolled socket. The line is added at the end of the header block.
//! - `head`: follows the header block, and finds its end and a `traceparent` of the program's own.
//! - `context`: finds the trace context of a request that was read.
//! - `trace`: which trace a call belongs to.

pub mod context;
pub mod enrolment;
mod head;
mod hexadecimal;
pub mod message;
mod storage;
pub mod trace;
