//! Adds the trace context to requests.
//!
//! - `enrolment`: a client socket of a selected process is enrolled when its connection is established, and leaves as soon as its
//!   first request has gone, or when something is received. From then on it is like any other socket.
//! - `destination`: which connections are enrolled, by their remote end.
//! - `message`: what is sent on an enrolled socket. Header lines are added at the end of the header block.
//! - `head`: follows the header block, and finds its end and a trace context of the program's own.
//! - `context`: finds the trace context of a request that was read.
//! - `state`: the `tracestate` of a request that was read.
//! - `trace`: which trace a call belongs to. `lines`: the header lines that say so.

pub mod context;
mod destination;
pub mod enrolment;
mod head;
mod hexadecimal;
mod lines;
pub mod message;
pub mod state;
mod storage;
pub mod trace;
mod walk;
