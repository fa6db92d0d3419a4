//! Judges the parent of every call. The true parent is known: a call's path names the request that it was made for.
//!
//! A request `/r/7` is identified by its number, and so are the calls that its server makes for it: `/a/7`, `calls.A/7` over gRPC,
//! `SELECT 1 AS r7`. The span of a Redis command contains no number. It must lie between two numbered calls of its parent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Result, ensure};

use crate::spans::{CERTAIN, Span};

/// At most this many faulty calls are shown.
const FAULTS_SHOWN: usize = 20;

/// How the parents of one server's calls were judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests of the server that were exported.
    pub requests: usize,
    /// Calls whose parent is the right request, by evidence.
    pub right: BTreeMap<String, usize>,
    /// Calls whose parent is another span, by evidence.
    pub wrong: BTreeMap<String, usize>,
    /// Calls without a parent.
    pub without_parent: usize,
    /// Descriptions of the calls with a wrong parent, then of those without a parent, each by start time.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Returns how many calls were judged.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.right.values().chain(self.wrong.values()).sum::<usize>() + self.without_parent
    }

    /// Prints the verdict as a table row, labelled with `subject`.
    #[expect(clippy::print_stderr, reason = "shown by the test runner with --nocapture")]
    pub fn print(&self, subject: &str) -> &Self {
        eprintln!("| {subject} | {self} |");
        self
    }

    /// Fails unless exactly `requests` requests were exported, with `calls` calls for each.
    pub fn expect_counts(&self, requests: usize, calls: usize) -> Result<&Self> {
        ensure!(self.requests == requests, "{} of {requests} requests were exported: {self}", self.requests);
        ensure!(self.calls() == requests * calls, "not {calls} calls for each of {requests} requests: {self}");
        Ok(self)
    }

    /// Fails unless every call has the right parent.
    pub fn expect_all_right(&self) -> Result<&Self> {
        ensure!(self.wrong.is_empty() && self.without_parent == 0, "not all right: {self}\n{}", self.shown_faults());
        Ok(self)
    }

    /// Fails unless no call has a wrong parent, and at least `percent` of the calls have the right one.
    pub fn expect_none_wrong_and_right_at_least(&self, percent: usize) -> Result<&Self> {
        ensure!(self.wrong.is_empty(), "some are wrong: {self}\n{}", self.shown_faults());
        self.expect_right_at_least(percent)
    }

    /// Fails unless every call has the right parent, found by `evidence`.
    pub fn expect_all_right_by(&self, evidence: &str) -> Result<&Self> {
        self.expect_all_right()?;
        ensure!(self.right.keys().all(|found| found == evidence), "not all by {evidence}: {self}");
        Ok(self)
    }

    /// Fails if a call has a wrong parent on a certain rung of the evidence ladder.
    pub fn expect_no_certain_wrong(&self) -> Result<&Self> {
        let certain = self.wrong.keys().any(|found| CERTAIN.contains(&found.as_str()));
        ensure!(!certain, "a certain parent is wrong: {self}\n{}", self.shown_faults());
        Ok(self)
    }

    /// Fails if a certain parent is wrong, or if more than `percent` of the calls have a wrong parent.
    pub fn expect_wrong_at_most(&self, percent: usize) -> Result<&Self> {
        self.expect_no_certain_wrong()?;
        let wrong = self.wrong.values().sum::<usize>();
        ensure!(wrong * 100 <= percent * self.calls(), "more than {percent} % wrong: {self}\n{}", self.shown_faults());
        Ok(self)
    }

    /// Fails unless at least `percent` of the calls have the right parent.
    pub fn expect_right_at_least(&self, percent: usize) -> Result<&Self> {
        let right = self.right.values().sum::<usize>();
        ensure!(right * 100 >= percent * self.calls(), "less than {percent} % right: {self}\n{}", self.shown_faults());
        Ok(self)
    }

    /// Fails unless at least `per_mille` of the calls have the right parent by `evidence`.
    pub fn expect_right_by_at_least(&self, evidence: &str, per_mille: usize) -> Result<&Self> {
        let right = self.right.get(evidence).copied().unwrap_or_default();
        ensure!(
            right * 1000 >= per_mille * self.calls(),
            "less than {per_mille} of 1000 right: {self}\n{}",
            self.shown_faults()
        );
        Ok(self)
    }

    fn shown_faults(&self) -> String {
        self.faults.iter().take(FAULTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Counts a call. Returns whether its parent is wrong.
    fn count(&mut self, call: &Span, is_right: impl Fn(&str) -> bool) -> bool {
        let Some(parent) = &call.parent else {
            self.without_parent += 1;
            return false;
        };
        let right = is_right(parent);
        let tally = if right { &mut self.right } else { &mut self.wrong };
        *tally.entry(call.get("onlooker.parent.evidence").to_owned()).or_default() += 1;
        !right
    }
}

/// Formats as table cells: calls, right ones by evidence, wrong ones by evidence, calls without a parent.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = |tally: &BTreeMap<String, usize>| {
            let parts: Vec<_> = tally.iter().map(|(evidence, count)| format!("{count} {evidence}")).collect();
            if parts.is_empty() { "0".to_owned() } else { parts.join(", ") }
        };
        write!(f, "{} | {} | {} | {}", self.calls(), tally(&self.right), tally(&self.wrong), self.without_parent)
    }
}

