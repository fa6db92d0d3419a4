//! The trace context that requests carry.
//!
//! There are several formats: a row of [`FORMATS`] each. A request is read in all of them. The first row that finds a
//! well-formed context decides.

mod b3;
mod hex;
mod jaeger;
mod ottrace;
mod w3c;
mod xray;

use compact_str::CompactString;

/// The span that sent a request, and its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
    /// All `tracestate` fields combined, at most 512 bytes. Empty if there is none or it is malformed.
    pub tracestate: CompactString,
}

/// The flag of [`TraceContext::flags`] that all formats have: the sender may have recorded the trace.
pub const SAMPLED: u8 = 1;

/// A format in which requests carry the context.
#[derive(Debug)]
pub struct Format {
    /// Its name in `OTEL_PROPAGATORS`.
    pub name: &'static str,
    /// The names of its header fields, in lower case.
    pub headers: &'static [&'static str],
    /// Reads the values. `None` unless they are well-formed.
    read: fn(Values<'_>) -> Option<TraceContext>,
    /// The header lines that say it. Each ends with CR LF.
    pub lines: &'static [Piece],
}

/// Every format. The order is that of precedence.
pub const FORMATS: &[&Format] = &[&w3c::ROW, &b3::SINGLE, &b3::SEVERAL, &jaeger::ROW, &ottrace::ROW, &xray::ROW];

/// A piece of a format's header lines. Each has a fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Text(&'static str),
    /// `count` times eight digits of the trace id, without `first` times eight.
    Trace {
        first: u8,
        count: u8,
    },
    /// The sixteen digits of the span id.
    Span,
    /// The two digits of the flags.
    Flags,
    /// `1` or `0`.
    Sampled,
    /// `true`, or `false`. A blank follows `true`: servers remove it (RFC 9110 5.5).
    IsSampled,
}

/// A header field of one of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Index in [`FORMATS`].
    format: u8,
    /// Index in [`Format::headers`].
    field: u8,
}

/// The values of a format's fields in one request.
#[derive(Clone, Copy)]
struct Values<'a> {
    format: u8,
    fields: &'a [(Header, &'a [u8])],
}

impl Header {
    /// The one that nearly every request with a context has.
    pub(crate) const TRACEPARENT: Self = Self { format: 0, field: 0 };

    /// The field with this name, in any case.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        // Most names begin with another letter.
        if !matches!(name.first(), Some(b't' | b'T' | b'b' | b'B' | b'x' | b'X' | b'u' | b'U' | b'o' | b'O')) {
            return None;
        }
        (0..).zip(FORMATS).find_map(|(format, row)| {
            let (field, _) = (0..).zip(row.headers).find(|(_, header)| name.eq_ignore_ascii_case(header.as_bytes()))?;
            Some(Self { format, field })
        })
    }
}

impl<'a> Values<'a> {
    /// The values of a field, in their order.
    fn all(self, field: usize) -> impl Iterator<Item = &'a [u8]> {
        let is_wanted = move |header: &Header| header.format == self.format && usize::from(header.field) == field;
        self.fields.iter().filter(move |(header, _)| is_wanted(header)).map(|(_, value)| *value)
    }

    /// The value of a field that occurs once.
    fn only(self, field: usize) -> Option<&'a [u8]> {
        let mut values = self.all(field);
        values.next().filter(|_| values.next().is_none())
    }
}

/// The context that a request carries in these fields, which are in their order.
#[must_use]
pub fn read(fields: &[(Header, &[u8])]) -> Option<TraceContext> {
    if fields.is_empty() {
        return None;
    }
    (0..).zip(FORMATS).find_map(|(format, row)| (row.read)(Values { format, fields }))
}

impl TraceContext {
    const fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Self {
        Self { trace_id, span_id, flags, tracestate: CompactString::const_new("") }
    }
}

