//! What a parser learns from an exchange, by OpenTelemetry family.
//!
//! No family belongs to a protocol: PostgreSQL and Redis both yield [`Database`] facts. Facts hold no secrets. A parser
//! removes literals, values and credentials before it stores a text here. Unknown texts are empty.

mod database;
mod dns;
mod http;
mod messaging;
mod rpc;

pub use database::{Database, Namespace, QueryText, Rows};
pub use dns::{Dns, ResponseCode};
pub use http::{Http, HttpVersion};
pub use messaging::{Messaging, Operation};
pub use rpc::{Rpc, RpcStatus};

/// The facts of an exchange. The rarer families are boxed, so that they do not make every exchange larger.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    Http(Http),
    Database(Database),
    Messaging(Box<Messaging>),
    Rpc(Box<Rpc>),
    Dns(Box<Dns>),
}

impl Facts {
    #[must_use]
    pub fn as_http(&self) -> Option<&Http> {
        match self {
            Self::Http(http) => Some(http),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_database(&self) -> Option<&Database> {
        match self {
            Self::Database(database) => Some(database),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open request holds facts, and every exchange moves them.
    #[test]
    fn facts_are_no_larger_than_three_cache_lines() {
        assert!(size_of::<Facts>() <= 192, "{} bytes", size_of::<Facts>());
        assert_eq!(size_of::<QueryText>(), 24);
        assert_eq!(size_of::<Namespace>(), 24);
    }
}
