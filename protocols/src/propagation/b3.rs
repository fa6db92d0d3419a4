//! B3, of Zipkin: in one field, or in several (<https://github.com/openzipkin/b3-propagation>).

use super::hex::{span_id, trace_id};
use super::{Format, Piece, SAMPLED, TraceContext, Values};

pub(super) const SINGLE: Format = Format {
    name: "b3",
    headers: &["b3"],
    read: read_single,
    lines: &[
        Piece::Text("b3: "),
        Piece::Trace { first: 0, count: 4 },
        Piece::Text("-"),
        Piece::Span,
        Piece::Text("-"),
        Piece::Sampled,
        Piece::Text("\r\n"),
    ],
};

pub(super) const SEVERAL: Format = Format {
    name: "b3multi",
    headers: &["x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"],
    read: read_several,
    lines: &[
        Piece::Text("X-B3-TraceId: "),
        Piece::Trace { first: 0, count: 4 },
        Piece::Text("\r\nX-B3-SpanId: "),
        Piece::Span,
        Piece::Text("\r\nX-B3-Sampled: "),
        Piece::Sampled,
        Piece::Text("\r\n"),
    ],
};

/// `TRACE-SPAN`, `TRACE-SPAN-SAMPLED` or `TRACE-SPAN-SAMPLED-PARENT`.
fn read_single(values: Values<'_>) -> Option<TraceContext> {
    let mut parts = values.only(0)?.split(|&byte| byte == b'-');
    let (trace, span) = (trace_id(parts.next()?)?, span_id(parts.next()?)?);
    let flags = match parts.next() {
        // The decision is left to the receiver.
        None => SAMPLED,
        Some(state) => sampled(state)?,
    };
    let (parent, more) = (parts.next(), parts.next());
    let is_whole = more.is_none() && parent.is_none_or(|parent| span_id(parent).is_some());
    is_whole.then(|| TraceContext::new(trace, span, flags))
}

fn read_several(values: Values<'_>) -> Option<TraceContext> {
    let [trace, span, state, flags] = [0, 1, 2, 3].map(|field| values.only(field));
    let (trace, span) = (trace_id(trace?)?, span_id(span?)?);
    // The flag 1 is "debug", which implies a decision to sample.
    let flags = match (flags, state) {
        (Some(b"1"), _) | (_, None) => SAMPLED,
        (_, Some(state)) => sampled(state)?,
    };
    Some(TraceContext::new(trace, span, flags))
}

/// `d` is "debug". The words are those of early versions.
fn sampled(state: &[u8]) -> Option<u8> {
    match state {
        b"1" | b"d" | b"true" => Some(SAMPLED),
        b"0" | b"false" => Some(0),
        _ => None,
    }
}
