//! Work that no request causes gets no request as parent, and no trace grows without limit.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Redis};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, SOAK, World, record_skip};

/// Enough requests for many heartbeats to begin while one is open.
const REQUESTS: u64 = 150;

/// The number of request ends is not known where something runs in the background.
const ANY: std::ops::RangeInclusive<usize> = 0..=usize::MAX;

/// Client spans with this operation, or with this path.
fn calls<'a>(spans: &'a [Span], what: &str) -> Vec<&'a Span> {
    let is_meant = |span: &&Span| {
        span.kind == "client" && (span.get("db.operation.name") == what || span.get("url.full").contains(what))
    };
    spans.iter().filter(is_meant).collect()
}

/// The spans of a server whose path begins with `path`.
fn requests<'a>(spans: &'a [Span], service: &str, path: &str) -> Vec<&'a Span> {
    let is_meant =
        |span: &&Span| span.service == service && span.kind == "server" && span.get("url.path").starts_with(path);
    spans.iter().filter(is_meant).collect()
}

/// Fails unless there are at least `count` calls, and none has a parent.
fn expect_no_parents(calls: &[&Span], count: usize) -> Result<()> {
    ensure!(calls.len() >= count, "only {} calls", calls.len());
    let mut wrong: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.parent.is_some()) {
        *wrong.entry(call.get("onlooker.parent.evidence")).or_default() += 1;
    }
    ensure!(wrong.is_empty(), "of {} calls some have a parent: {wrong:?}", calls.len());
    Ok(())
}

/// Waits until the agent has seen such calls while no request was open.
fn wait_for_background(recording: &Recording, what: &str) -> Result<()> {
    recording.wait_until(what, |spans| calls(spans, what).len() >= 2).map(drop)
}

fn start_background(world: &World) -> Result<(Gunicorn, Redis, App)> {
    let redis = Redis::start_unwatched(world)?;
    let flaky = App::node("flaky").start(world)?;
    let app = Gunicorn::app("background").env("REDIS_URL", redis.url()).env("BACKEND_URL", flaky.url(""));
    Ok((app.start(world)?, redis, flaky))
}

/// Before, 95 of 205 heartbeats had a request as parent.
#[test]
fn heartbeats_of_a_thread_have_no_parent() -> Result<()> {
    World::story("thread", |world| {
        let (app, _redis, _flaky) = start_background(world)?;
        let recording = Recording::start(world)?;
        wait_for_background(&recording, "SETEX")?;
        Load::on(&app.address(), "/r").run(0..REQUESTS)?;
        let spans = recording.stop(ANY)?.spans;
        expect_no_parents(&calls(&spans, "SETEX"), 50)?;
        let own = calls(&spans, "GET");
        ensure!(own.len() as u64 == REQUESTS, "{} of {REQUESTS} own calls", own.len());
        ensure!(own.iter().all(|call| call.get("onlooker.parent.evidence") == "thread"), "{}", spans::overview(&spans));
        Ok(())
    })
}

/// Before, 99 of 209 heartbeats of Node had a request as parent, by `only-candidate` or `tick`.
fn heartbeats_have_no_parent(program: &AppOptions) -> Result<()> {
    if let Some(reason) = program.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story(program.language(), |world| {
        let backend = App::node("delayed").start(world)?;
        let recording = Recording::start(world)?;
        let app = program.clone().env("BACKEND_URL", backend.url("")).start(world)?;
        wait_for_background(&recording, "/beat")?;
        let load = Load::on(&app.address(), "/r");
        load.run(0..REQUESTS)?;
        let spans = recording.stop(ANY)?.spans;
        expect_no_parents(&calls(&spans, "/beat"), 50)?;
        judge(&spans, load.address(), |_| true).print(program.language()).expect_wrong_at_most(0)?;
        Ok(())
    })
}

#[test]
fn heartbeats_of_node_have_no_parent() -> Result<()> {
    heartbeats_have_no_parent(&App::node("beating"))
}

#[test]
fn heartbeats_of_asyncio_have_no_parent() -> Result<()> {
    heartbeats_have_no_parent(&App::python("beating"))
}

#[test]
fn heartbeats_of_go_have_no_parent() -> Result<()> {
    heartbeats_have_no_parent(&App::go("beating"))
}

#[test]
fn polls_of_a_service_that_answers_at_once_have_no_parent() -> Result<()> {
    World::story("polls", |world| {
        let backend = App::node("delayed").start(world)?;
        let recording = Recording::start(world)?;
        let app = App::node("polling").env("BACKEND_URL", backend.url("")).start(world)?;
        wait_for_background(&recording, "/target-")?;
        Load::on(&app.address(), "/metrics").run(0..500)?;
        let spans = recording.stop(ANY)?.spans;
        expect_no_parents(&calls(&spans, "/target-"), 100)
    })
}

