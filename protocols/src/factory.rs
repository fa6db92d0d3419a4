//! The parser of each protocol.

use crate::http1::Http1;
use crate::parser::{Parser, Protocol};
use crate::postgres::Postgres;
use crate::redis::Redis;

/// A parser for a connection; `from_start`: nothing passed on it before what the parser will be fed.
#[must_use]
pub fn parser(protocol: Protocol, from_start: bool) -> Box<dyn Parser> {
    match protocol {
        Protocol::Http1 => Box::new(Http1::new(from_start)),
        Protocol::Postgres => Box::new(Postgres::new(from_start)),
        Protocol::Redis => Box::new(Redis::new(from_start)),
    }
}
