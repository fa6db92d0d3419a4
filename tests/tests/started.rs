//! Processes that are started for a request, or for a span that their environment names.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, Gunicorn, Workers};
use onlooker_tests::spans::Span;
use onlooker_tests::{Recording, World};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The calls for each request's number, and the requests, for requests whose path begins with `path`.
fn numbered<'a>(spans: &'a [Span], path: &str) -> (Vec<&'a Span>, HashMap<u64, &'a Span>) {
    let calls = spans.iter().filter(|span| span.kind == "client" && span.get("url.full").contains("/a/")).collect();
    let served = spans.iter().filter(|span| span.kind == "server" && span.get("url.path").starts_with(path));
    (calls, served.filter_map(|span| Some((number_of(span)?, span))).collect())
}

/// Fails unless the processes that were started for requests called with their request as parent, by `fork`: at least nine of
/// ten. A thread of Python may wait for the interpreter's lock before it waits for its child.
fn expect_forks(spans: &[Span], path: &str, count: usize) -> Result<()> {
    let (calls, requests) = numbered(spans, path);
    ensure!(calls.len() == count && requests.len() == count, "{} calls, {} requests", calls.len(), requests.len());
    let is_right = |call: &&Span| {
        let request = number_of(call).and_then(|number| requests.get(&number));
        call.parent.as_ref() == request.map(|request| &request.span_id)
    };
    let (right, others): (Vec<&Span>, Vec<&Span>) = calls.into_iter().partition(is_right);
    let wrong = others.iter().filter(|call| call.parent.is_some()).count();
    let by = |evidence: &str| right.iter().filter(|call| call.get("onlooker.parent.evidence") == evidence).count();
    print(&format!("{path}: {} by fork, {wrong} wrong, {} without a parent", by("fork"), others.len() - wrong));
    ensure!(wrong == 0 && by("fork") * 10 >= count * 9, "{path}: {} of {count} by fork, {wrong} wrong", by("fork"));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "shown by the test runner with --nocapture")]
fn print(line: &str) {
    eprintln!("{line}");
}

/// Before, the calls of such a process had no parent.
fn forks(path: &str) -> Result<()> {
    World::story(path, |world| {
        let backend = App::node("delayed").start(world)?;
        let app = Gunicorn::app("starting").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&app.address(), path).in_flight(4);
        let requests = load.run(0..40)?.answered.len();
        let outcome = recording.finish(3 * requests)?;
        expect_forks(&outcome.spans, path, requests)
    })
}

#[test]
fn a_program_that_a_request_runs_and_waits_for_calls_for_it() -> Result<()> {
    forks("/wait")
}

#[test]
fn a_program_that_a_request_polls_for_output_calls_for_it() -> Result<()> {
    forks("/captured")
}

#[test]
fn a_program_that_a_request_reads_from_calls_for_it() -> Result<()> {
    forks("/output")
}

#[test]
fn the_children_of_a_shell_that_a_request_runs_call_for_it() -> Result<()> {
    forks("/shell")
}

#[test]
fn a_child_that_a_request_waits_for_calls_for_it() -> Result<()> {
    forks("/fork")
}

#[test]
fn a_child_that_goes_on_after_the_response_calls_for_no_request() -> Result<()> {
    World::story("daemon", |world| {
        let backend = App::node("delayed").start(world)?;
        let app = Gunicorn::app("starting").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let requests = Load::on(&app.address(), "/daemon").run(0..5)?.answered.len();
        let spans = recording.finish(3 * requests)?.spans;
        let (calls, served) = numbered(&spans, "/daemon");
        ensure!(calls.len() == requests && served.len() == requests);
        ensure!(calls.iter().all(|call| call.parent.is_none()), "{calls:?}");
        Ok(())
    })
}

/// gunicorn forks its workers outside of requests.
#[test]
fn the_workers_of_a_server_are_no_children_of_a_request() -> Result<()> {
    World::story("prefork", |world| {
        let backend = App::node("delayed").start(world)?;
        let recording = Recording::start(world)?;
        let app = Gunicorn::app("caller").workers(Workers::Sync).processes(2).env("BACKEND_URL", backend.url(""));
        let app = app.start(world)?;
        let requests = Load::on(&app.address(), "/r").in_flight(4).run(0..40)?.answered.len();
        let spans = recording.finish(5 * requests)?.spans;
        ensure!(spans.iter().all(|span| span.get("onlooker.parent.evidence") != "fork"));
        Ok(())
    })
}

#[test]
fn the_environment_of_a_program_names_the_parent_of_its_calls() -> Result<()> {
    World::story("environment", |world| {
        let app = Gunicorn::app("starting").start(world)?;
        let recording = Recording::start(world)?;
        let mut curl = world.command("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", &app.url("/slow")?])
            .env("TRACEPARENT", format!("00-{TRACE}-{PARENT}-01"))
            .env("TRACESTATE", "rojo=00f067aa0ba902b7")
            .env("BAGGAGE", "user=somebody");
        world.run(&mut curl)?;
        let outcome = recording.finish(2)?;
        outcome.expect_tree(
            &[],
            &format!(
                "
                curl client GET /slow -> 200 by environment under {PARENT}
                  starting server GET /slow -> 200 by host
                "
            ),
        )?;
        for span in &outcome.spans {
            ensure!(span.trace_id == TRACE && span.trace_state == "rojo=00f067aa0ba902b7", "{span:?}");
            ensure!(!format!("{span:?}").contains("somebody"), "{span:?}");
        }
        Ok(())
    })
}

#[test]
fn a_malformed_environment_is_ignored() -> Result<()> {
    World::story("malformed", |world| {
        let app = Gunicorn::app("starting").env("TRACEPARENT", format!("00-{TRACE}-{PARENT}-01")).start(world)?;
        let recording = Recording::start(world)?;
        let mut curl = world.command("curl");
        curl.args(["--silent", "--noproxy", "*", &app.url("/slow")?])
            .env("TRACEPARENT", format!("00-{TRACE}-{PARENT}"));
        world.run(&mut curl)?;
        let outcome = recording.finish(2)?;
        outcome.expect_tree(&[], "curl client GET /slow -> 200\n  starting server GET /slow -> 200 by host")?;
        ensure!(outcome.spans.iter().all(|span| span.trace_id != TRACE), "{:?}", outcome.spans);
        Ok(())
    })
}

/// A request's own span is nearer than the caller's, which the request hands on.
#[test]
fn a_context_that_a_request_hands_on_leaves_the_request_as_parent() -> Result<()> {
    World::story("handed on", |world| {
        let backend = App::node("delayed").start(world)?;
        let app = Gunicorn::app("starting").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&app.address(), "/handed").with_traceparent();
        let requests = load.run(0..10)?.answered.len();
        let outcome = recording.finish(3 * requests)?;
        expect_forks(&outcome.spans, "/handed", requests)?;
        let (calls, served) = numbered(&outcome.spans, "/handed");
        for call in calls.into_iter().filter(|call| call.parent.is_some()) {
            let request = number_of(call).and_then(|number| served.get(&number)).context("its request")?;
            ensure!(call.trace_id == request.trace_id, "{call:?}");
        }
        Ok(())
    })
}