/// Before, such a call had the trace of the request and no parent: 25 of 25 such traces had two roots, one had 311.
#[test]
fn a_call_after_the_response_has_a_trace_of_its_own_with_a_link() -> Result<()> {
    const AFTER: usize = 25;
    const LOOP: usize = 300;
    World::story("after", |world| {
        let (app, _redis, _flaky) = start_background(world)?;
        let recording = Recording::start(world)?;
        for _ in 0..AFTER {
            world.curl(&[&app.url("/after/1")?])?;
        }
        world.curl(&[&app.url(&format!("/after/{LOOP}"))?])?;
        recording.wait_until("all calls", |spans| calls(spans, "STRLEN").len() == AFTER + LOOP)?;
        let spans = recording.stop(ANY)?.spans;
        let requests: HashMap<_, _> =
            requests(&spans, "background", "/after").into_iter().map(|span| (&span.span_id, &span.trace_id)).collect();
        let mut linked = HashMap::<_, usize>::new();
        for call in calls(&spans, "STRLEN") {
            ensure!(call.parent.is_none(), "{call:?}");
            let [link] = &call.links[..] else { anyhow::bail!("no link: {call:?}") };
            let trace = requests.get(link).context("the link names a request")?;
            ensure!(**trace != call.trace_id, "{call:?}");
            *linked.entry(link).or_default() += 1;
        }
        let mut counts: Vec<_> = linked.into_values().collect();
        counts.sort_unstable();
        ensure!(counts == [&[1; AFTER][..], &[LOOP]].concat(), "{counts:?}");
        Ok(())
    })
}

#[test]
fn a_loop_that_a_request_starts_leaves_its_trace_with_the_response() -> Result<()> {
    const TURNS: usize = 200;
    World::story("loop", |world| {
        let (app, _redis, _flaky) = start_background(world)?;
        let recording = Recording::start(world)?;
        world.curl(&[&app.url("/loop")?])?;
        recording.wait_until("all turns", |spans| calls(spans, "INCRBY").len() == TURNS)?;
        let spans = recording.stop(ANY)?.spans;
        let request = *requests(&spans, "background", "/loop").first().context("the request")?;
        for turn in calls(&spans, "INCRBY") {
            let is_within = turn.start <= request.end;
            ensure!(is_within || turn.trace_id != request.trace_id, "{turn:?} is in the trace of {request:?}");
        }
        Ok(())
    })
}

#[test]
fn a_query_after_the_header_belongs_to_the_request() -> Result<()> {
    World::story("streamed", |world| {
        let (app, _redis, _flaky) = start_background(world)?;
        let recording = Recording::start(world)?;
        world.curl(&[&app.url("/streamed")?])?;
        recording.wait_until("the query", |spans| !calls(spans, "EXISTS").is_empty())?;
        let spans = recording.stop(ANY)?.spans;
        let request = *requests(&spans, "background", "/streamed").first().context("the request")?;
        for query in calls(&spans, "EXISTS") {
            ensure!(query.parent.as_ref() == Some(&request.span_id), "{query:?}");
            ensure!(query.get("onlooker.parent.evidence") == "thread", "{query:?}");
        }
        Ok(())
    })
}

#[test]
fn each_retry_has_a_span_below_the_request() -> Result<()> {
    World::story("retries", |world| {
        let (app, _redis, flaky) = start_background(world)?;
        let recording = Recording::start(world)?;
        ensure!(world.curl(&[&app.url("/retries")?])? == "answer\n");
        recording.wait_until("all attempts", |spans| requests(spans, "flaky", "/flaky").len() == 3)?;
        let spans = recording.stop(ANY)?.spans;
        let request = *requests(&spans, "background", "/retries").first().context("the request")?;
        let attempts = calls(&spans, "/flaky");
        ensure!(attempts.len() == 3, "{attempts:?}");
        ensure!(attempts.iter().all(|call| call.parent.as_ref() == Some(&request.span_id)), "{attempts:?}");
        let served = requests(&spans, "flaky", "/flaky");
        let mut parents: Vec<_> = served.iter().filter_map(|span| span.parent.as_deref()).collect();
        parents.sort_unstable();
        parents.dedup();
        ensure!(parents.len() == 3, "each attempt was served: {served:?}");
        drop(flaky);
        Ok(())
    })
}

#[test]
fn a_worker_that_never_serves_makes_a_trace_for_each_call() -> Result<()> {
    let seconds = env::var(SOAK).map_or(Ok(5), |seconds| seconds.parse())?;
    World::story("worker", |world| {
        let redis = Redis::start_unwatched(world)?;
        let backend = App::node("delayed").start(world)?;
        let recording = Recording::start(world)?;
        let worker = App::python("working").argument(&format!("{seconds}"));
        let mut worker = worker.env("REDIS_URL", redis.url()).env("BACKEND_URL", backend.url("")).start(world)?;
        worker.process().wait_for_log(within(Duration::from_secs(seconds + 60)), "done", 1)?;
        let spans = recording.stop(ANY)?.spans;
        let mut traces = HashMap::<_, usize>::new();
        for span in &spans {
            *traces.entry(&span.trace_id).or_default() += 1;
        }
        // A call, and the request that it is at the other end.
        ensure!(traces.values().all(|&spans| spans <= 2), "{}", spans::overview(&spans));
        expect_no_parents(&calls(&spans, "GET"), 10)
    })
}
