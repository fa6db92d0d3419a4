//! Cuts the bytes of a connection into exchanges: one request with its response.
//!
//! Everything here is pure. A parser is fed the bytes of one connection in stream order, per direction, together with
//! the holes between them (what was not captured, of exactly known length) and the moments they passed. It knows no
//! socket, no process and no clock, and it never panics, blocks or grows without bound, whatever it is fed.

pub mod detect;
pub mod exchange;
mod factory;
pub mod http1;
pub mod kit;
pub mod parser;
pub mod postgres;
pub mod propagation;
pub mod redact;
pub mod redis;
pub mod sql;

pub use exchange::{Begun, Details, End, Exchange, Finding, LossReason, Lost};
pub use factory::parser;
pub use parser::{Close, Direction, Moment, Parser, Protocol, Unparsable};
