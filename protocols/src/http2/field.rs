//! The header fields that matter. Values of all others are never kept.

use super::hpack::Name;
use crate::propagation::Header;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    Scheme,
    Authority,
    Path,
    /// Extended CONNECT (RFC 8441).
    Protocol,
    Status,
    Host,
    UserAgent,
    ContentType,
    /// Of a trace context.
    Propagation(Header),
    RequestId,
    CorrelationId,
    GrpcStatus,
    GrpcTimeout,
    ConnectVersion,
    ConnectTimeout,
    Other,
}

impl Name for Field {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            b"host" => Self::Host,
            b"user-agent" => Self::UserAgent,
            b"content-type" => Self::ContentType,
            b"x-request-id" => Self::RequestId,
            b"x-correlation-id" => Self::CorrelationId,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-timeout" => Self::GrpcTimeout,
            b"connect-protocol-version" => Self::ConnectVersion,
            b"connect-timeout-ms" => Self::ConnectTimeout,
            _ => Header::named(name).map_or(Self::Other, Self::Propagation),
        }
    }

    fn is_kept(&self) -> bool {
        *self != Self::Other
    }

    fn of_static(index: usize, _: &'static str) -> Self {
        match index {
            1 => Self::Authority,
            2 | 3 => Self::Method,
            4 | 5 => Self::Path,
            6 | 7 => Self::Scheme,
            8..=14 => Self::Status,
            31 => Self::ContentType,
            38 => Self::Host,
            58 => Self::UserAgent,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::static_fields;
    use super::*;

    #[test]
    fn fields_of_the_static_table_are_found_by_their_index() {
        for (index, (name, _)) in (1..).zip(static_fields()) {
            assert_eq!(Field::of_static(index, name), Field::of(name.as_bytes()), "{index}");
        }
    }
}
