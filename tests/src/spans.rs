//! What was exported, as the tests read it: spans out of OTLP JSON, and whole traces as a tree of text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Evidence of a parent that may not err: see docs/parents.md.
pub(crate) const CERTAIN: [&str; 7] = ["wire", "host", "thread", "goroutine", "task", "async-id", "responder"];

/// One exported span, with the service of its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// In hex, as on the wire.
    pub trace_id: String,
    /// In hex, as on the wire.
    pub span_id: String,
    /// In hex; none for a root.
    pub parent: Option<String>,
    /// W3C tracestate, empty if none.
    pub trace_state: String,
    /// Its name.
    pub name: String,
    /// `server` or `client`; the number of any other kind.
    pub kind: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    pub end: u64,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// The description of its status.
    pub description: String,
    /// Values as text.
    pub attributes: BTreeMap<String, String>,
    /// `service.name` of its resource.
    pub service: String,
    /// The attributes of its resource, values as text.
    pub resource: BTreeMap<String, String>,
    /// Span ids of its links.
    pub links: Vec<String>,
}

impl Span {
    /// The value of an attribute, empty if the span has none of that name.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// From start to end.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// One line: service, kind and name, and what else a reader of a test has to see.
    pub(crate) fn told(&self, show: &[&str], parent_is_here: bool) -> String {
        let mut line = format!("{} {} {}", self.service, self.kind, self.name);
        let mut say = |what: &str, value: &str| {
            if !value.is_empty() {
                // Writing to a String can't fail.
                let _ = write!(line, "{what}{value}");
            }
        };
        say(" -> ", self.get("http.response.status_code"));
        say(" by ", self.get("onlooker.parent.evidence"));
        if let (Some(parent), false) = (&self.parent, parent_is_here) {
            say(" under ", parent);
        }
        match self.status.as_str() {
            "unset" => {}
            "error" => say(" error=", self.get("error.type")),
            other => say(" status=", other),
        }
        for key in show {
            say(&format!(" {key}="), self.get(key));
        }
        line
    }
}

/// Every span of these `ExportTraceServiceRequest`s, by start.
pub fn spans(requests: &[Value]) -> Result<Vec<Span>> {
    let mut spans = Vec::new();
    for resource_spans in requests.iter().flat_map(|request| list(&request["resourceSpans"])) {
        let resource = attributes(&resource_spans["resource"]);
        for span in list(&resource_spans["scopeSpans"]).flat_map(|scope| list(&scope["spans"])) {
            spans.push(read(span, &resource).with_context(|| format!("not a span: {span}"))?);
        }
    }
    sort(&mut spans);
    Ok(spans)
}

/// By start, and by end where that is the same.
pub(crate) fn sort(spans: &mut [Span]) {
    spans.sort_by_key(|span| (span.start, span.end));
}

/// The whole lines of a file of OTLP JSON lines; none if there is no such file yet.
pub fn lines(path: &Path) -> Result<Vec<Value>> {
    lines_after(path, &mut 0)
}

/// Those after the first `offset` bytes, which then are those up to the end of what was read.
pub(crate) fn lines_after(path: &Path, offset: &mut u64) -> Result<Vec<Value>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(*offset))?;
    file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    // The last line may be half written; its other half comes with the next look.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..=end]);
    *offset += whole.len() as u64;
    let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).with_context(|| format!("a line of {} is not JSON", path.display())))
        .collect()
}

/// Those of one service and kind.
#[must_use]
pub fn of(spans: &[Span], service: &str, kind: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.service == service && span.kind == kind).cloned().collect()
}

