//! AWS X-Ray: `Root=1-TIME-RANDOM;Parent=SPAN;Sampled=1`
//! (<https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>).

use super::hex::{span_id, trace_id};
use super::{Format, Piece, SAMPLED, TraceContext, Values};

pub(super) const ROW: Format = Format {
    name: "xray",
    headers: &["x-amzn-trace-id"],
    read,
    lines: &[
        Piece::Text("X-Amzn-Trace-Id: Root=1-"),
        Piece::Trace { first: 0, count: 1 },
        Piece::Text("-"),
        Piece::Trace { first: 1, count: 3 },
        Piece::Text(";Parent="),
        Piece::Span,
        Piece::Text(";Sampled="),
        Piece::Sampled,
        Piece::Text("\r\n"),
    ],
};

/// Without `Parent`, as load balancers send it, there is no span to continue.
fn read(values: Values<'_>) -> Option<TraceContext> {
    let (mut root, mut parent, mut flags) = (None, None, SAMPLED);
    for part in values.only(0)?.split(|&byte| byte == b';') {
        let equals = part.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (part[..equals].trim_ascii(), part[equals + 1..].trim_ascii());
        match key {
            b"Root" => root = root_id(value),
            b"Parent" => parent = span_id(value),
            b"Sampled" if value == b"0" => flags = 0,
            // `Sampled=?` leaves the decision to the receiver. Other keys are for others.
            _ => {}
        }
    }
    Some(TraceContext::new(root?, parent?, flags))
}

/// Version, time and random part.
fn root_id(value: &[u8]) -> Option<[u8; 16]> {
    let rest = value.strip_prefix(b"1-")?;
    let (time, random) = rest.split_at_checked(8)?;
    trace_id(&[time, random.strip_prefix(b"-").filter(|random| random.len() == 24)?].concat())
}
