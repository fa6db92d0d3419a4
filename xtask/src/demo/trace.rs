//! Whether the demo's trace is all there, read from the OTLP JSON lines that the agent writes beside what it prints.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::Result;
use onlooker_tests::spans::{self, Span};

/// From who asks to who is asked last, each the parent of the next: three services, their ends told apart by kind.
const CHAIN: [&str; 6] =
    ["curl client", "nginx server", "nginx client", "storefront server", "storefront client", "inventory server"];

/// What the last of the chain asks, as `db.system.name` names it, each answered by a span of its own.
const DATABASES: [[&str; 2]; 2] = [
    ["inventory client of redis", "redis-server server of redis"],
    ["inventory client of postgresql", "postgres server of postgresql"],
];

/// What the trace that has most of it lacks of the whole chain; nothing if there is a trace that is whole.
pub(super) fn faults(file: &Path) -> Result<Vec<String>> {
    let mut traces: HashMap<String, Vec<Span>> = HashMap::new();
    for span in spans::from_requests(&spans::read_lines(file)?)? {
        traces.entry(span.trace_id.clone()).or_default().push(span);
    }
    let nearest = traces.values().map(|trace| faults_of(trace)).min_by_key(Vec::len);
    Ok(nearest.unwrap_or_else(|| vec!["no span came".to_owned()]))
}

fn faults_of(trace: &[Span]) -> Vec<String> {
    let here: HashMap<_, _> = trace.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let mut faults = Vec::new();
    let roots = trace.iter().filter(|span| span.parent.is_none()).count();
    if roots != 1 {
        faults.push(format!("{roots} spans have no parent"));
    }
    let is_orphan = |span: &&Span| span.parent.as_deref().is_some_and(|parent| !here.contains_key(parent));
    faults.extend(trace.iter().filter(is_orphan).map(|span| format!("the parent of `{}` is missing", step(span))));

    let lines: BTreeSet<_> = trace.iter().map(|span| line(span, &here)).collect();
    for database in DATABASES {
        let whole = [&CHAIN[..], &database].concat();
        // Below the first that is missing nothing can be in its place.
        let missing = (1..=whole.len()).find(|&length| !lines.contains(&whole[..length].join(" > ")));
        if let Some(length) = missing {
            let above = if length == 1 { "the root".to_owned() } else { format!("below `{}`", whole[length - 2]) };
            let fault = format!("`{}` is not {above}", whole[length - 1]);
            // Both need the chain.
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    faults
}

/// The span's ancestors, the first of them first, and the span itself.
fn line(span: &Span, here: &HashMap<&str, &Span>) -> String {
    let parent = |span: &&Span| here.get(span.parent.as_deref()?).copied();
    // No longer than the trace, in case it is a circle.
    let mut steps: Vec<_> = std::iter::successors(Some(span), parent).take(here.len()).map(step).collect();
    steps.reverse();
    steps.join(" > ")
}

fn step(span: &Span) -> String {
    let of = match span.get("db.system.name") {
        "" => String::new(),
        database => format!(" of {database}"),
    };
    format!("{} {}{of}", span.service, span.kind)
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
        faults(file.path())
    }

    #[test]
    fn a_trace_is_whole_when_each_end_of_each_step_is_in_its_place() -> Result<()> {
        assert_eq!(faults_with(|_| ())?, [""; 0]);
        assert_eq!(faults_with(Vec::clear)?, ["no span came"]);
        let without_redis = faults_with(|rows| rows.retain(|row| row.0 != "redis-server"))?;
        assert_eq!(without_redis, ["`redis-server server of redis` is not below `inventory client of redis`"]);
        let without_curl = faults_with(|rows| rows.retain(|row| row.0 != "curl"))?;
        let expected =
            ["0 spans have no parent", "the parent of `nginx server` is missing", "`curl client` is not the root"];
        assert_eq!(without_curl, expected);
        Ok(())
    }

    #[test]
    fn one_tree_with_all_services_is_not_enough() -> Result<()> {
        let at_nginx = faults_with(|rows| rows[3].3 = "b")?;
        assert_eq!(at_nginx, ["`storefront server` is not below `nginx client`"]);
        let at_the_root = faults_with(|rows| rows[8].3 = "a")?;
        assert_eq!(at_the_root, ["`inventory client of postgresql` is not below `inventory server`"]);
        Ok(())
    }

    #[test]
    fn a_circle_has_no_root() -> Result<()> {
        let faults = faults_with(|rows| rows[0].3 = "j")?;
        assert_eq!(faults, ["0 spans have no parent", "`curl client` is not the root"]);
        Ok(())
    }
}
