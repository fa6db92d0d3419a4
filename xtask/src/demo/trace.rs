//! Whether the demo's trace is all there, read from the OTLP JSON lines that the agent writes beside what it prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// nginx and the two Flask services, by `service.name`.
const SERVICES: [&str; 3] = ["nginx", "storefront", "inventory"];

/// The databases, as `db.system.name` names them.
const DATABASES: [&str; 2] = ["postgresql", "redis"];

/// What is known of one trace so far.
#[derive(Debug, Default)]
struct Trace {
    services: BTreeSet<String>,
    databases: BTreeSet<String>,
    spans: BTreeSet<String>,
    parents: Vec<String>,
}

/// Some if one trace in the file has all services, both databases and no span whose parent is missing, but for its root.
pub(super) fn complete(file: &Path) -> Result<Option<()>> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(None) };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let requests: Vec<Value> = whole
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("the agent wrote a line that is not JSON")?;
    Ok(traces(&requests).values().any(Trace::is_complete).then_some(()))
}

impl Trace {
    fn is_complete(&self) -> bool {
        let roots = self.parents.iter().filter(|parent| parent.is_empty()).count();
        let orphans = self.parents.iter().filter(|parent| !parent.is_empty() && !self.spans.contains(*parent)).count();
        SERVICES.iter().all(|service| self.services.contains(*service))
            && DATABASES.iter().all(|database| self.databases.contains(*database))
            && (roots, orphans) == (1, 0)
    }
}

fn traces(requests: &[Value]) -> BTreeMap<String, Trace> {
    let mut traces: BTreeMap<String, Trace> = BTreeMap::new();
    for resource_spans in requests.iter().flat_map(|request| list(&request["resourceSpans"])) {
        let service = attribute(&resource_spans["resource"], "service.name").unwrap_or_default();
        for span in list(&resource_spans["scopeSpans"]).flat_map(|scope| list(&scope["spans"])) {
            let trace = traces.entry(text(&span["traceId"])).or_default();
            trace.services.insert(service.clone());
            trace.databases.extend(attribute(span, "db.system.name"));
            trace.spans.insert(text(&span["spanId"]));
            trace.parents.push(text(&span["parentSpanId"]));
        }
    }
    traces
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn attribute(holder: &Value, key: &str) -> Option<String> {
    let found = list(&holder["attributes"]).find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::traces;

    fn span(service: &str, id: &str, parent: &str, database: &str) -> Value {
        json!({ "resourceSpans": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] },
            "scopeSpans": [{ "spans": [{
                "traceId": "t", "spanId": id, "parentSpanId": parent,
                "attributes": [{ "key": "db.system.name", "value": { "stringValue": database } }],
            }]}],
        }]})
    }

    #[test]
    fn a_trace_is_complete_when_nothing_of_it_is_missing() {
        let mut spans = vec![
            span("nginx", "a", "", ""),
            span("storefront", "b", "a", ""),
            span("inventory", "c", "b", "postgresql"),
            span("inventory", "d", "b", "redis"),
        ];
        assert!(traces(&spans)["t"].is_complete());
        spans.remove(1);
        assert!(!traces(&spans)["t"].is_complete());
    }
}