impl Format {
    /// The header lines that carry a context, without its `tracestate`.
    #[must_use]
    pub fn lines(&self, context: &TraceContext) -> String {
        let is_sampled = context.flags & SAMPLED != 0;
        let trace = format!("{:032x}", u128::from_be_bytes(context.trace_id));
        let mut lines = String::new();
        for piece in self.lines {
            match *piece {
                Piece::Text(text) => lines.push_str(text),
                Piece::Trace { first, count } => {
                    lines.push_str(&trace[8 * usize::from(first)..8 * usize::from(first + count)]);
                }
                Piece::Span => lines.push_str(&format!("{:016x}", u64::from_be_bytes(context.span_id))),
                Piece::Flags => lines.push_str(&format!("{:02x}", context.flags)),
                Piece::Sampled => lines.push(if is_sampled { '1' } else { '0' }),
                Piece::IsSampled => lines.push_str(if is_sampled { "true " } else { "false" }),
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn traceparent_has_a_constant() {
        assert_eq!(Header::named(b"Traceparent"), Some(Header::TRACEPARENT));
    }

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    /// Reads header lines.
    fn read_lines(lines: &str) -> Option<TraceContext> {
        let fields: Vec<_> = lines
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((Header::named(name.as_bytes())?, value.trim().as_bytes()))
            })
            .collect();
        read(&fields)
    }

    fn number(id: &[u8]) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `{T}` and `{S}` stand for the ids.
    #[rstest]
    #[case::b3_of_its_readme("b3: {T}-{S}-1-05e3ac9a4f6e3b90", Some(1))]
    #[case::b3_without_a_parent("b3: {T}-{S}-0", Some(0))]
    #[case::b3_debug("b3: {T}-{S}-d", Some(1))]
    #[case::b3_deferred("b3: {T}-{S}", Some(1))]
    #[case::b3_of_a_decision_alone("b3: 0", None)]
    #[case::b3_of_four_and_more("b3: {T}-{S}-1-{S}-1", None)]
    #[case::b3_with_a_short_span("b3: {T}-e457b5a2-1", None)]
    #[case::b3_with_an_unknown_state("b3: {T}-{S}-2", None)]
    #[case::b3_in_upper_case("b3: 80F198EE56343BA864FE8B2A57D3EFF7-{S}-1", None)]
    #[case::b3_with_an_invalid_trace("b3: 00000000000000000000000000000000-{S}-1", None)]
    #[case::b3_twice("b3: {T}-{S}-1\nb3: {T}-{S}-1", None)]
    #[case::b3multi_of_its_readme(
        "X-B3-TraceId: {T}\nX-B3-ParentSpanId: 05e3ac9a4f6e3b90\nX-B3-SpanId: {S}\nX-B3-Sampled: 1",
        Some(1)
    )]
    #[case::b3multi_not_sampled("X-B3-TraceId: {T}\nX-B3-SpanId: {S}\nX-B3-Sampled: 0", Some(0))]
    #[case::b3multi_of_early_versions("X-B3-TraceId: {T}\nX-B3-SpanId: {S}\nX-B3-Sampled: false", Some(0))]
    #[case::b3multi_debug("X-B3-TraceId: {T}\nX-B3-SpanId: {S}\nX-B3-Flags: 1", Some(1))]
    #[case::b3multi_deferred("X-B3-TraceId: {T}\nX-B3-SpanId: {S}", Some(1))]
    #[case::b3multi_without_a_span("X-B3-TraceId: {T}\nX-B3-Sampled: 1", None)]
    #[case::b3multi_with_two_spans("X-B3-TraceId: {T}\nX-B3-SpanId: {S}\nX-B3-SpanId: {S}", None)]
    #[case::jaeger("uber-trace-id: {T}:{S}:0:1", Some(1))]
    #[case::jaeger_debug("uber-trace-id: {T}:{S}:0:03", Some(1))]
    #[case::jaeger_not_sampled("uber-trace-id: {T}:{S}:e457b5a2e4d86bd1:0", Some(0))]
    #[case::jaeger_encoded("uber-trace-id: {T}%3A{S}%3A0%3a1", Some(1))]
    #[case::jaeger_of_three("uber-trace-id: {T}:{S}:1", None)]
    #[case::jaeger_of_five("uber-trace-id: {T}:{S}:0:1:1", None)]
    #[case::jaeger_with_an_invalid_span("uber-trace-id: {T}:0:0:1", None)]
    #[case::jaeger_with_a_sign("uber-trace-id: +0f198ee56343ba864fe8b2a57d3eff7:{S}:0:1", None)]
    #[case::jaeger_too_long("uber-trace-id: 0{T}:{S}:0:1", None)]
    #[case::ottrace("ot-tracer-traceid: {T}\not-tracer-spanid: {S}\not-tracer-sampled: true", Some(1))]
    #[case::ottrace_not_sampled("ot-tracer-traceid: {T}\not-tracer-spanid: {S}\not-tracer-sampled: 0", Some(0))]
    #[case::ottrace_undecided("ot-tracer-traceid: {T}\not-tracer-spanid: {S}", None)]
    #[case::xray("X-Amzn-Trace-Id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent={S};Sampled=1", Some(1))]
    #[case::xray_in_another_order(
        "X-Amzn-Trace-Id: Sampled=0; Parent={S}; Self=x; Root=1-80f198ee-56343ba864fe8b2a57d3eff7",
        Some(0)
    )]
    #[case::xray_deferred("X-Amzn-Trace-Id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent={S};Sampled=?", Some(1))]
    #[case::xray_of_a_load_balancer("X-Amzn-Trace-Id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7", None)]
    #[case::xray_of_another_version("X-Amzn-Trace-Id: Root=2-80f198ee-56343ba864fe8b2a57d3eff7;Parent={S}", None)]
    #[case::xray_without_a_dash("X-Amzn-Trace-Id: Root=1-80f198ee56343ba864fe8b2a57d3eff7;Parent={S}", None)]
    #[case::xray_malformed("X-Amzn-Trace-Id: Root=1-80f198ee-56343ba864fe8b2a57d3eff7;Parent={S};x", None)]
    #[case::w3c("traceparent: 00-{T}-{S}-03\nb3: {T}-00f067aa0ba902b7-0", Some(3))]
    #[case::the_next_format_counts_if_one_is_malformed("traceparent: 00-{T}-{S}\nb3: {T}-{S}-0", Some(0))]
    fn every_format_is_read(#[case] lines: &str, #[case] flags: Option<u8>) {
        let found = read_lines(&lines.replace("{T}", TRACE).replace("{S}", SPAN));
        assert_eq!(found.as_ref().map(|context| context.flags), flags);
        if let Some(found) = found {
            assert_eq!((number(&found.trace_id), number(&found.span_id)), (TRACE.to_owned(), SPAN.to_owned()));
        }
    }

    #[rstest]
    #[case::b3("b3: 64fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]
    #[case::b3multi("x-b3-traceid: 64fe8b2a57d3eff7\nx-b3-spanid: e457b5a2e4d86bd1")]
    #[case::jaeger("uber-trace-id: 64fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1")]
    #[case::ottrace("ot-tracer-traceid: 64fe8b2a57d3eff7\not-tracer-spanid: e457b5a2e4d86bd1\not-tracer-sampled: true")]
    fn a_trace_id_of_64_bits_is_the_lower_half(#[case] lines: &str) {
        let found = read_lines(lines).expect("it is well-formed");
        assert_eq!(number(&found.trace_id), "000000000000000064fe8b2a57d3eff7");
    }

    #[test]
    fn what_a_format_writes_it_reads() {
        for format in FORMATS {
            for flags in [0, SAMPLED] {
                let context = TraceContext::new(*b"0123456789abcdef", *b"stuvwxyz", flags);
                let lines = format.lines(&context);
                assert!(lines.ends_with("\r\n"), "{lines:?}");
                let mut expected = context.clone();
                if format.name == "ottrace" {
                    expected.trace_id[..8].fill(0);
                }
                assert_eq!(read_lines(&lines), Some(expected), "{lines:?}");
            }
        }
    }

    #[test]
    fn names_of_fields_are_found_in_any_case() {
        for name in FORMATS.iter().flat_map(|format| format.headers) {
            assert!(
                Header::named(name.as_bytes()).is_some() && Header::named(name.to_uppercase().as_bytes()).is_some()
            );
        }
        assert_eq!(Header::named(b"TraceParent"), Some(Header { format: 0, field: 0 }));
        assert_eq!(Header::named(b"X-B3-SPANID"), Some(Header { format: 2, field: 1 }));
        assert_eq!(Header::named(b"x-b3-parentspanid"), None);
        assert_eq!(Header::named(b""), None);
    }
}
