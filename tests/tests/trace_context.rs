//! A request's `traceparent` continues the caller's trace, by the rules of W3C Trace Context.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::load::{Load, caller_of, trace_of};
use onlooker_tests::parents::{judge, number_of};
use onlooker_tests::servers::{App, Gunicorn, Nginx};
use onlooker_tests::{Curl, Recording, World, record_skip};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

#[test]
fn a_callers_trace_is_continued_through_a_chain() -> Result<()> {
    World::story("continued", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let header = format!("traceparent: {}", traceparent());
        let state = "tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
        Curl::run(world, &["--header", &header, "--header", state, &nginx.url("/hello")])?;
        recording.wait_for_spans(3)?;
        // curl sent a context of its own, so the SDK that made that context exports the client span.
        let outcome = recording.stop(4)?;
        ensure!(outcome.summary.get("spans_left_to_sdk") == 1, "{}", outcome.summary);
        outcome.expect_tree(
            &[],
            &format!(
                "
                nginx server GET /hello -> 200 by wire under {PARENT}
                  nginx client GET /hello -> 200 by wire
                    behaviours server GET /hello -> 200 by host
                "
            ),
        )?;
        for span in &outcome.spans {
            ensure!(span.trace_id == TRACE, "{span:?}");
            ensure!(span.trace_state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "{span:?}");
        }
        Ok(())
    })
}

/// Issue 7, fault 15: interfaces that shorten trace ids showed the same id for every trace.
#[test]
fn both_halves_of_trace_ids_differ_on_one_connection() -> Result<()> {
    const REQUESTS: usize = 8;
    World::story("trace ids", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        for _ in 0..REQUESTS {
            client.get("/")?;
        }
        recording.wait_for_spans(REQUESTS)?;
        let spans = recording.stop(REQUESTS)?.spans;
        for half in [0..16, 16..32] {
            let halves: HashSet<&str> = spans.iter().map(|span| &span.trace_id[half.clone()]).collect();
            ensure!(halves.len() == REQUESTS, "{halves:?}");
        }
        Ok(())
    })
}

#[test]
fn a_malformed_traceparent_is_ignored() -> Result<()> {
    let valid = traceparent();
    let malformed = [
        valid.to_uppercase(),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("00-{TRACE}-{PARENT}-0x"),
        format!("{valid}\r\ntraceparent: {valid}"),
        String::new(),
    ];
    let continued = [valid.clone(), format!("01-{TRACE}-{PARENT}-01-more"), format!("00-{TRACE}-{PARENT}-00")];
    World::story("malformed", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        for value in malformed.iter().chain(&continued) {
            let request = format!("GET / HTTP/1.1\r\nHost: shop.test\r\ntraceparent: {value}\r\n\r\n");
            // nginx accepts the request in which the field occurs twice.
            ensure!(client.exchange(request)?.0.status == 200, "{value}");
        }
        let sent = malformed.len() + continued.len();
        let outcome = recording.finish(sent)?;
        for (index, span) in outcome.spans.iter().enumerate() {
            let parent = span.parent.as_deref();
            if let Some(value) = malformed.get(index) {
                ensure!(span.trace_id != TRACE && parent.is_none(), "{value:?} was continued: {span:?}");
            } else {
                let value = &continued[index - malformed.len()];
                ensure!(span.trace_id == TRACE && parent == Some(PARENT), "{value:?} was not continued: {span:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_forwarded_context_is_not_taken_for_an_sdks() -> Result<()> {
    const REQUESTS: u64 = 500;
    let proxy = App::node("forwarding");
    if let Some(reason) = proxy.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("forwarded", |world| {
        let delayed = App::node("delayed").start(world)?;
        let proxy = proxy.env("BACKEND_URL", delayed.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&proxy.address(), "/a").in_flight(50).with_traceparent();
        let sent = load.run(0..REQUESTS)?.answered.len();
        let outcome = recording.finish(3 * sent)?;
        let verdict = judge(&outcome.spans, &proxy.address(), |_| true);
        verdict.print("a Node proxy that forwards its callers' context | 50");
        verdict.expect_counts(sent, 1)?.expect_all_right()?;
        // The context says it where Node's own ids do not.
        ensure!(verdict.right.keys().all(|found| matches!(found.as_str(), "wire" | "async-id")), "{verdict}");
        let calls: HashMap<_, _> = outcome
            .spans
            .iter()
            .filter(|span| span.kind == "client")
            .map(|call| (call.span_id.as_str(), number_of(call)))
            .collect();
        for span in outcome.spans.iter().filter(|span| span.kind == "server") {
            let number = number_of(span).with_context(|| format!("no number: {span:?}"))?;
            let parent = span.parent.as_deref().unwrap_or_default();
            let is_call = calls.get(parent) == Some(&Some(number));
            ensure!(
                is_call || parent == caller_of(number) && span.trace_id == trace_of(number),
                "wrong parent: {span:?}"
            );
        }
        Ok(())
    })
}
