//! Judges parents call by call: whose work a call is, its own path says.
//!
//! A request `/r/7` is known by its number, and so are the calls that its server makes for it: `/a/7`, `SELECT 1 AS r7`. A
//! Redis command keeps no number in its span; it is judged by its place, between two calls that do.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Result, ensure};

use crate::spans::{CERTAIN, Span};

/// How many calls are told of when there is something wrong with them.
const TOLD: usize = 20;

/// What became of the calls that one server made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests of the server that were seen.
    pub requests: usize,
    /// Calls whose parent is their request, by evidence.
    pub right: BTreeMap<String, usize>,
    /// Calls whose parent is another span, by evidence.
    pub wrong: BTreeMap<String, usize>,
    /// Calls without a parent.
    pub none: usize,
    /// What there is to know of the wrong ones, in order of their start; after them of those without a parent.
    pub faults: Vec<String>,
}

impl Verdict {
    /// How many calls were judged.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.right.values().chain(self.wrong.values()).sum::<usize>() + self.none
    }

    /// Prints it as a row of a table, after what it is of.
    #[expect(clippy::print_stderr, reason = "shown by the test runner with --nocapture")]
    pub fn tell(&self, of: &str) -> &Self {
        eprintln!("| {of} | {self} |");
        self
    }

    /// Fails unless that many requests were seen, and that many calls for each.
    pub fn is_of(&self, requests: usize, calls: usize) -> Result<&Self> {
        ensure!(self.requests == requests, "{} of {requests} requests were seen: {self}", self.requests);
        ensure!(self.calls() == requests * calls, "not {calls} calls for each of {requests} requests: {self}");
        Ok(self)
    }

    /// Fails unless every call was given its request as parent.
    pub fn is_right(&self) -> Result<&Self> {
        ensure!(self.wrong.is_empty() && self.none == 0, "not all right: {self}\n{}", self.told());
        Ok(self)
    }

    /// Fails unless every call was given its request as parent, and for this reason.
    pub fn is_right_by(&self, evidence: &str) -> Result<&Self> {
        self.is_right()?;
        ensure!(self.right.keys().all(|found| found == evidence), "not all by {evidence}: {self}");
        Ok(self)
    }

    /// Fails if a call was given the wrong parent on a certain rung of the ladder.
    pub fn is_never_certainly_wrong(&self) -> Result<&Self> {
        let certain = self.wrong.keys().any(|found| CERTAIN.contains(&found.as_str()));
        ensure!(!certain, "certain, but wrong: {self}\n{}", self.told());
        Ok(self)
    }

    /// The same, and fails if more than `percent` of the calls were given one on the others.
    pub fn is_wrong_at_most(&self, percent: usize) -> Result<&Self> {
        self.is_never_certainly_wrong()?;
        let wrong = self.wrong.values().sum::<usize>();
        ensure!(wrong * 100 <= percent * self.calls(), "more than {percent} % wrong: {self}\n{}", self.told());
        Ok(self)
    }

    /// Fails unless at least `percent` of the calls were given their request as parent.
    pub fn is_right_at_least(&self, percent: usize) -> Result<&Self> {
        let right = self.right.values().sum::<usize>();
        ensure!(right * 100 >= percent * self.calls(), "less than {percent} % right: {self}\n{}", self.told());
        Ok(self)
    }

    fn told(&self) -> String {
        self.faults.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Counts a call; whether there is a parent and it is wrong.
    fn call(&mut self, call: &Span, is_right: impl Fn(&str) -> bool) -> bool {
        let Some(parent) = &call.parent else {
            self.none += 1;
            return false;
        };
        let right = is_right(parent);
        let tally = if right { &mut self.right } else { &mut self.wrong };
        *tally.entry(call.get("onlooker.parent.evidence").to_owned()).or_default() += 1;
        !right
    }
}

/// As cells of a table: calls, right and wrong by evidence, none.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = |tally: &BTreeMap<String, usize>| {
            let parts: Vec<_> = tally.iter().map(|(evidence, count)| format!("{count} {evidence}")).collect();
            if parts.is_empty() { "0".to_owned() } else { parts.join(", ") }
        };
        write!(f, "{} | {} | {} | {}", self.calls(), tally(&self.right), tally(&self.wrong), self.none)
    }
}

