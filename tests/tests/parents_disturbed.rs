//! Parents under load when clients abort requests, and when the agent starts while requests are in flight.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::client::now;
use onlooker_tests::load::Load;
use onlooker_tests::parents::{Verdict, judge, number_of};
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx, wait_for_no_connections};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::within;
use onlooker_tests::{Curl, Recording, World, record_skip};

/// Starts the application `caller` and the backend that it calls. Returns none if it cannot run on this machine.
fn start_caller(world: &World, app: &AppOptions) -> Result<Option<(App, App)>> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(None);
    }
    let backend = App::node("delayed").start(world)?;
    let app = app.clone().env("BACKEND_URL", backend.url("")).start(world)?;
    Ok(Some((app, backend)))
}

/// The same as a Flask application under gunicorn, with 20 threads.
fn start_caller_in_threads(world: &World) -> Result<(Gunicorn, App)> {
    let backend = App::node("delayed").start(world)?;
    let app = Gunicorn::app("caller").env("BACKEND_URL", backend.url("")).start(world)?;
    Ok((app, backend))
}

/// Requests of which every seventh is aborted.
const DISTURBED: Range<u64> = 1000..1700;
/// How many of them are not aborted.
const COMPLETED: usize = 600;
/// Requests that follow one by one when all the others are over.
const UNDISTURBED: Range<u64> = 5000..5020;

/// Percentage of calls that may have a wrong parent on a likely rung, for completed requests seen from their beginning: see
/// parents.rs.
const WRONG: usize = 1;
/// The same for aborted requests, which the server keeps working on beside newer ones. The table shows 2 of 134.
const WRONG_ABORTED: usize = 5;

/// Runs `load` with aborting clients. Returns the verdict on the completed requests, on the aborted ones, and on requests
/// that follow when all of these are over.
fn with_aborting_clients(world: &World, program: &str, load: &Load, backend: &App) -> Result<[Verdict; 3]> {
    let recording = Recording::start(world)?;
    let disturbed = load.clone().in_flight(30).aborting(7).run(DISTURBED)?;
    // The server still works on aborted requests. Wait until it is done and the agent knows that.
    wait_for_no_connections(load.address())?;
    let received = backend.received_paths()?;
    // Every request that the server reads makes the call `/a/NUMBER` first.
    let ends = disturbed.begun(|number| received.contains(&format!("/a/{number}"))) + 2 * received.len();
    recording.wait_for_spans(ends)?;
    let undisturbed = load.run(UNDISTURBED)?.answered.len();
    let later_calls = backend.received_paths()?.len() - received.len();
    let spans = recording.finish(ends + undisturbed + 2 * later_calls)?.spans;
    let verdict = |what: &str, included: &dyn Fn(u64) -> bool| {
        let verdict = judge(&spans, load.address(), included);
        verdict.print(&format!("{program}, {what}"));
        verdict
    };
    Ok([
        verdict("completed", &|number| disturbed.answered.contains_key(&number)),
        verdict("aborted", &|number| disturbed.aborted.contains_key(&number)),
        verdict("afterwards", &|number| UNDISTURBED.contains(&number)),
    ])
}