/// Judges the calls that the server at `address` (`HOST:PORT`) made for the requests whose number `included` accepts.
pub fn judge(spans: &[Span], address: &str, included: impl Fn(u64) -> bool) -> Verdict {
    let mut verdict = Verdict::default();
    let served = || spans.iter().filter(|span| is_served_at(span, address));
    // On a busy machine the first spans may be exported before the process was examined: they have another service.
    let services: HashSet<_> = served().map(|span| &span.service).collect();
    let requests: HashMap<_, _> = served().filter_map(|span| Some((span.span_id.as_str(), number_of(span)?))).collect();
    verdict.requests = requests.values().filter(|&&number| included(number)).count();
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == "client" && services.contains(&span.service)).collect();
    let mut wrong = Vec::new();
    // The numbered calls of each request, by which Redis commands are judged.
    let mut by_number: HashMap<u64, Vec<&Span>> = HashMap::new();
    for call in &calls {
        if let Some(number) = number_of(call).filter(|&number| included(number)) {
            by_number.entry(number).or_default().push(call);
            if verdict.count(call, |parent| requests.get(parent) == Some(&number)) {
                wrong.push(*call);
            }
        }
    }
    let numbered_calls = || by_number.values().flatten();
    let first = numbered_calls().map(|call| call.start).min();
    let last = numbered_calls().map(|call| call.end).max();
    let is_included = |call: &Span| match call.parent.as_deref().and_then(|parent| requests.get(parent)) {
        Some(&number) => included(number),
        None => first <= Some(call.start) && Some(call.start) <= last,
    };
    let mut places: HashMap<&str, usize> = HashMap::new();
    for call in calls.iter().filter(|call| is_redis_get(call) && is_included(call)) {
        let place = call.parent.as_deref().map_or(0, |parent| {
            let taken = places.entry(parent).or_default();
            *taken += 1;
            *taken
        });
        let is_wrong = verdict.count(call, |parent| {
            let theirs = requests.get(parent).and_then(|number| by_number.get(number)).map_or(&[][..], Vec::as_slice);
            let before = theirs.iter().filter(|other| other.end <= call.start).count();
            let after = theirs.iter().filter(|other| other.start >= call.end).count();
            place == 1 && before >= 1 && after >= 1 && before + after == theirs.len()
        });
        if is_wrong {
            wrong.push(*call);
        }
    }
    let without_parent = by_number.values().flatten().filter(|call| call.parent.is_none()).copied();
    let mut without_parent: Vec<_> = without_parent.take(FAULTS_SHOWN).collect();
    for calls in [&mut wrong, &mut without_parent] {
        calls.sort_by_key(|call| call.start);
        verdict.faults.extend(calls.iter().map(|call| describe_fault(call, spans, address)));
    }
    verdict
}