/// The spans as indented lines, children below their parents, siblings and roots by start; `show` names attributes to tell.
#[must_use]
pub fn tree(spans: &[Span], show: &[&str]) -> String {
    let here: HashSet<_> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&Span>> = HashMap::new();
    for span in spans {
        children.entry(span.parent.as_deref().filter(|parent| here.contains(parent))).or_default().push(span);
    }
    let mut text = String::new();
    // Each span is below at most one parent, and a cycle hangs below no root.
    let mut next: Vec<(usize, &Span)> =
        children.remove(&None).unwrap_or_default().into_iter().map(|root| (0, root)).collect();
    next.reverse();
    while let Some((depth, span)) = next.pop() {
        let _ = writeln!(text, "{:indent$}{}", "", span.told(show, depth > 0), indent = 2 * depth);
        let below = children.remove(&Some(span.span_id.as_str())).unwrap_or_default();
        next.extend(below.into_iter().rev().map(|child| (depth + 1, child)));
    }
    for lost in children.into_values().flatten() {
        let _ = writeln!(text, "in a circle: {}", lost.told(show, true));
    }
    text
}

/// The spans as [`tree`] has them, or, where that would be too long to read, how many there are of each kind.
#[must_use]
pub fn overview(spans: &[Span]) -> String {
    const READ: usize = 100;
    if spans.len() <= READ {
        return tree(spans, &[]);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for span in spans {
        *counts.entry(span.told(&["onlooker.incomplete"], true)).or_default() += 1;
    }
    counts.into_iter().map(|(what, count)| format!("{count:6} {what}\n")).collect()
}

/// Fails if a span begins before what caused it, its parent, or goes on when that has ended in good order. A parent that is
/// only likely may be another's, and then ends when it wants: its beginning alone is asked.
pub fn expect_causes(spans: &[Span]) -> Result<()> {
    expect_within_parents(spans, |span| CERTAIN.contains(&span.get("onlooker.parent.evidence")))
}

/// The same with every parent as if it were certain: where it has to be the right one.
pub fn expect_nested(spans: &[Span]) -> Result<()> {
    expect_within_parents(spans, |_| true)
}

fn expect_within_parents(spans: &[Span], is_certain: impl Fn(&Span) -> bool) -> Result<()> {
    let here: HashMap<_, _> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut outside = Vec::new();
    for span in spans {
        let Some(parent) = span.parent.as_deref().and_then(|parent| here.get(parent)) else { continue };
        // A caller that gives up does not end what it has caused.
        let given_up = parent.status == "error" && parent.get("http.response.status_code").is_empty()
            || !parent.get("onlooker.incomplete").is_empty();
        if span.start < parent.start || span.end > parent.end && !given_up && is_certain(span) {
            let nanos = |span: u64, parent: u64| i128::from(span) - i128::from(parent);
            outside.push(format!(
                "{}\n  begins {} ns after and ends {} ns after\n{}\n  which took {:?}",
                span.told(&[], true),
                nanos(span.start, parent.start),
                nanos(span.end, parent.end),
                parent.told(&[], true),
                parent.duration(),
            ));
        }
    }
    ensure!(
        outside.is_empty(),
        "{} of {} spans are outside of their parents:\n{}",
        outside.len(),
        spans.len(),
        outside.join("\n")
    );
    Ok(())
}

/// Fails unless the spans are `expected`, which is written as [`tree`] writes: see [`expect_lines`].
pub fn expect_tree(spans: &[Span], show: &[&str], expected: &str) -> Result<()> {
    expect_lines(&tree(spans, show), expected)
}

/// Fails unless `told` has the lines of `expected`, which may be indented as a whole. `*` at the end of an expected line
/// stands for any rest.
pub fn expect_lines(told: &str, expected: &str) -> Result<()> {
    let lines: Vec<_> = expected.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<_> = lines.iter().map(|line| &line[indent..]).collect();
    let matches = |(told, expected): (&str, &&str)| match expected.strip_suffix('*') {
        Some(beginning) => told.starts_with(beginning),
        None => told == *expected,
    };
    let same = told.lines().count() == expected.len() && told.lines().zip(&expected).all(matches);
    ensure!(same, "there is\n{told}\nbut expected was\n{}\n", expected.join("\n"));
    Ok(())
}

fn read(span: &Value, resource: &BTreeMap<String, String>) -> Result<Span> {
    let nanos = |key: &str| -> Result<u64> {
        span[key].as_str().and_then(|nanos| nanos.parse().ok()).with_context(|| format!("no {key}"))
    };
    Ok(Span {
        trace_id: text(&span["traceId"]),
        span_id: text(&span["spanId"]),
        parent: Some(text(&span["parentSpanId"])).filter(|parent| !parent.is_empty()),
        trace_state: text(&span["traceState"]),
        name: text(&span["name"]),
        kind: match span["kind"].as_u64() {
            Some(2) => "server".to_owned(),
            Some(3) => "client".to_owned(),
            other => format!("kind {other:?}"),
        },
        start: nanos("startTimeUnixNano")?,
        end: nanos("endTimeUnixNano")?,
        status: match span["status"]["code"].as_u64() {
            None | Some(0) => "unset".to_owned(),
            Some(1) => "ok".to_owned(),
            _ => "error".to_owned(),
        },
        description: text(&span["status"]["message"]),
        attributes: attributes(span),
        service: resource.get("service.name").cloned().unwrap_or_default(),
        resource: resource.clone(),
        links: list(&span["links"]).map(|link| text(&link["spanId"])).collect(),
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn attributes(holder: &Value) -> BTreeMap<String, String> {
    list(&holder["attributes"]).map(|attribute| (text(&attribute["key"]), plain(&attribute["value"]))).collect()
}

/// An `AnyValue`: the one member it has, as text. OTLP writes 64-bit integers as strings.
fn plain(value: &Value) -> String {
    match value.as_object().and_then(|members| members.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{expect_causes, expect_nested, expect_tree, spans, tree};

    #[test]
    fn a_span_is_within_what_caused_it() {
        let span = |id: &str, parent: &str, evidence: &str, (start, end): (u8, u8), more: serde_json::Value| {
            let mut span = json!({"spanId": id, "parentSpanId": parent, "startTimeUnixNano": start.to_string(),
                "endTimeUnixNano": end.to_string(),
                "attributes": [{"key": "onlooker.parent.evidence", "value": {"stringValue": evidence}}]});
            span.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            span
        };
        let is_good = |evidence: &str, child: (u8, u8), more: serde_json::Value| {
            let both = [span("a", "", "", (10, 20), more), span("b", "a", evidence, child, json!({}))];
            let spans = spans(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": both}]}]})]).unwrap();
            (expect_causes(&spans).is_ok(), expect_nested(&spans).is_ok())
        };
        assert_eq!(is_good("thread", (10, 20), json!({})), (true, true));
        assert_eq!(is_good("thread", (11, 21), json!({})), (false, false));
        assert_eq!(is_good("tick", (11, 21), json!({})), (true, false));
        assert_eq!(is_good("tick", (9, 15), json!({})), (false, false));
        let given_up = json!({"status": {"code": 2}});
        assert_eq!(is_good("thread", (11, 21), given_up), (true, true));
    }

    #[test]
    fn a_trace_is_told_as_a_tree() {
        let span = |id: &str, parent: &str, name: &str, kind: u8, start: &str| {
            json!({"traceId": "t", "spanId": id, "parentSpanId": parent, "name": name, "kind": kind,
                   "startTimeUnixNano": start, "endTimeUnixNano": "20", "status": {},
                   "attributes": [{"key": "onlooker.parent.evidence", "value": {"stringValue": "host"}}]})
        };
        let request = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [{"spans": [
                span("b", "a", "GET /", 2, "9"), span("a", "", "GET /", 3, "8"), span("c", "gone", "PUT", 2, "10"),
            ]}],
        }]});
        let spans = spans(&[request]).unwrap();
        let expected = "
            shop client GET / by host
              shop server GET / by host
            shop server PUT by host under *
        ";
        expect_tree(&spans, &[], expected).unwrap();
        assert!(expect_tree(&spans[..2], &[], expected).is_err(), "a span is missing");
        assert_eq!(tree(&spans[..1], &["kind"]), "shop client GET / by host\n");
    }
}