/// Judges the calls that the server at `address` (`HOST:PORT`) made for requests whose number is one of those `asked` for.
pub fn judge(spans: &[Span], address: &str, asked: impl Fn(u64) -> bool) -> Verdict {
    let mut verdict = Verdict::default();
    let served = || spans.iter().filter(|span| is_served_at(span, address));
    let Some(service) = served().map(|span| &span.service).next() else { return verdict };
    let requests: HashMap<_, _> =
        served().filter_map(|span| Some((span.span_id.as_str(), numbered(span.get("url.path"))?))).collect();
    verdict.requests = requests.values().filter(|&&number| asked(number)).count();
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == "client" && &span.service == service).collect();
    let mut wrong = Vec::new();
    // What the numbered calls tell of when each request did what.
    let mut by_number: HashMap<u64, Vec<&Span>> = HashMap::new();
    for call in &calls {
        if let Some(number) = number_of(call).filter(|&number| asked(number)) {
            by_number.entry(number).or_default().push(call);
            if verdict.call(call, |parent| requests.get(parent) == Some(&number)) {
                wrong.push(*call);
            }
        }
    }
    let numbered_calls = || by_number.values().flatten();
    let first = numbered_calls().map(|call| call.start).min();
    let last = numbered_calls().map(|call| call.end).max();
    let is_asked_for = |call: &Span| match call.parent.as_deref().and_then(|parent| requests.get(parent)) {
        Some(&number) => asked(number),
        None => first <= Some(call.start) && Some(call.start) <= last,
    };
    let mut places: HashMap<&str, usize> = HashMap::new();
    for call in calls.iter().filter(|call| is_redis_get(call) && is_asked_for(call)) {
        let place = call.parent.as_deref().map_or(0, |parent| {
            let taken = places.entry(parent).or_default();
            *taken += 1;
            *taken
        });
        let is_wrong = verdict.call(call, |parent| {
            let theirs = requests.get(parent).and_then(|number| by_number.get(number)).map_or(&[][..], Vec::as_slice);
            let before = theirs.iter().filter(|other| other.end <= call.start).count();
            let after = theirs.iter().filter(|other| other.start >= call.end).count();
            place == 1 && before >= 1 && after >= 1 && before + after == theirs.len()
        });
        if is_wrong {
            wrong.push(*call);
        }
    }
    let lonely = by_number.values().flatten().filter(|call| call.parent.is_none()).copied();
    let mut lonely: Vec<_> = lonely.take(TOLD).collect();
    for calls in [&mut wrong, &mut lonely] {
        calls.sort_by_key(|call| call.start);
        verdict.faults.extend(calls.iter().map(|call| story(call, spans, address)));
    }
    verdict
}

/// A call, the span that was told to be its parent, and that of the request it belongs to, as far as they were exported.
fn story(call: &Span, spans: &[Span], address: &str) -> String {
    let begin = spans.first().map_or(0, |span| span.start);
    let tell = |span: &Span| {
        let millis = |at: u64| (i128::from(at) - i128::from(begin)) as f64 / 1e6;
        let end = |of: &str| {
            format!("{}:{}", span.get(&format!("network.{of}.address")), span.get(&format!("network.{of}.port")))
        };
        format!(
            "{} {} {}{} {} to {} ms, {} -> {} in {}, trace {}",
            span.span_id,
            span.told(&["error.type", "onlooker.incomplete"], true),
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
            Some(parent) => tell(parent),
            None => format!("{parent}, which was not exported"),
        },
    );
    let number = number_of(call);
    let own = spans.iter().filter(|span| is_served_at(span, address) && number_of(span) == number && number.is_some());
    let own = own.map(tell).next().unwrap_or_else(|| "unknown, or was not exported".to_owned());
    format!("{}\n    was given to {parent}\n    its request is {own}", tell(call))
}