/// Describes a call, the parent it was given, and the request it belongs to, as far as these were exported.
fn describe_fault(call: &Span, spans: &[Span], address: &str) -> String {
    let begin = spans.first().map_or(0, |span| span.start);
    let describe = |span: &Span| {
        let millis = |at: u64| (i128::from(at) - i128::from(begin)) as f64 / 1e6;
        let end = |of: &str| {
            format!("{}:{}", span.get(&format!("network.{of}.address")), span.get(&format!("network.{of}.port")))
        };
        format!(
            "{} {} {}{} {} to {} ms, {} -> {} in {}, trace {}",
            span.span_id,
            span.line(&["error.type", "onlooker.incomplete"], true),
            span.get("url.path"),
            span.get("url.full"),
            millis(span.start),
            millis(span.end),
            end("local"),
            end("peer"),
            span.resource.get("process.pid").map_or("?", String::as_str),
            span.trace_id
        )
    };
    let parent = call.parent.as_deref().map_or_else(
        || "nothing".to_owned(),
        |parent| match spans.iter().find(|span| span.span_id == parent) {
            Some(parent) => describe(parent),
            None => format!("{parent}, which was not exported"),
        },
    );
    let number = number_of(call);
    let own = spans.iter().filter(|span| is_served_at(span, address) && number_of(span) == number && number.is_some());
    let own = own.map(describe).next().unwrap_or_else(|| "unknown, or was not exported".to_owned());
    let end = |span: &Span| [span.get("network.local.port").to_owned(), span.get("network.peer.port").to_owned()];
    let is_before = |span: &&Span| span.kind == "client" && end(span) == end(call) && span.start < call.start;
    let before = spans.iter().filter(is_before).max_by_key(|span| span.start);
    let before = before.map_or_else(|| "nothing".to_owned(), describe);
    format!(
        "{}\n    was given to {parent}\n    its request is {own}\n    before it on its connection: {before}",
        describe(call)
    )
}

/// Judges the server spans of calls to the server at `address`. All its callers must be watched: the parent of each of its
/// spans is a call. The verdict's `requests` are the calls, so check it with `expect_counts(calls, 1)`.
#[must_use]
pub fn judge_server_spans(spans: &[Span], address: &str) -> Verdict {
    let calls: HashMap<_, _> =
        spans.iter().filter(|span| goes_to(span, address)).map(|call| (call.span_id.as_str(), call)).collect();
    let mut verdict = Verdict { requests: calls.len(), ..Verdict::default() };
    for served in spans.iter().filter(|span| is_served_at(span, address)) {
        let (path, method) = (served.get("url.path"), served.get("rpc.method"));
        let is_of = |call: &&&Span| call.get("url.full").ends_with(path) && call.get("rpc.method") == method;
        let is_wrong = verdict.count(served, |parent| calls.get(parent).filter(is_of).is_some());
        if is_wrong || served.parent.is_none() {
            verdict.faults.push(describe_fault(served, spans, address));
        }
    }
    verdict
}

fn is_served_at(span: &Span, address: &str) -> bool {
    let local = (span.get("network.local.address"), span.get("network.local.port"));
    span.kind == "server" && address.split_once(':') == Some(local)
}

fn goes_to(span: &Span, address: &str) -> bool {
    let peer = (span.get("network.peer.address"), span.get("network.peer.port"));
    span.kind == "client" && address.split_once(':') == Some(peer)
}

/// Excludes the commands that a client sends when it connects.
fn is_redis_get(call: &Span) -> bool {
    call.get("db.system.name") == "redis" && call.get("db.operation.name") == "GET"
}

/// Returns the number of the request that a span is of, or that it is a call for.
#[must_use]
pub fn number_of(span: &Span) -> Option<u64> {
    let statement = span.get("db.query.text");
    if let Some((_, number)) = statement.rsplit_once(" AS r") {
        return number.parse().ok();
    }
    ["url.full", "url.path", "rpc.method"].into_iter().find_map(|key| numbered(span.get(key)))
}