#[test]
fn threads_prove_owners_when_clients_abort() -> Result<()> {
    World::story("gthread", |world| {
        let (app, backend) = start_caller_in_threads(world)?;
        let [completed, aborted, later] =
            with_aborting_clients(world, "gthread", &Load::on(&app.address(), "/r"), &backend)?;
        completed.expect_counts(COMPLETED, 2)?.expect_all_right_by("thread")?;
        aborted.expect_wrong_at_most(WRONG_ABORTED)?;
        later.expect_counts(20, 2)?.expect_all_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn java_threads_prove_owners_when_clients_abort() -> Result<()> {
    World::story("jvm", |world| {
        let Some((app, backend)) = start_caller(world, &App::java("Caller"))? else { return Ok(()) };
        let [completed, aborted, later] =
            with_aborting_clients(world, "jvm", &Load::on(&app.address(), "/r"), &backend)?;
        completed.expect_counts(COMPLETED, 2)?.expect_all_right_by("thread")?;
        aborted.expect_wrong_at_most(WRONG_ABORTED)?;
        later.expect_counts(20, 2)?.expect_all_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn aborted_requests_are_no_candidates_for_later_calls() -> Result<()> {
    World::story("node", |world| {
        let Some((app, backend)) = start_caller(world, &App::node("caller"))? else { return Ok(()) };
        let [completed, aborted, later] =
            with_aborting_clients(world, "node", &Load::on(&app.address(), "/r"), &backend)?;
        completed.expect_counts(COMPLETED, 2)?.expect_wrong_at_most(WRONG)?;
        aborted.expect_wrong_at_most(WRONG_ABORTED)?;
        // The second call of each. The tick proves its owner only if the count of runnable requests has come back to one.
        later.expect_counts(20, 2)?.expect_all_right()?;
        ensure!(later.right.get("tick") >= Some(&20), "not every second call by tick: {later}");
        Ok(())
    })
}

/// Starts an agent during `load`. Returns the verdict on requests that began before it was ready, and on later ones. Each
/// later request must have spans for itself and for both ends of its `calls`.
fn start_agent_during_load(world: &World, program: &str, load: &Load, calls: usize) -> Result<[Verdict; 2]> {
    let load = load.clone().in_flight(20);
    let ((recording, started, ready), sent) = load.run_during(1000, |progress| {
        progress.wait_for_more(100)?;
        let started = now();
        let recording = Recording::start(world)?;
        let ready = progress.next_number();
        progress.wait_for_more(500)?;
        Ok((recording, started, ready))
    })?;
    let ends = |requests: usize| requests * (1 + 2 * calls);
    let complete = sent.answered.range(ready..).count();
    let possible = sent.answered.values().filter(|times| times.end >= started).count();
    let is_later = |span: &&Span| number_of(span).is_some_and(|number| number >= ready);
    recording
        .wait_until("spans of requests after ready", |spans| spans.iter().filter(is_later).count() >= ends(complete))?;
    let spans = recording.stop(ends(complete)..=ends(possible))?.spans;
    let before = judge(&spans, load.address(), |number| number < ready);
    let after = judge(&spans, load.address(), |number| number >= ready);
    before.print(&format!("{program}, before the agent was ready"));
    after.print(&format!("{program}, after the agent was ready"));
    after.expect_counts(complete, calls)?;
    Ok([before, after])
}

#[test]
fn threads_prove_owners_when_the_agent_starts_during_load() -> Result<()> {
    World::story("gthread", |world| {
        let (app, _backend) = start_caller_in_threads(world)?;
        let [before, after] = start_agent_during_load(world, "gthread", &Load::on(&app.address(), "/r"), 2)?;
        before.expect_no_certain_wrong()?;
        after.expect_all_right_by("thread")?;
        Ok(())
    })
}

#[test]
fn event_loops_get_no_wrong_parents_when_the_agent_starts_during_load() -> Result<()> {
    for app in [App::node("caller"), App::python("caller_asyncio"), App::go("caller")] {
        World::story(app.language(), |world| {
            let Some((running, _backend)) = start_caller(world, &app)? else { return Ok(()) };
            let load = Load::on(&running.address(), "/r");
            let [before, after] = start_agent_during_load(world, app.language(), &load, 2)?;
            before.expect_wrong_at_most(WRONG)?;
            after.expect_wrong_at_most(WRONG)?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn nginx_gets_no_wrong_parents_when_the_agent_starts_during_load() -> Result<()> {
    World::story("proxy", |world| {
        let backend = App::node("delayed").start(world)?;
        let nginx = Nginx::proxy_to(&backend.address()).start(world)?;
        let [before, after] = start_agent_during_load(world, "proxy", &Load::on(&nginx.address(), "/a"), 1)?;
        before.expect_no_certain_wrong()?;
        after.expect_all_right()?;
        Ok(())
    })
}

#[test]
fn calls_after_a_100_continue_belong_to_the_request() -> Result<()> {
    World::story("continue", |world| {
        let (app, _backend) = start_caller_in_threads(world)?;
        let recording = Recording::start(world)?;
        let (body, url) = ("x".repeat(5000), app.url("/r/7")?);
        // The server reads the head, answers with 100 (Continue), and only then reads the body.
        let curl = Curl::run(world, &["--header", "Expect: 100-continue", "--data", &body, &url])?;
        ensure!(curl.status() == 200 && curl.body == b"7\n");
        recording.finish(6)?.expect_tree(
            &[],
            "
            curl client POST /r/{id} -> 200
              caller server POST /r/{id} -> 200 by host
                caller client GET /a/{id} -> 200 by thread
                  delayed server GET /a/{id} -> 200 by host
                caller client GET /b/{id} -> 200 by thread
                  delayed server GET /b/{id} -> 200 by host
            ",
        )?;
        Ok(())
    })
}

/// Two goroutines were started by a request, whose connection then carries others. The first call of one of them is made during one
/// of these.
#[test]
fn a_goroutine_that_outlives_its_request_does_not_belong_to_later_ones() -> Result<()> {
    const REQUESTS: Range<u64> = 100..130;
    const POLLS: usize = 2 * 20;
    World::story("goroutine in the background", |world| {
        let Some((mut app, _backend)) = start_caller(world, &App::go("poller"))? else { return Ok(()) };
        let mut recording = Recording::start_with(world, &["-vv"])?;
        let read = format!("the unit of work is read pid={} ", app.process().pid());
        recording.agent().wait_for_log(within(Duration::from_secs(30)), &read)?;
        let answered = Load::on(&app.address(), "/r").run(REQUESTS)?.answered.len();
        app.process().wait_for_log(within(Duration::from_secs(30)), "done", 2)?;
        let spans = recording.finish(answered + 2 * (answered + POLLS))?.spans;
        let is_poll = |span: &&Span| ["/poll/x", "/late/x"].iter().any(|path| span.get("url.full").ends_with(path));
        let polls: Vec<_> = spans.iter().filter(|span| span.kind == "client").filter(is_poll).collect();
        let first = spans.iter().find(|span| span.get("url.path") == format!("/r/{}", REQUESTS.start));
        let first = first.map(|span| span.span_id.as_str());
        let proven = polls.iter().filter(|poll| poll.get("onlooker.parent.evidence") == "goroutine");
        let (right, wrong): (Vec<_>, Vec<_>) = proven.partition(|poll| poll.parent.as_deref() == first);
        let names = |polls: &[&&Span]| polls.iter().map(|poll| poll.get("url.full").to_owned()).collect::<Vec<_>>();
        ensure!(polls.len() == POLLS, "{} of {POLLS} polls have a span", polls.len());
        ensure!(wrong.is_empty(), "polls of later requests: {:?}", names(&wrong));
        // The request that started the goroutine waits for this one.
        ensure!(right.len() == 1 && right[0].get("url.full").ends_with("/poll/x"), "polls of it: {:?}", names(&right));
        Ok(())
    })
}