/// Judges the other ends of calls to the server at `address`, whose callers are all watched: the parent of what it answers
/// is the call. The calls are the `requests` of the verdict, so that it `is_of(calls, 1)`.
#[must_use]
pub fn judge_answers(spans: &[Span], address: &str) -> Verdict {
    let calls: HashMap<_, _> =
        spans.iter().filter(|span| goes_to(span, address)).map(|call| (call.span_id.as_str(), call)).collect();
    let mut verdict = Verdict { requests: calls.len(), ..Verdict::default() };
    for answer in spans.iter().filter(|span| is_served_at(span, address)) {
        let path = answer.get("url.path");
        let is_wrong =
            verdict.call(answer, |parent| calls.get(parent).is_some_and(|call| call.get("url.full").ends_with(path)));
        if is_wrong || answer.parent.is_none() {
            verdict.faults.push(story(answer, spans, address));
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

/// Not what a client says of itself when it connects.
fn is_redis_get(call: &Span) -> bool {
    call.get("db.system.name") == "redis" && call.get("db.operation.name") == "GET"
}

/// The number of the request that a span is of, or that it is a call for.
#[must_use]
pub fn number_of(span: &Span) -> Option<u64> {
    let statement = span.get("db.query.text");
    if let Some((_, number)) = statement.rsplit_once(" AS r") {
        return number.parse().ok();
    }
    numbered(span.get("url.full")).or_else(|| numbered(span.get("url.path")))
}

/// The last segment of a path, if it is a number.
fn numbered(path: &str) -> Option<u64> {
    path.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{judge, judge_answers};
    use crate::spans;

    fn span(kind: u8, id: &str, parent: &str, (start, end): (u32, u32), attributes: &[(&str, &str)]) -> Value {
        let attributes: Vec<_> =
            attributes.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
        json!({"spanId": id, "parentSpanId": parent, "kind": kind, "attributes": attributes,
               "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string()})
    }

    #[test]
    fn each_call_is_held_against_its_own_number() {
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
        let answer = |id, parent, number: &str| {
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
            answer("of 7", "http://h/a/7", "7"),
            answer("not of 8", "http://h/a/8", "7"),
            answer("of nobody", "", "9"),
            redis("in its place", "7", (21, 29)),
            redis("too many", "7", (22, 29)),
            redis("not between", "8", (15, 18)),
        ];
        let spans = spans::spans(&[json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})]).unwrap();
        let verdict = judge(&spans, "h:80", |number| number < 9);
        assert_eq!(verdict.faults.len(), 4, "three wrong, one without parent: {:#?}", verdict.faults);
        let told = verdict.faults.iter().find(|told| told.contains("http://h/b/7")).unwrap();
        let lines: Vec<_> = told.lines().map(str::trim).collect();
        assert!(lines[1].starts_with("was given to 8 ") && lines[1].contains("/r/8"), "{told}");
        assert!(lines[2].starts_with("its request is 7 ") && lines[2].contains("/r/7"), "{told}");
        assert_eq!((verdict.requests, verdict.calls()), (2, 8));
        assert_eq!(verdict.to_string(), "8 | 1 connect, 2 thread, 1 tick | 3 thread | 1");
        assert!(verdict.is_of(2, 4).is_ok() && verdict.is_of(2, 3).is_err() && verdict.is_of(1, 8).is_err());
        assert!(verdict.is_right().is_err() && verdict.is_wrong_at_most(100).is_err(), "thread is certain");
        assert!(verdict.is_right_at_least(50).is_ok() && verdict.is_right_at_least(51).is_err());
        assert_eq!(judge_answers(&spans, "h:90").to_string(), "3 | 1 host | 1 host | 1");
        let number_9 = judge(&spans, "h:80", |number| number == 9);
        assert!(number_9.is_right_by("thread").is_ok() && number_9.is_right_by("tick").is_err());
        let one_in = |calls: usize| super::Verdict {
            right: [("tick".to_owned(), calls - 1)].into(),
            wrong: [("tick".to_owned(), 1)].into(),
            ..super::Verdict::default()
        };
        assert!(one_in(100).is_wrong_at_most(1).is_ok() && one_in(99).is_wrong_at_most(1).is_err());
    }
}
