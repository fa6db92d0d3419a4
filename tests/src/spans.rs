//! Reads exported spans from OTLP JSON, and prints and checks traces as trees of text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Evidence on which a parent is certain: see docs/parents.md.
pub(crate) const CERTAIN: [&str; 10] =
    ["wire", "host", "environment", "fork", "goroutine", "virtual-thread", "task", "async-id", "thread", "responder"];

/// An exported span, with its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Hexadecimal.
    pub trace_id: String,
    /// Hexadecimal.
    pub span_id: String,
    /// Span id of the parent, hexadecimal; none for a root.
    pub parent: Option<String>,
    /// W3C tracestate; empty if there is none.
    pub trace_state: String,
    /// Span name.
    pub name: String,
    /// `server`, `client`, or the number of another kind.
    pub kind: String,
    /// Start time in nanoseconds since the Unix epoch.
    pub start: u64,
    /// End time in nanoseconds since the Unix epoch.
    pub end: u64,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// Description of the status.
    pub description: String,
    /// Attributes, with their values as text.
    pub attributes: BTreeMap<String, String>,
    /// `service.name` of the resource.
    pub service: String,
    /// Attributes of the resource, with their values as text.
    pub resource: BTreeMap<String, String>,
    /// Span ids of the links.
    pub links: Vec<String>,
}

impl Span {
    /// The value of an attribute; empty if the span does not have it.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// End minus start.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// Formats the span as one line: service, kind, name, status, evidence, and the attributes in `show`.
    pub(crate) fn line(&self, show: &[&str], parent_is_here: bool) -> String {
        let mut line = format!("{} {} {}", self.service, self.kind, self.name);
        let mut append = |what: &str, value: &str| {
            if !value.is_empty() {
                // Writing to a String never fails.
                let _ = write!(line, "{what}{value}");
            }
        };
        append(" -> ", self.get("http.response.status_code"));
        append(" by ", self.get("onlooker.parent.evidence"));
        if let (Some(parent), false) = (&self.parent, parent_is_here) {
            append(" under ", parent);
        }
        match self.status.as_str() {
            "unset" => {}
            "error" => append(" error=", self.get("error.type")),
            other => append(" status=", other),
        }
        for key in show {
            append(&format!(" {key}="), self.get(key));
        }
        line
    }
}

/// Returns the spans of these `ExportTraceServiceRequest`s, by start time.
pub fn from_requests(requests: &[Value]) -> Result<Vec<Span>> {
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

/// Sorts by start time, then by end time.
pub(crate) fn sort(spans: &mut [Span]) {
    spans.sort_by_key(|span| (span.start, span.end));
}

/// Reads the complete lines of a file of OTLP JSON lines; none if the file does not exist yet.
pub fn read_lines(path: &Path) -> Result<Vec<Value>> {
    read_lines_after(path, &mut 0)
}

/// Reads the complete lines after `offset`, and moves `offset` behind them.
pub(crate) fn read_lines_after(path: &Path, offset: &mut u64) -> Result<Vec<Value>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(*offset))?;
    file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    // The last line may be half written; the next call reads it.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..=end]);
    *offset += whole.len() as u64;
    let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).with_context(|| format!("a line of {} is not JSON", path.display())))
        .collect()
}

/// Fails unless the spans are these, in any order. `line` makes a line of a span. `expected` is sorted.
pub fn expect_each(spans: &[Span], line: fn(&Span) -> String, expected: &[&str]) -> Result<()> {
    let mut seen: Vec<_> = spans.iter().map(line).collect();
    seen.sort();
    ensure!(seen == expected, "{seen:#?}");
    Ok(())
}

/// Returns the spans of one service and kind.
#[must_use]
pub fn of_service(spans: &[Span], service: &str, kind: &str) -> Vec<Span> {
    spans.iter().filter(|span| span.service == service && span.kind == kind).cloned().collect()
}

/// Prints the spans as indented lines, children below parents, by start time. `show` names attributes to include.
#[must_use]
pub fn tree(spans: &[Span], show: &[&str]) -> String {
    let here: HashSet<_> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&Span>> = HashMap::new();
    for span in spans {
        children.entry(span.parent.as_deref().filter(|parent| here.contains(parent))).or_default().push(span);
    }
    let mut text = String::new();
    // Each span has at most one parent, and spans in a cycle are reachable from no root.
    let mut next: Vec<(usize, &Span)> =
        children.remove(&None).unwrap_or_default().into_iter().map(|root| (0, root)).collect();
    next.reverse();
    while let Some((depth, span)) = next.pop() {
        let _ = writeln!(text, "{:indent$}{}", "", span.line(show, depth > 0), indent = 2 * depth);
        let below = children.remove(&Some(span.span_id.as_str())).unwrap_or_default();
        next.extend(below.into_iter().rev().map(|child| (depth + 1, child)));
    }
    for cyclic in children.into_values().flatten() {
        let _ = writeln!(text, "in a cycle: {}", cyclic.line(show, true));
    }
    text
}

