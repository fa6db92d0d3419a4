//! Checks that one of the demo's traces is complete. Reads the OTLP JSON lines that the agent writes to a file.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::Result;
use onlooker_tests::spans::{self, Span};

/// The spans from nginx to the last service, each the parent of the next: service and span kind.
const CHAIN: [&str; 5] = ["nginx server", "nginx client", "storefront server", "storefront client", "inventory server"];

/// Below the last span of the chain: the client and server spans of each database, with its `db.system.name`.
const DATABASES: [[&str; 2]; 2] = [
    ["inventory client of redis", "redis-server server of redis"],
    ["inventory client of postgresql", "postgres server of postgresql"],
];

/// The faults of the trace that has the fewest. Empty if a trace is complete. `client` is the service in front of nginx.
pub(super) fn faults(file: &Path, client: &str) -> Result<Vec<String>> {
    let mut traces: HashMap<String, Vec<Span>> = HashMap::new();
    for span in spans::from_requests(&spans::read_lines(file)?)? {
        traces.entry(span.trace_id.clone()).or_default().push(span);
    }
    let nearest = traces.values().map(|trace| faults_of(trace, client)).min_by_key(Vec::len);
    Ok(nearest.unwrap_or_else(|| vec!["no span was exported".to_owned()]))
}

fn faults_of(trace: &[Span], client: &str) -> Vec<String> {
    let root = format!("{client} client");
    let spans: HashMap<_, _> = trace.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut faults = Vec::new();
    let roots = trace.iter().filter(|span| span.parent.is_none()).count();
    if roots != 1 {
        faults.push(format!("{roots} spans have no parent"));
    }
    let is_orphan = |span: &&Span| span.parent.as_deref().is_some_and(|parent| !spans.contains_key(parent));
    faults.extend(trace.iter().filter(is_orphan).map(|span| format!("the parent of `{}` is missing", step(span))));

    let paths: BTreeSet<_> = trace.iter().map(|span| path(span, &spans)).collect();
    for database in DATABASES {
        let whole = [&[&*root], &CHAIN[..], &database].concat();
        // Only the first missing span is a fault: nothing below it can be in its place.
        let missing = (1..=whole.len()).find(|&length| !paths.contains(&whole[..length].join(" > ")));
        if let Some(length) = missing {
            let above = if length == 1 { "the root".to_owned() } else { format!("below `{}`", whole[length - 2]) };
            let fault = format!("`{}` is not {above}", whole[length - 1]);
            // Both databases share the chain above them.
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    faults
}

/// The span's ancestors, the root first, and the span itself.
fn path(span: &Span, spans: &HashMap<&str, &Span>) -> String {
    let parent = |span: &&Span| spans.get(span.parent.as_deref()?).copied();
    // At most as long as the trace, in case of a cycle.
    let mut steps: Vec<_> = std::iter::successors(Some(span), parent).take(spans.len()).map(step).collect();
    steps.reverse();
    steps.join(" > ")
}

fn step(span: &Span) -> String {
    let system = match span.get("db.system.name") {
        "" => String::new(),
        database => format!(" of {database}"),
    };
    format!("{} {}{system}", span.service, span.kind)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::Result;
    use serde_json::{Value, json};

    use super::faults;

    /// Service, kind, id, parent, database.
    type Row = (&'static str, u8, &'static str, &'static str, &'static str);

    const SERVER: u8 = 2;
    const CLIENT: u8 = 3;

    const WHOLE: [Row; 10] = [
        ("curl", CLIENT, "a", "", ""),
        ("nginx", SERVER, "b", "a", ""),
        ("nginx", CLIENT, "c", "b", ""),
        ("storefront", SERVER, "d", "c", ""),
        ("storefront", CLIENT, "e", "d", ""),
        ("inventory", SERVER, "f", "e", ""),
        ("inventory", CLIENT, "g", "f", "redis"),
        ("redis-server", SERVER, "h", "g", "redis"),
        ("inventory", CLIENT, "i", "f", "postgresql"),
        ("postgres", SERVER, "j", "i", "postgresql"),
    ];

    fn request((service, kind, id, parent, database): Row) -> Value {
        let attribute = |key: &str, value: &str| json!([{ "key": key, "value": { "stringValue": value } }]);
        json!({ "resourceSpans": [{
            "resource": { "attributes": attribute("service.name", service) },
            "scopeSpans": [{ "spans": [{
                "traceId": "t", "spanId": id, "parentSpanId": parent, "kind": kind,
                "startTimeUnixNano": "1", "endTimeUnixNano": "2",
                "attributes": attribute("db.system.name", database),
            }]}],
        }]})
    }

    fn faults_with(change: impl FnOnce(&mut Vec<Row>)) -> Result<Vec<String>> {
        let mut rows = WHOLE.to_vec();
        change(&mut rows);
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), rows.into_iter().map(|row| request(row).to_string() + "\n").collect::<String>())?;
        faults(file.path(), "curl")
    }

    #[test]
    fn a_trace_is_complete_when_every_span_has_its_place() -> Result<()> {
        assert_eq!(faults_with(|_| ())?, [""; 0]);
        assert_eq!(faults_with(Vec::clear)?, ["no span was exported"]);
        let without_redis = faults_with(|rows| rows.retain(|row| row.0 != "redis-server"))?;
        assert_eq!(without_redis, ["`redis-server server of redis` is not below `inventory client of redis`"]);
        let without_curl = faults_with(|rows| rows.retain(|row| row.0 != "curl"))?;
        let expected =
            ["0 spans have no parent", "the parent of `nginx server` is missing", "`curl client` is not the root"];
        assert_eq!(without_curl, expected);
        Ok(())
    }

    #[test]
    fn a_span_below_the_wrong_parent_is_a_fault() -> Result<()> {
        let at_nginx = faults_with(|rows| rows[3].3 = "b")?;
        assert_eq!(at_nginx, ["`storefront server` is not below `nginx client`"]);
        let at_the_root = faults_with(|rows| rows[8].3 = "a")?;
        assert_eq!(at_the_root, ["`inventory client of postgresql` is not below `inventory server`"]);
        Ok(())
    }

    #[test]
    fn a_cycle_has_no_root() -> Result<()> {
        let faults = faults_with(|rows| rows[0].3 = "j")?;
        assert_eq!(faults, ["0 spans have no parent", "`curl client` is not the root"]);
        Ok(())
    }
}
