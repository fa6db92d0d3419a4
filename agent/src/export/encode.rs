//! Encodes spans as OTLP protobuf, directly from [`Span`] to the bytes of an `ExportTraceServiceRequest`.
//!
//! A span is encoded once, after the other spans of its request. If all spans belong to one service, its resource is
//! written in front of them at the end, into room that was reserved there. Spans of several services are sorted first.
//! No message types are used in between. Tests compare the bytes with those of the generated types.
//!
//! Field numbers are those of `opentelemetry/proto/{collector/trace,trace,resource,common}/v1`.

mod span;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use opentelemetry_semantic_conventions::SCHEMA_URL;
use rustc_hash::FxHashMap;

use super::buffers::Buffers;
use onlooker_engine::model::service::Service;
use onlooker_engine::model::{attributes, span::Span};
use onlooker_engine::protobuf::{LONGEST_BEGIN, begin, delimited_length, message, string};

const SCOPE_NAME: &str = "onlooker";
const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The field `ScopeSpans.scope`: the instrumentation scope of every span.
static SCOPE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut scope = Vec::new();
    message(&mut scope, 1, 0, |out| {
        string(out, 1, SCOPE_NAME);
        string(out, 2, SCOPE_VERSION);
    });
    scope
});

/// Builds an `ExportTraceServiceRequest`.
#[derive(Debug)]
pub struct RequestEncoder {
    /// In the order of their first spans.
    groups: Vec<Group>,
    /// The index of a service's group, by the address of the service. The group keeps the service alive.
    by_service: FxHashMap<usize, usize>,
    /// Room for what precedes the spans of the first group, then the field `ScopeSpans.spans` of each span.
    encoded: Vec<u8>,
    /// Which groups the encoded spans belong to.
    stretches: Vec<Stretch>,
    buffers: Arc<Buffers>,
}

/// A `ResourceSpans` with its one `ScopeSpans`.
#[derive(Debug)]
struct Group {
    service: Arc<Service>,
    /// The field `ResourceSpans.resource`.
    resource: Vec<u8>,
    /// Bytes of its spans.
    length: usize,
}

/// Adjacent spans of one group.
#[derive(Debug)]
struct Stretch {
    group: usize,
    bytes: Range<usize>,
}

impl RequestEncoder {
    /// An empty request, with memory from `buffers`.
    #[must_use]
    pub fn new(buffers: Arc<Buffers>) -> Self {
        Self {
            groups: Vec::new(),
            by_service: FxHashMap::default(),
            encoded: buffers.take(),
            stretches: Vec::new(),
            buffers,
        }
    }

    /// Encodes a span.
    pub fn push(&mut self, span: &Span) {
        let group = self.group_of(&span.service);
        let start = self.encoded.len();
        span::write(&mut self.encoded, span);
        let end = self.encoded.len();
        self.groups[group].length += end - start;
        match self.stretches.last_mut() {
            Some(stretch) if stretch.group == group => stretch.bytes.end = end,
            _ => self.stretches.push(Stretch { group, bytes: start..end }),
        }
    }

    /// The approximate size of the spans so far, without their resources.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The complete request.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        if let [group] = &self.groups[..] {
            let head = group.head();
            let start = group.room() - head.len();
            self.encoded[start..group.room()].copy_from_slice(&head);
            group.write_tail(&mut self.encoded);
            return self.buffers.lend(self.encoded, start);
        }
        let mut request = self.buffers.take();
        // The sort is stable: the spans of a service keep their order.
        self.stretches.sort_by_key(|stretch| stretch.group);
        for stretches in self.stretches.chunk_by(|one, next| one.group == next.group) {
            let group = &self.groups[stretches[0].group];
            request.extend_from_slice(&group.head());
            for stretch in stretches {
                request.extend_from_slice(&self.encoded[stretch.bytes.clone()]);
            }
            group.write_tail(&mut request);
        }
        self.buffers.give_back(self.encoded);
        self.buffers.lend(request, 0)
    }

    fn group_of(&mut self, service: &Arc<Service>) -> usize {
        // Often it is the group of the previous span.
        if let Some(stretch) = self.stretches.last()
            && Arc::ptr_eq(&self.groups[stretch.group].service, service)
        {
            return stretch.group;
        }
        *self.by_service.entry(Arc::as_ptr(service).addr()).or_insert_with(|| {
            let group = Group::new(Arc::clone(service));
            if self.groups.is_empty() {
                self.encoded.resize(group.room(), 0);
            }
            self.groups.push(group);
            self.groups.len() - 1
        })
    }
}