/// Returns the last segment of a path if it is a number.
fn numbered(path: &str) -> Option<u64> {
    path.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{judge, judge_server_spans};
    use crate::spans;

    fn span(kind: u8, id: &str, parent: &str, (start, end): (u32, u32), attributes: &[(&str, &str)]) -> Value {
        let attributes: Vec<_> =
            attributes.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
        json!({"spanId": id, "parentSpanId": parent, "kind": kind, "attributes": attributes,
               "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string()})
    }

    #[test]
    fn each_call_is_judged_by_the_number_in_its_path() {
        let request = |id, number: &str, port, when| {
            let path = format!("/r/{number}");
            let local = [("network.local.address", "h"), ("network.local.port", port), ("url.path", &path)];
            span(2, id, "", when, &local)
        };
        let call = |parent, evidence, url, when| {
            let to = [("network.peer.address", "h"), ("network.peer.port", "90")];
            let attributes = [("onlooker.parent.evidence", evidence), ("url.full", url), to[0], to[1]];
            span(3, url, parent, when, &attributes)
        };
        let redis = |id, parent, when| {
            let evidence = ("onlooker.parent.evidence", "thread");
            let attributes = [evidence, ("db.system.name", "redis"), ("db.operation.name", "GET")];
            span(3, id, parent, when, &attributes)
        };
        let served = |id, parent, number: &str| {
            let path = format!("/a/{number}");
            let local = [("network.local.address", "h"), ("network.local.port", "90"), ("url.path", path.as_str())];
            span(2, id, parent, (11, 12), &[&local[..], &[("onlooker.parent.evidence", "host")]].concat())
        };
        let query = [("onlooker.parent.evidence", "tick"), ("db.query.text", "SELECT ? AS r8")];
        let spans = [
            request("7", "7", "80", (0, 100)),
            request("8", "8", "80", (1, 100)),
            request("9", "9", "80", (1, 100)),
            request("of another server", "7", "81", (1, 100)),
            call("7", "thread", "http://h/a/7", (10, 20)),
            call("8", "thread", "http://h/b/7", (30, 40)),
            call("8", "connect", "http://h/a/8", (10, 20)),
            call("", "", "http://h/b/8", (50, 60)),
            call("9", "thread", "http://h/a/9", (10, 20)),
            span(3, "q", "8", (30, 40), &query),
            served("of 7", "http://h/a/7", "7"),
            served("not of 8", "http://h/a/8", "7"),
            served("without parent", "", "9"),
            redis("in its place", "7", (21, 29)),
            redis("too many", "7", (22, 29)),
            redis("not between", "8", (15, 18)),
        ];
        let spans = spans::from_requests(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})]).unwrap();
        let verdict = judge(&spans, "h:80", |number| number < 9);
        assert_eq!(verdict.faults.len(), 4, "three wrong, one without parent: {:#?}", verdict.faults);
        let fault = verdict.faults.iter().find(|fault| fault.contains("http://h/b/7")).unwrap();
        let lines: Vec<_> = fault.lines().map(str::trim).collect();
        assert!(lines[1].starts_with("was given to 8 ") && lines[1].contains("/r/8"), "{fault}");
        assert!(lines[2].starts_with("its request is 7 ") && lines[2].contains("/r/7"), "{fault}");
        assert_eq!((verdict.requests, verdict.calls()), (2, 8));
        assert_eq!(verdict.to_string(), "8 | 1 connect, 2 thread, 1 tick | 3 thread | 1");
        assert!(
            verdict.expect_counts(2, 4).is_ok()
                && verdict.expect_counts(2, 3).is_err()
                && verdict.expect_counts(1, 8).is_err()
        );
        assert!(verdict.expect_all_right().is_err() && verdict.expect_wrong_at_most(100).is_err(), "thread is certain");
        assert!(verdict.expect_right_at_least(50).is_ok() && verdict.expect_right_at_least(51).is_err());
        assert_eq!(judge_server_spans(&spans, "h:90").to_string(), "3 | 1 host | 1 host | 1");
        let number_9 = judge(&spans, "h:80", |number| number == 9);
        assert!(number_9.expect_all_right_by("thread").is_ok() && number_9.expect_all_right_by("tick").is_err());
        let one_in = |calls: usize| super::Verdict {
            right: [("tick".to_owned(), calls - 1)].into(),
            wrong: [("tick".to_owned(), 1)].into(),
            ..super::Verdict::default()
        };
        assert!(one_in(100).expect_wrong_at_most(1).is_ok() && one_in(99).expect_wrong_at_most(1).is_err());
    }
}
