//! Jaeger's own format: `TRACE:SPAN:PARENT:FLAGS` (<https://www.jaegertracing.io/sdk-migration/#propagation-format>).

use super::{Format, Piece, SAMPLED, TraceContext, Values};

pub(super) const ROW: Format = Format {
    name: "jaeger",
    headers: &["uber-trace-id"],
    read,
    lines: &[
        Piece::Text("uber-trace-id: "),
        Piece::Trace { first: 0, count: 4 },
        Piece::Text(":"),
        Piece::Span,
        // The parent's id is deprecated.
        Piece::Text(":0:"),
        Piece::Sampled,
        Piece::Text("\r\n"),
    ],
};

/// Bits of the flags.
const IS_SAMPLED: u128 = 1;
const IS_DEBUG: u128 = 2;

fn read(values: Values<'_>) -> Option<TraceContext> {
    let value = std::str::from_utf8(values.only(0)?).ok()?;
    // Some clients encode it as a part of a URL.
    let value = value.replace("%3A", ":").replace("%3a", ":");
    let mut parts = value.split(':');
    let (trace, span) = (number(parts.next()?, 32)?, number(parts.next()?, 16)?);
    let (_parent, flags) = (number(parts.next()?, 16)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || trace == 0 || span == 0 {
        return None;
    }
    let flags = if flags & (IS_SAMPLED | IS_DEBUG) == 0 { 0 } else { SAMPLED };
    Some(TraceContext::new(trace.to_be_bytes(), u64::try_from(span).ok()?.to_be_bytes(), flags))
}

/// A number whose leading zeros may be missing.
fn number(digits: &str, most: usize) -> Option<u128> {
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if are_digits && digits.len() <= most { u128::from_str_radix(digits, 16).ok() } else { None }
}
