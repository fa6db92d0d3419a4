//! Trace context that requests carry (W3C Trace Context).

use compact_str::CompactString;

/// A well-formed traceparent, with the tracestate beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
    /// The combined tracestate, empty if there was none or it was malformed.
    pub tracestate: CompactString,
}
