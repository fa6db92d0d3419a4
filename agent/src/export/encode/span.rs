//! Encodes one span.

use opentelemetry::trace::{SpanContext, SpanKind, Status};

use onlooker_engine::model::{attributes, span::Span};
use onlooker_engine::protobuf::{bytes, fixed32, fixed64, integer, message, string};

/// The attribute that states how a span's parent was found: see [`onlooker_engine::model::span::Evidence`].
pub(super) const PARENT_EVIDENCE: &str = "onlooker.parent.evidence";

/// `SpanFlags`: the lowest eight bits are the W3C trace flags of the span's own context. 1 means sampled. Exported spans are
/// sampled, even if their caller is not (OTel trace SDK, Sampling). The other flags belong to the creator of the trace id.
const FLAG_SAMPLED: u32 = 0x001;
/// `SpanFlags`: the next bit is valid. It says whether the parent (or the linked span) is remote.
const FLAG_HAS_IS_REMOTE: u32 = 0x100;
const FLAG_IS_REMOTE: u32 = 0x200;

/// Appends the field `ScopeSpans.spans`.
pub(super) fn write(out: &mut Vec<u8>, span: &Span) {
    /// The usual size of a span without its attributes, rounded up.
    const REST: usize = 128;
    message(out, 2, REST + span.attributes.encoded().len(), |out| {
        bytes(out, 1, &span.trace_id.to_bytes());
        bytes(out, 2, &span.span_id.to_bytes());
        if !span.trace_state.is_empty() {
            string(out, 3, &span.trace_state);
        }
        if let Some(parent) = &span.parent {
            bytes(out, 4, &parent.span_id.to_bytes());
        }
        string(out, 5, &span.name);
        integer(out, 6, kind(&span.kind));
        fixed64(out, 7, span.start);
        fixed64(out, 8, span.end);
        out.extend_from_slice(span.attributes.encoded());
        if let Some(parent) = &span.parent {
            let evidence = parent.evidence.as_str();
            attributes::begin_text(out, 9, PARENT_EVIDENCE, evidence.len());
            out.extend_from_slice(evidence.as_bytes());
        }
        for link in &span.links {
            message(out, 13, 0, |out| write_link(out, link));
        }
        match &span.status {
            Status::Unset => {}
            Status::Ok => message(out, 15, 0, |out| integer(out, 3, 1)),
            Status::Error { description } => message(out, 15, 0, |out| {
                if !description.is_empty() {
                    string(out, 2, description);
                }
                integer(out, 3, 2);
            }),
        }
        fixed32(out, 16, flags(span.parent.is_some_and(|p| p.remote)) | FLAG_SAMPLED);
    });
}

fn write_link(out: &mut Vec<u8>, link: &SpanContext) {
    bytes(out, 1, &link.trace_id().to_bytes());
    bytes(out, 2, &link.span_id().to_bytes());
    let state = link.trace_state().header();
    if !state.is_empty() {
        string(out, 3, &state);
    }
    fixed32(out, 6, flags(link.is_remote()) | u32::from(link.trace_flags().to_u8()));
}

fn flags(remote: bool) -> u32 {
    FLAG_HAS_IS_REMOTE | if remote { FLAG_IS_REMOTE } else { 0 }
}

/// `Span.SpanKind`.
fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}
