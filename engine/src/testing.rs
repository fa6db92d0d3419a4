//! Sample spans, for tests of code that handles spans.

use std::sync::{Arc, LazyLock};

use onlooker_protocols::facts::Http;
use onlooker_protocols::{Direction, End, Exchange, Facts, Moment};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::Resource;

use crate::model::service::Service;
use crate::model::sink::Finished;
use crate::model::span::{Address, Ends, Evidence, Parent, Role, Span};

/// 2023-11-14T22:13:20Z.
pub const EPOCH: u64 = 1_700_000_000_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

pub fn service(name: &'static str) -> Arc<Service> {
    let resource = Resource::builder_empty().with_service_name(name).build();
    Arc::new(Service::new(name, resource))
}

/// The attributes of [`span`].
pub fn attributes() -> Vec<KeyValue> {
    vec![KeyValue::new("http.response.status_code", 200)]
}

/// A server span of trace 1 without a parent, of one millisecond.
pub fn span(id: u64, service: &Arc<Service>) -> Span {
    Span {
        trace_id: TraceId::from(1),
        span_id: SpanId::from(id),
        parent: None,
        trace_state: Default::default(),
        kind: SpanKind::Server,
        name: "GET /users/{id}".to_owned(),
        start: EPOCH,
        end: EPOCH + MILLISECOND,
        status: Status::Unset,
        attributes: attributes().into_iter().collect(),
        links: Vec::new(),
        service: Arc::clone(service),
    }
}

pub fn below(parent: u64, evidence: Evidence) -> Option<Parent> {
    Some(Parent { span_id: SpanId::from(parent), evidence, remote: false })
}

pub fn from_elsewhere(parent: u64) -> Option<Parent> {
    Some(Parent { span_id: SpanId::from(parent), evidence: Evidence::Wire, remote: true })
}

/// The span as sinks receive it. The facts are those of an HTTP exchange between unknown ends.
#[must_use]
pub fn finished(span: &Span) -> Finished<'_> {
    static EXCHANGE: LazyLock<Exchange> = LazyLock::new(|| Exchange {
        direction: Direction::ToServer,
        request_start: Moment::default(),
        request_end: Moment::default(),
        response_start: Some(Moment::default()),
        response_end: Some(Moment::default()),
        end: End::Complete,
        facts: Facts::Http(Http::default()),
    });
    static ENDS: LazyLock<Ends> = LazyLock::new(|| Ends::new(Role::Server, Address::Unknown, Address::Unknown));
    Finished { span, exchange: &EXCHANGE, ends: &ENDS }
}