impl Group {
    fn new(service: Arc<Service>) -> Self {
        let mut resource = Vec::new();
        message(&mut resource, 1, 0, |out| {
            for (key, value) in &service.resource {
                attributes::any(out, 1, key.as_str(), value);
            }
        });
        Self { service, resource, length: 0 }
    }

    /// The largest size of its head.
    fn room(&self) -> usize {
        2 * LONGEST_BEGIN + self.resource.len() + SCOPE.len()
    }

    /// What precedes its spans.
    fn head(&self) -> Vec<u8> {
        let scope_spans = SCOPE.len() + self.length + delimited_length(SCHEMA_URL.len());
        let schema_url = self.service.resource.schema_url().map_or(0, |url| delimited_length(url.len()));
        let mut head = Vec::with_capacity(self.room());
        begin(&mut head, 1, self.resource.len() + delimited_length(scope_spans) + schema_url);
        head.extend_from_slice(&self.resource);
        begin(&mut head, 2, scope_spans);
        head.extend_from_slice(&SCOPE);
        head
    }

    /// What follows its spans.
    fn write_tail(&self, out: &mut Vec<u8>) {
        string(out, 3, SCHEMA_URL);
        if let Some(url) = self.service.resource.schema_url() {
            string(out, 3, url);
        }
    }
}