/// Prints the spans like [`tree`], or, if there are too many to read, the number of spans of each kind.
#[must_use]
pub fn overview(spans: &[Span]) -> String {
    const READABLE: usize = 100;
    if spans.len() <= READABLE {
        return tree(spans, &[]);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for span in spans {
        *counts.entry(span.line(&["onlooker.incomplete"], true)).or_default() += 1;
    }
    counts.into_iter().map(|(what, count)| format!("{count:6} {what}\n")).collect()
}

/// Fails if a trace has several roots: spans without a parent.
pub fn expect_one_root_per_trace(spans: &[Span]) -> Result<()> {
    let mut roots: HashMap<&str, Vec<&Span>> = HashMap::new();
    for root in spans.iter().filter(|span| span.parent.is_none()) {
        roots.entry(&root.trace_id).or_default().push(root);
    }
    let several = roots.into_iter().filter(|(_, roots)| roots.len() > 1);
    let several: Vec<_> = several
        .map(|(trace, roots)| {
            let shown: Vec<_> = roots.iter().take(5).map(|root| root.line(&[], true)).collect();
            format!("trace {trace} has {} roots: {}", roots.len(), shown.join(", "))
        })
        .collect();
    ensure!(several.is_empty(), "{} traces have several roots:\n{}", several.len(), several.join("\n"));
    Ok(())
}

/// Fails if a span begins before its parent, or ends after it though the parent ended normally.
///
/// The end is checked only if the parent is certain. A likely parent may be the wrong one.
pub fn expect_within_certain_parents(spans: &[Span]) -> Result<()> {
    check_within_parents(spans, |span| CERTAIN.contains(&span.get("onlooker.parent.evidence")))
}

/// Like [`expect_within_certain_parents`], but also checks the ends below likely parents.
pub fn expect_within_parents(spans: &[Span]) -> Result<()> {
    check_within_parents(spans, |_| true)
}

fn check_within_parents(spans: &[Span], is_certain: impl Fn(&Span) -> bool) -> Result<()> {
    let here: HashMap<_, _> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut outside = Vec::new();
    for span in spans {
        let Some(parent) = span.parent.as_deref().and_then(|parent| here.get(parent)) else { continue };
        // The work for a request goes on after its client aborts it.
        let aborted = parent.status == "error" && parent.get("http.response.status_code").is_empty()
            || !parent.get("onlooker.incomplete").is_empty();
        if span.start < parent.start || span.end > parent.end && !aborted && is_certain(span) {
            let nanos = |span: u64, parent: u64| i128::from(span) - i128::from(parent);
            outside.push(format!(
                "{}\n  begins {} ns after and ends {} ns after\n{}\n  which took {:?}",
                span.line(&[], true),
                nanos(span.start, parent.start),
                nanos(span.end, parent.end),
                parent.line(&[], true),
                parent.duration(),
            ));
        }
    }
    ensure!(
        outside.is_empty(),
        "{} of {} spans are not within their parents:\n{}",
        outside.len(),
        spans.len(),
        outside.join("\n")
    );
    Ok(())
}

/// Fails unless the spans are `expected`, written like the output of [`tree`]: see [`expect_lines`].
pub fn expect_tree(spans: &[Span], show: &[&str], expected: &str) -> Result<()> {
    expect_lines(&tree(spans, show), expected)
}

/// Fails unless `text` has the lines of `expected`, which may be indented as a whole. A `*` at the end of an expected line
/// matches any rest.
pub fn expect_lines(text: &str, expected: &str) -> Result<()> {
    let lines: Vec<_> = expected.lines().filter(|line| !line.trim().is_empty()).collect();
    let indent = lines.iter().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let expected: Vec<_> = lines.iter().map(|line| &line[indent..]).collect();
    let matches = |(line, expected): (&str, &&str)| match expected.strip_suffix('*') {
        Some(beginning) => line.starts_with(beginning),
        None => line == *expected,
    };
    let same = text.lines().count() == expected.len() && text.lines().zip(&expected).all(matches);
    ensure!(same, "found\n{text}\nbut expected\n{}\n", expected.join("\n"));
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

/// Converts the single member of an `AnyValue` to text. OTLP JSON writes 64-bit integers as strings.
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

    use super::{expect_tree, expect_within_certain_parents, expect_within_parents, from_requests, tree};

    #[test]
    fn a_span_must_lie_within_its_parent() {
        let span = |id: &str, parent: &str, evidence: &str, (start, end): (u8, u8), more: serde_json::Value| {
            let mut span = json!({"spanId": id, "parentSpanId": parent, "startTimeUnixNano": start.to_string(),
                "endTimeUnixNano": end.to_string(),
                "attributes": [{"key": "onlooker.parent.evidence", "value": {"stringValue": evidence}}]});
            span.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            span
        };
        let is_good = |evidence: &str, child: (u8, u8), more: serde_json::Value| {
            let both = [span("a", "", "", (10, 20), more), span("b", "a", evidence, child, json!({}))];
            let spans = from_requests(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": both}]}]})]).unwrap();
            (expect_within_certain_parents(&spans).is_ok(), expect_within_parents(&spans).is_ok())
        };
        assert_eq!(is_good("thread", (10, 20), json!({})), (true, true));
        assert_eq!(is_good("thread", (11, 21), json!({})), (false, false));
        assert_eq!(is_good("tick", (11, 21), json!({})), (true, false));
        assert_eq!(is_good("tick", (9, 15), json!({})), (false, false));
        let aborted = json!({"status": {"code": 2}});
        assert_eq!(is_good("thread", (11, 21), aborted), (true, true));
    }

    #[test]
    fn a_trace_is_printed_as_a_tree() {
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
        let spans = from_requests(&[request]).unwrap();
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
