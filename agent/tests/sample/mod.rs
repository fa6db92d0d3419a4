//! Spans to export, and exporters to send them with.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use onlooker::export::{self, Choices, Config, Exporting, Output};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::Service;
use onlooker_engine::model::span::Span;
use onlooker_engine::testing::finished;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::Resource;

/// How long exporters may take to end. Without a fault they take much less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a shipment of `count` spans of two services. The first id is `first`.
pub(crate) fn send(exporting: &Exporting, first: u64, count: u64) {
    let services = ["shop", "stock"].map(|name| {
        let resource = Resource::builder_empty().with_service_name(name).build();
        Arc::new(Service::new(name, resource))
    });
    let span = |id: u64| Span {
        trace_id: TraceId::from(u128::from(id)),
        span_id: SpanId::from(id),
        parent: None,
        trace_state: Default::default(),
        kind: SpanKind::Server,
        name: "GET /users/{id}".into(),
        start: 1_700_000_000_000_000_000,
        end: 1_700_000_000_001_000_000,
        status: Status::Unset,
        attributes: [KeyValue::new("http.request.method", "GET")].into_iter().collect(),
        links: Vec::new(),
        service: Arc::clone(&services[usize::from(id.is_multiple_of(2))]),
    };
    let mut shipment = exporting.shipment();
    for id in first..first + count {
        shipment.add(finished(&span(id)));
    }
}

/// The exporters that these variables choose, and their counters.
pub(crate) fn start(variables: &[(&str, &str)], output: Output) -> (Exporting, Arc<Counters>) {
    let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
    let config = Config::read(&Choices::default(), &variable).expect("the variables are valid");
    let counters = Arc::new(Counters::default());
    (export::start(&config, output, Arc::clone(&counters)).expect("exporting starts"), counters)
}

/// An output that is discarded.
pub(crate) fn discarded() -> Output {
    Output::new(std::io::sink(), 120, false)
}

/// Exported, queue full, failed, rejected; together they must be the spans made.
pub(crate) fn counted(counters: &Counters) -> [u64; 4] {
    assert_eq!(counters.spans_made.get(), counters.spans_judged(), "every span is counted once");
    [
        counters.spans_exported.get(),
        counters.spans_dropped_queue_full.get(),
        counters.spans_dropped_export_failed.get(),
        counters.spans_rejected_by_collector.get(),
    ]
}