#[cfg(test)]
pub(super) fn encode(spans: &[Span]) -> Bytes {
    let mut batch = RequestEncoder::new(Arc::default());
    for span in spans {
        batch.push(span);
    }
    batch.finish()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
    use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::span::Link;
    use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
    use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
    use prost::Message;
    use rstest::rstest;

    use super::span::PARENT_EVIDENCE;
    use super::*;
    use onlooker_engine::model::span::Evidence;
    use onlooker_engine::testing::{self as sample, below, from_elsewhere};

    fn decoded(bytes: &[u8]) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(bytes).expect("the encoding is valid")
    }

    /// Attributes of every type.
    fn of_every_type() -> Vec<KeyValue> {
        let texts = [StringValue::from("a"), StringValue::from("")];
        vec![
            KeyValue::new("text", "ä"),
            KeyValue::new("empty", ""),
            KeyValue::new("true", true),
            KeyValue::new("false", false),
            KeyValue::new("number", 200),
            KeyValue::new("zero", 0),
            KeyValue::new("negative", -1),
            KeyValue::new("ratio", 0.25),
            KeyValue::new("texts", Value::Array(Array::String(texts.to_vec()))),
            KeyValue::new("numbers", Value::Array(Array::I64(vec![1, -2, i64::MAX]))),
            KeyValue::new("ratios", Value::Array(Array::F64(vec![0.5]))),
            KeyValue::new("truths", Value::Array(Array::Bool(vec![true, false]))),
        ]
    }

    /// A span with all optional parts.
    fn full(service: &Arc<Service>) -> Span {
        let state = TraceState::from_key_value([("vendor", "7")]).unwrap();
        let link =
            |remote| SpanContext::new(TraceId::from(9), SpanId::from(8), TraceFlags::SAMPLED, remote, state.clone());
        Span {
            parent: from_elsewhere(77),
            trace_state: "vendor=7,other=a".into(),
            kind: SpanKind::Client,
            name: "SELECT users".into(),
            status: Status::error("42P01"),
            attributes: of_every_type().into_iter().collect(),
            links: vec![link(true), link(false)],
            ..sample::span(5, service)
        }
    }

    /// The same span, with these attributes, in the OpenTelemetry SDK.
    fn sdk(span: &Span, mut attributes: Vec<KeyValue>) -> SpanData {
        let time = |nanoseconds| std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanoseconds);
        let state = span.trace_state.parse().unwrap();
        attributes.extend(span.parent.map(|parent| KeyValue::new(PARENT_EVIDENCE, parent.evidence.as_str())));
        let mut links = SpanLinks::default();
        links.links = span.links.iter().map(|link| opentelemetry::trace::Link::with_context(link.clone())).collect();
        SpanData {
            span_context: SpanContext::new(span.trace_id, span.span_id, TraceFlags::SAMPLED, false, state),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| parent.span_id),
            parent_span_is_remote: span.parent.is_some_and(|parent| parent.remote),
            span_kind: span.kind.clone(),
            name: span.name.clone().into(),
            start_time: time(span.start),
            end_time: time(span.end),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.status.clone(),
            instrumentation_scope: InstrumentationScope::builder(SCOPE_NAME)
                .with_version(SCOPE_VERSION)
                .with_schema_url(SCHEMA_URL)
                .build(),
        }
    }

    #[test]
    fn a_span_is_encoded_as_by_the_sdk() {
        let service = sample::service("shop");
        let spans = [
            full(&service),
            Span { parent: below(5, Evidence::Thread), status: Status::Ok, ..sample::span(6, &service) },
        ];
        let sent = encode(&spans);
        let spans_of_sdk = [sdk(&spans[0], of_every_type()), sdk(&spans[1], sample::attributes())];
        let expected = group_spans_by_resource_and_scope(spans_of_sdk.into(), &(&service.resource).into());
        assert_eq!(decoded(&sent).resource_spans, expected);
        // Encoding again gives the same bytes: no length is padded, and no field is out of order.
        assert_eq!(sent, decoded(&sent).encode_to_vec());
    }

    #[test]
    fn a_span_without_optional_parts_has_none() {
        let service = sample::service("shop");
        let sent = decoded(&encode(&[sample::span(1, &service)]));
        let span = &sent.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.status.clone().unwrap_or_default(), Default::default());
        assert_eq!((span.parent_span_id.len(), span.trace_state.as_str(), &span.links), (0, "", &Vec::<Link>::new()));
        assert_eq!(span.flags, 0x101, "sampled, and without a remote parent");
    }

    #[test]
    fn each_service_instance_has_one_resource() {
        // Two instances with the same name have two resources.
        let services = [sample::service("shop"), sample::service("stock"), sample::service("shop")];
        let spans: Vec<Span> = (0..6).map(|id| sample::span(id + 1, &services[id as usize % 3])).collect();
        let request = encode(&spans);
        let sent = decoded(&request);
        assert_eq!(request, sent.encode_to_vec());
        let ids: Vec<Vec<u64>> = sent
            .resource_spans
            .iter()
            .map(|resource| {
                let spans = &resource.scope_spans[0].spans;
                spans.iter().map(|span| u64::from_be_bytes(span.span_id.clone().try_into().unwrap())).collect()
            })
            .collect();
        assert_eq!(ids, [[1, 4], [2, 5], [3, 6]]);
    }

    #[rstest]
    fn lengths_of_all_sizes_are_correct(
        #[values(0, 1, 100, 126, 127, 128, 129, 16_383, 16_384, 16_390, 2_097_151, 2_097_152)] size: usize,
    ) {
        let service = sample::service("shop");
        let text = "x".repeat(size);
        let span = Span {
            attributes: [KeyValue::new("text", text.clone())].into_iter().collect(),
            ..sample::span(1, &service)
        };
        let sent = encode(&[span]);
        assert_eq!(sent, decoded(&sent).encode_to_vec());
        let decoded = decoded(&sent);
        let attribute = &decoded.resource_spans[0].scope_spans[0].spans[0].attributes[0];
        assert_eq!(attribute.value, Some(Value::from(text).into()));
    }

    #[test]
    fn reused_memory_does_not_change_a_request() {
        let buffers = Arc::<Buffers>::default();
        let request = |spans: &[Span]| {
            let mut batch = RequestEncoder::new(Arc::clone(&buffers));
            spans.iter().for_each(|span| batch.push(span));
            batch.finish()
        };
        let services = [sample::service("shop"), sample::service("stock")];
        let spans: Vec<Span> = (0..9).map(|id| sample::span(id + 1, &services[id as usize % 2])).collect();
        for spans in [&spans[..], &spans[..1], &spans[1..2], &spans[2..]] {
            assert_eq!(request(spans), encode(spans));
        }
    }

    #[test]
    fn a_request_without_spans_is_empty() {
        assert_eq!(decoded(&encode(&[])), ExportTraceServiceRequest::default());
    }
}
