//! OT-Trace, of the basic tracers of OpenTracing (OpenTelemetry specification, Propagators API).

use super::hex::{span_id, trace_id};
use super::{Format, Piece, SAMPLED, TraceContext, Values};

pub(super) const ROW: Format = Format {
    name: "ottrace",
    headers: &["ot-tracer-traceid", "ot-tracer-spanid", "ot-tracer-sampled"],
    read,
    lines: &[
        // Trace ids have 64 bits.
        Piece::Text("ot-tracer-traceid: "),
        Piece::Trace { first: 2, count: 2 },
        Piece::Text("\r\not-tracer-spanid: "),
        Piece::Span,
        Piece::Text("\r\not-tracer-sampled: "),
        Piece::IsSampled,
        Piece::Text("\r\n"),
    ],
};

fn read(values: Values<'_>) -> Option<TraceContext> {
    let [trace, span, state] = [0, 1, 2].map(|field| values.only(field));
    let flags = match state {
        Some(b"true" | b"1") => SAMPLED,
        Some(b"false" | b"0") => 0,
        _ => return None,
    };
    Some(TraceContext::new(trace_id(trace?)?, span_id(span?)?, flags))
}
