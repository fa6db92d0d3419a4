//! The table of protocols. Everything that exists once per protocol iterates it.
//!
//! A protocol is a folder (or a file, if it is recognised but not parsed) with a `SPEC`, and a row here.

use crate::spec::{NewParser, Spec};
use crate::{http1, http2, memcached, postgres, redis, ssh, tls};

/// Every protocol that is recognised, in the order in which [detection](crate::detect) tries them.
///
/// The order matters where the bytes of two protocols overlap: an inline command of Redis may look like a command of
/// memcached.
pub static PROTOCOLS: &[&Spec] =
    &[&http2::SPEC, &tls::SPEC, &ssh::SPEC, &http1::SPEC, &postgres::SPEC, &memcached::SPEC, &redis::SPEC];

/// The row of this name.
///
/// ```
/// let redis = onlooker_protocols::by_name("redis").expect("a row");
/// assert_eq!(redis.title, "Redis");
/// ```
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Spec> {
    PROTOCOLS.iter().copied().find(|protocol| protocol.name == name)
}

/// The rows that have a parser.
pub fn parsed() -> impl Iterator<Item = (&'static Spec, NewParser)> {
    PROTOCOLS.iter().filter_map(|&protocol| Some((protocol, protocol.parser?)))
}
