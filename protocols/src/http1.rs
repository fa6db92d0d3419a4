//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112).

use compact_str::CompactString;

/// What a span needs of an HTTP/1 exchange.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Http {
    /// As sent; the span maps what it doesn't know to `_OTHER`.
    pub method: CompactString,
    /// The path of the request target, without query; `*` for OPTIONS, empty for CONNECT.
    pub path: CompactString,
    /// The query's parameter names, every value replaced by REDACTED; empty if there was none.
    pub query: CompactString,
    /// From absolute-form; empty in origin-form.
    pub scheme: CompactString,
    /// The authority of the absolute-form or CONNECT target, else the Host field; empty if there was none.
    pub host: CompactString,
    pub user_agent: CompactString,
    /// Minor version of the request: 0 or 1.
    pub minor_version: u8,
    pub status: Option<u16>,
    /// Bytes of the message bodies as they went over the wire (transfer coding removed); `None` where a hole hid it.
    pub request_body: Option<u64>,
    pub response_body: Option<u64>,
    /// Whether the request carried a traceparent.
    pub context: Option<crate::propagation::TraceContext>,
}
