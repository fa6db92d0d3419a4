//! Parents under load: every call of real servers is compared with the request that it was made for.
//!
//! Each call's path names its request: see `onlooker_tests::parents`. The called service delays each response differently,
//! so that responses overtake each other. With `--nocapture` these tests print the table of docs/parents.md.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::machine::go_release;
use onlooker_tests::parents::{Verdict, judge, judge_server_spans};
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx, Postgres, ProxyProgram, Redis, Workers};
use onlooker_tests::wait::{until, within};
use onlooker_tests::{Recording, World, record_skip};
use rstest::rstest;

/// The rounds of load: how many requests are in flight, and the numbers of the requests.
const ROUNDS: [(usize, Range<u64>); 3] = [(1, 100..130), (10, 1000..1200), (50, 10_000..10_600)];

/// Percentage of an event loop's calls that may have a wrong parent on a likely rung. The table shows none. Delays on a busy
/// machine can make a call look like another request's, but guessing would be wrong far more often.
const WRONG: usize = 1;

/// Runs all rounds of load on `program` and returns the verdict of each.
///
/// Fails unless each of these holds:
/// - Every request and each of the `calls` that it makes has a span.
/// - The `backend`'s span of every call is the child of the call's span.
/// - The balance holds. `other_ends` returns the number of request ends besides the requests and the calls to the backend.
fn run_rounds(
    world: &World,
    program: &str,
    load: &Load,
    calls: usize,
    backend: &App,
    other_ends: impl Fn() -> Result<usize>,
) -> Result<Vec<Verdict>> {
    run_rounds_after(world, program, load, calls, backend, other_ends, |_| Ok(0))
}

/// The same, after `prepare` has sent requests. It returns how many.
fn run_rounds_after(
    world: &World,
    program: &str,
    load: &Load,
    calls: usize,
    backend: &App,
    other_ends: impl Fn() -> Result<usize>,
    prepare: impl Fn(&Recording) -> Result<usize>,
) -> Result<Vec<Verdict>> {
    let recording = Recording::start(world)?;
    let mut requests = prepare(&recording)?;
    for (in_flight, numbers) in ROUNDS {
        requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
    }
    let received = backend.received_paths()?.len();
    let outcome = recording.finish(requests + 2 * received + other_ends()?)?;
    let mut verdicts = Vec::new();
    for (in_flight, numbers) in ROUNDS {
        let verdict = judge(&outcome.spans, load.address(), |number| numbers.contains(&number));
        verdict
            .print(&format!("{program} | {in_flight}"))
            .expect_counts(usize::try_from(numbers.end - numbers.start)?, calls)?;
        verdicts.push(verdict);
    }
    let served = judge_server_spans(&outcome.spans, &backend.address());
    served.print("the server spans of its calls | 1 to 50");
    served.expect_counts(received, 1)?.expect_all_right_by("host")?;
    Ok(verdicts)
}

/// A Flask application that calls the backend, Redis, PostgreSQL, and the backend again.
fn flask(program: &str, workers: Workers, processes: u32) -> Result<()> {
    World::story(program, |world| {
        let (redis, postgres) = (Redis::start(world)?, Postgres::start(world)?);
        let backend = App::node("delayed").start(world)?;
        let app = Gunicorn::app("caller")
            .workers(workers)
            .processes(processes)
            .env("BACKEND_URL", backend.url(""))
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        // Both ends of all database calls. Our own question to Redis has one end.
        let databases = || Ok(2 * postgres.statement_count()? + 2 * redis.command_count()? - 1);
        for verdict in run_rounds(world, program, &Load::on(&app.address(), "/r"), 4, &backend, databases)? {
            verdict.expect_all_right_by("thread")?;
        }
        Ok(())
    })
}

/// An application that calls the backend twice. Returns no verdict if it cannot run on this machine.
fn two_calls(program: &str, app: &AppOptions) -> Result<Vec<Verdict>> {
    backend_calls(program, app, 2)
}

/// An application that makes `calls` calls to the backend. Returns no verdict if it cannot run on this machine.
fn backend_calls(program: &str, app: &AppOptions, calls: usize) -> Result<Vec<Verdict>> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(Vec::new());
    }
    World::story(program, |world| {
        let backend = App::node("delayed").start(world)?;
        let app = app.clone().env("BACKEND_URL", backend.url("")).start(world)?;
        run_rounds(world, program, &Load::on(&app.address(), "/r"), calls, &backend, || Ok(0))
    })
}

/// The same, of an application with virtual threads. The rounds begin when a call has its parent by its virtual thread: on a busy
/// machine the agent is ready before it has found where a JVM has them.
fn virtual_threads(program: &str, app: &AppOptions) -> Result<Vec<Verdict>> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(Vec::new());
    }
    World::story(program, |world| {
        let backend = App::node("delayed").start(world)?;
        let app = app.clone().env("BACKEND_URL", backend.url("")).start(world)?;
        let load = Load::on(&app.address(), "/r");
        let until_found = |recording: &Recording| until_found_by("virtual-thread", &load, recording);
        run_rounds_after(world, program, &load, 2, &backend, || Ok(0), until_found)
    })
}

/// Fails unless all calls are right with one request in flight, and hardly any is wrong with more.
fn expect_event_loop(verdicts: &[Verdict]) -> Result<()> {
    for ((in_flight, _), verdict) in ROUNDS.iter().zip(verdicts) {
        verdict.expect_wrong_at_most(WRONG)?;
        if *in_flight == 1 {
            // There is no other request that a call could belong to.
            verdict.expect_all_right()?;
        }
    }
    Ok(())
}

#[test]
fn flask_with_one_request_at_a_time_per_process() -> Result<()> {
    flask("Flask, gunicorn sync, 4 processes", Workers::Sync, 4)
}

#[test]
fn flask_with_a_thread_pool() -> Result<()> {
    flask("Flask, gunicorn gthread, 20 threads", Workers::Threads(20), 1)
}

#[test]
fn java_with_a_thread_pool() -> Result<()> {
    for verdict in two_calls("Java HttpServer and HttpURLConnection, 20 threads", &App::java("Caller"))? {
        verdict.expect_all_right_by("thread")?;
    }
    Ok(())
}

/// The oldest JVM that is supported, and those that have virtual threads but do not use them here.
#[rstest]
#[case::java_11(11, "SocketCaller")]
#[case::java_21(21, "Caller")]
#[case::java_25(25, "Caller")]
fn java_platform_threads_prove_owners(#[case] version: u32, #[case] app: &str) -> Result<()> {
    for verdict in two_calls(&format!("Java {version} {app}, platform threads"), &App::java(app).jvm(version, &[]))? {
        verdict.expect_all_right_by("thread")?;
    }
    Ok(())
}

/// Half of the requests have a virtual thread, and half a platform thread.
#[rstest]
#[case::java_21(21)]
#[case::java_25(25)]
fn java_platform_threads_beside_virtual_ones_prove_owners(#[case] version: u32) -> Result<()> {
    let app = App::java("Caller").jvm(version, &[]).env("THREADS", "mixed");
    for verdict in two_calls(&format!("Java {version}, virtual and platform threads in turn"), &app)? {
        verdict
            .expect_all_right()?
            .expect_right_by_at_least("thread", 400)?
            .expect_right_by_at_least("virtual-thread", 400)?;
    }
    Ok(())
}

/// An agent that is slow learns how to read the virtual threads of a process only after that has served requests. What its
/// threads seemed to show until then does not stay: carriers read several requests before they respond.
#[rstest]
#[case::java_21(21)]
#[case::java_25(25)]
fn java_threads_prove_owners_when_virtual_threads_are_read_late(#[case] version: u32) -> Result<()> {
    const EARLY: Range<u64> = 0..60;
    let app = App::java("Caller").jvm(version, &[]).env("THREADS", "mixed");
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    let program = format!("Java {version}, virtual threads read late");
    World::story(&program, |world| {
        let backend = App::node("delayed").start(world)?;
        let mut recording = Recording::start_with(world, &["-vv"])?;
        recording.agent().process().signal(libc::SIGSTOP)?;
        let mut app = app.env("BACKEND_URL", backend.url("")).start(world)?;
        let load = Load::on(&app.address(), "/r");
        let mut requests = load.clone().in_flight(10).run(EARLY)?.answered.len();
        recording.agent().process().signal(libc::SIGCONT)?;
        let read = format!("the unit of work is read pid={} ", app.process().pid());
        recording.agent().wait_for_log(within(Duration::from_secs(30)), &read)?;
        for (in_flight, numbers) in ROUNDS {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let spans = recording.finish(requests + 2 * backend.received_paths()?.len())?.spans;
        let verdict = |included: &dyn Fn(u64) -> bool| judge(&spans, load.address(), included);
        verdict(&|number| EARLY.contains(&number)).print(&format!("{program}, before")).expect_no_certain_wrong()?;
        verdict(&|number| !EARLY.contains(&number))
            .print(&format!("{program}, afterwards"))
            .expect_all_right()?
            .expect_right_by_at_least("thread", 490)?
            .expect_right_by_at_least("virtual-thread", 490)?;
        Ok(())
    })
}

#[rstest]
#[case::java_21(21)]
#[case::java_25(25)]
fn java_virtual_threads_prove_owners(#[case] version: u32) -> Result<()> {
    let app = App::java("Caller").jvm(version, &[]).env("THREADS", "virtual");
    for verdict in virtual_threads(&format!("Java {version}, a virtual thread per request"), &app)? {
        verdict.expect_no_certain_wrong()?.expect_right_by_at_least("virtual-thread", 999)?;
    }
    Ok(())
}

/// Collectors move the objects that the id of a virtual thread is read from. While the pointer to one is invalid, the thread is
/// unknown, and never another one.
#[rstest]
#[case::g1_21(21, &["-XX:+UseG1GC"])]
#[case::z_21(21, &["-XX:+UseZGC"])]
#[case::generational_z_21(21, &["-XX:+UseZGC", "-XX:+ZGenerational"])]
#[case::shenandoah_21(21, &["-XX:+UseShenandoahGC"])]
#[case::serial_21(21, &["-XX:+UseSerialGC"])]
#[case::z_25(25, &["-XX:+UseZGC"])]
#[case::shenandoah_25(25, &["-XX:+UseShenandoahGC"])]
#[case::compact_headers_25(25, &["-XX:+UseParallelGC", "-XX:+UseCompactObjectHeaders"])]
fn java_virtual_threads_prove_owners_while_objects_move(#[case] version: u32, #[case] options: &[&str]) -> Result<()> {
    let jvm = [options, &["-Xmx128m"]].concat();
    let app = App::java("Caller").jvm(version, &jvm).env("THREADS", "virtual").env("GARBAGE", "1");
    let program = format!("Java {version} {}, collecting garbage all the time", options.join(" "));
    for verdict in virtual_threads(&program, &app)? {
        verdict.expect_no_certain_wrong()?.expect_right_by_at_least("virtual-thread", 950)?;
    }
    Ok(())
}

#[test]
fn flask_with_a_thread_pool_and_an_unwatched_redis_on_a_unix_socket() -> Result<()> {
    World::story("unwatched Redis", |world| {
        let redis = Redis::start_unwatched(world)?;
        let backend = App::node("delayed").start(world)?;
        let app = Gunicorn::app("caller")
            .env("BACKEND_URL", backend.url(""))
            .env("REDIS_URL", redis.unix_url())
            .start(world)?;
        // Our own question to Redis is not a call of the application.
        let commands = || Ok(redis.command_count()? - 1);
        let program = "Flask, gunicorn gthread, Redis unwatched";
        for verdict in run_rounds(world, program, &Load::on(&app.address(), "/r"), 3, &backend, commands)? {
            verdict.expect_all_right_by("thread")?;
        }
        Ok(())
    })
}

/// Percentage of the calls of Node that must have the right parent, if it awaits nothing but sockets.
const NODE_FOUND: usize = 99;

/// Fails unless no call is wrong, and the calls that were not found are few.
fn expect_async_ids(verdicts: &[Verdict]) -> Result<()> {
    for verdict in verdicts {
        verdict.expect_none_wrong_and_right_at_least(NODE_FOUND)?;
    }
    Ok(())
}

/// Fails unless all calls are right, nearly all of them by the unit that responded. It proves nothing for the first eight
/// calls of a process that can be judged, and the first may be made before the agent knows where the process has its units.
fn expect_responders(verdicts: &[Verdict]) -> Result<()> {
    const NOT_BY_RESPONDER: usize = 20;
    for (round, verdict) in verdicts.iter().enumerate() {
        // On a busy machine a response may come later than the agent waits for it.
        verdict.expect_wrong_at_most(0)?.expect_right_at_least(99)?;
        let others = if round == 0 { NOT_BY_RESPONDER } else { verdict.without_parent };
        let found = verdict.right.get("responder").copied().unwrap_or(0);
        ensure!(found + others >= verdict.calls(), "not by the responder: {verdict}");
    }
    Ok(())
}

#[test]
fn node_with_a_full_connection_pool() -> Result<()> {
    expect_async_ids(&two_calls("Node http, maxSockets 10", &App::node("caller"))?)
}

#[test]
fn node_18_with_a_full_connection_pool() -> Result<()> {
    expect_async_ids(&two_calls("the same on Node 18", &App::node("caller").node_version(18))?)
}

#[test]
fn node_22_with_a_full_connection_pool() -> Result<()> {
    expect_async_ids(&two_calls("the same on Node 22", &App::node("caller").node_version(22))?)
}

#[test]
fn node_24_with_a_full_connection_pool() -> Result<()> {
    expect_async_ids(&two_calls("the same on Node 24", &App::node("caller").node_version(24))?)
}

#[test]
fn node_with_callbacks_and_a_full_connection_pool() -> Result<()> {
    expect_async_ids(&two_calls("the same with callbacks, no promises", &App::node("callbacks"))?)
}

/// What waits for a timer, a file or another thread continues without an id. So the owner of what it does is often unknown,
/// but never another one's.
#[test]
fn node_that_awaits_more_than_sockets() -> Result<()> {
    const FOUND: usize = 10;
    let program = "Node http, maxSockets 10, awaiting timers, files, threads and names between calls";
    for verdict in backend_calls(program, &App::node("awaiting"), 3)? {
        verdict.expect_none_wrong_and_right_at_least(FOUND)?;
    }
    Ok(())
}

/// Neither pool keeps an id for what waits in its queue. So the owners of these calls are unknown.
#[test]
fn express_with_full_pools_of_undici_and_pg() -> Result<()> {
    let app = App::node("express").package("express");
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    let program = "Express, undici and pg, 10 connections each";
    World::story(program, |world| {
        let postgres = Postgres::start(world)?;
        let backend = App::node("delayed").start(world)?;
        let app = app.env("BACKEND_URL", backend.url("")).env("DATABASE_URL", postgres.url()).start(world)?;
        let databases = || Ok(2 * postgres.statement_count()?);
        let verdicts = run_rounds(world, program, &Load::on(&app.address(), "/r"), 3, &backend, databases)?;
        expect_event_loop(&verdicts)
    })
}

#[test]
fn aiohttp_with_a_full_connection_pool() -> Result<()> {
    expect_responders(&two_calls("aiohttp server and client, limit 10", &App::python("caller_asyncio"))?)
}

#[test]
fn fastapi_with_a_full_connection_pool() -> Result<()> {
    expect_responders(&two_calls("FastAPI, uvicorn and httpx, max_connections 10", &App::python("caller_fastapi"))?)
}

#[rstest]
#[case("3.8")]
#[case("3.9")]
#[case("3.10")]
#[case("3.11")]
#[case("3.12")]
#[case("3.13")]
#[case("3.14")]
fn asyncio_of_each_python_with_a_full_connection_pool(#[case] version: &str) -> Result<()> {
    let app = App::python("caller_streams").by_python(version);
    expect_responders(&two_calls(&format!("asyncio streams, Python {version}, 10 connections"), &app)?)
}

#[test]
fn asyncio_with_one_connection_that_all_requests_share() -> Result<()> {
    let app = App::python("caller_streams").env("CONNECTIONS", "shared");
    expect_responders(&two_calls("asyncio streams, one pipelined connection", &app)?)
}

#[test]
fn asyncio_with_responses_written_by_tasks_of_their_own() -> Result<()> {
    // The tasks' contexts have the addresses of contexts that made calls for other requests.
    let app = App::python("caller_streams").env("CONNECTIONS", "tasks");
    let verdicts = two_calls("asyncio streams, a task for each response", &app)?;
    verdicts.iter().try_for_each(|verdict| verdict.expect_no_certain_wrong().map(drop))
}

/// The numbers of requests before the rounds.
const FIRST: u64 = 1_000_000;

/// Sends requests until a call has its parent by `evidence`. Returns how many.
fn until_found_by(evidence: &str, load: &Load, recording: &Recording) -> Result<usize> {
    const FOUND_WITHIN: Duration = Duration::from_secs(30);
    let mut sent = 0;
    until(within(FOUND_WITHIN), &format!("a call has its parent by {evidence}"), || {
        sent += load.run(FIRST + sent..FIRST + sent + 1)?.answered.len() as u64;
        let spans = recording.spans()?;
        Ok(spans.iter().any(|span| span.get("onlooker.parent.evidence") == evidence).then_some(()))
    })?;
    Ok(usize::try_from(sent)?)
}

/// A Go program whose goroutines show the request of each call, from the moment when the agent has found them.
fn goroutines(program: &str, app: &AppOptions) -> Result<()> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story(program, |world| {
        let backend = App::node("delayed").start(world)?;
        let app = app.clone().env("BACKEND_URL", backend.url("")).start(world)?;
        let load = Load::on(&app.address(), "/r");
        let until_found = |recording: &Recording| {
            let sent = until_found_by("goroutine", &load, recording)?;
            // Go's scheduler takes ids in batches. Goroutines with ids from before the agent looked inherit nothing: use them up.
            let more = load.clone().in_flight(20).run(FIRST + 10_000..FIRST + 10_200)?.answered.len();
            Ok(sent + more)
        };
        for verdict in run_rounds_after(world, program, &load, 2, &backend, || Ok(0), until_found)? {
            verdict.expect_all_right_by("goroutine")?;
        }
        Ok(())
    })
}

#[test]
fn go_with_a_full_connection_pool() -> Result<()> {
    goroutines("Go net/http server and client, MaxConnsPerHost 10", &App::go("caller"))
}

#[test]
fn go_without_cgo() -> Result<()> {
    goroutines("the same without cgo", &App::go("caller").without_cgo())
}

#[test]
fn go_without_symbols() -> Result<()> {
    goroutines("the same, stripped (`-s -w`)", &App::go("caller").go_arguments(&["-ldflags=-s -w"]).without_cgo())
}

#[test]
fn go_without_symbols_at_any_address_with_cgo() -> Result<()> {
    let app = App::go("caller").go_arguments(&["-buildmode=pie", "-ldflags=-s -w"]);
    goroutines("the same, stripped, PIE with cgo", &app)
}

#[test]
fn go_1_24() -> Result<()> {
    let app = App::go("caller").go_release(go_release::GO_1_24).go_arguments(&["-ldflags=-s -w"]).without_cgo();
    goroutines("the same, Go 1.24, stripped", &app)
}

#[test]
fn go_1_25() -> Result<()> {
    let app = App::go("caller").go_release(go_release::GO_1_25).go_arguments(&["-ldflags=-s -w"]).without_cgo();
    goroutines("the same, Go 1.25, stripped", &app)
}

#[test]
fn go_1_27() -> Result<()> {
    let app = App::go("caller").go_release(go_release::GO_1_27).go_arguments(&["-ldflags=-s -w"]).without_cgo();
    goroutines("the same, Go 1.27, stripped", &app)
}

#[test]
fn go_whose_goroutines_write_their_calls_themselves() -> Result<()> {
    goroutines("Go net/http server, own client, 10 connections", &App::go("caller_direct"))
}

/// An axum server with reqwest and sqlx. Ten requests at a time make calls, over ten connections. The rounds begin when a call has
/// its parent by `task`, if `is_read`.
fn tokio(program: &str, app: &AppOptions, is_read: bool) -> Result<Vec<Verdict>> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(Vec::new());
    }
    World::story(program, |world| {
        let postgres = Postgres::start(world)?;
        let backend = App::node("delayed").start(world)?;
        let app = app.clone().env("BACKEND_URL", backend.url("")).env("DATABASE_URL", postgres.url()).start(world)?;
        let databases = || Ok(2 * postgres.statement_count()?);
        let load = Load::on(&app.address(), "/r");
        let until_found = |recording: &Recording| {
            if is_read { until_found_by("task", &load, recording) } else { Ok(0) }
        };
        run_rounds_after(world, program, &load, 3, &backend, databases, until_found)
    })
}

/// Fails unless no certain parent is wrong, and nearly all calls have the right one.
fn expect_tasks(verdicts: &[Verdict]) -> Result<()> {
    const FOUND: usize = 99;
    for verdict in verdicts {
        verdict.expect_wrong_at_most(WRONG)?.expect_right_at_least(FOUND)?;
    }
    Ok(())
}

#[test]
fn tokio_with_full_connection_pools() -> Result<()> {
    expect_tasks(&tokio("axum, reqwest and sqlx, 10 connections each", &App::rust("caller"), true)?)
}

#[test]
fn tokio_without_optimisation() -> Result<()> {
    expect_tasks(&tokio("the same without optimisation", &App::rust("caller").unoptimised(), true)?)
}

#[test]
fn tokio_in_one_thread() -> Result<()> {
    expect_tasks(&tokio("the same in one thread", &App::rust("caller").env("THREADS", "1"), true)?)
}

/// Nothing is read of a program without symbols.
#[test]
fn tokio_without_symbols() -> Result<()> {
    let verdicts = tokio("the same, stripped", &App::rust("caller").stripped(), false)?;
    verdicts.iter().try_for_each(|verdict| verdict.expect_wrong_at_most(WRONG).map(drop))
}

/// A task that was spawned for a request may wait for a place that another request gives away, and wakes it.
#[test]
fn tokio_with_a_spawned_task_for_each_request() -> Result<()> {
    let app = App::rust("caller").env("WORK", "spawned");
    let verdicts = tokio("the same, each request spawns a task for its calls", &app, false)?;
    verdicts.iter().try_for_each(|verdict| verdict.expect_wrong_at_most(WRONG).map(drop))
}

/// The tasks to which the requests are handed over make calls for one request after another.
#[test]
fn tokio_with_requests_handed_over_by_a_channel() -> Result<()> {
    let app = App::rust("caller").env("WORK", "worker");
    let verdicts = tokio("the same, three tasks make the calls of all requests", &app, false)?;
    verdicts.iter().try_for_each(|verdict| verdict.expect_wrong_at_most(WRONG).map(drop))
}

/// Their ticks prove nothing with several requests in flight, because their pools have queues.
#[rstest]
#[case::haproxy("HAProxy, 2 threads, maxconn 10", ProxyProgram::HaProxy)]
#[case::envoy("Envoy, 2 threads, max_connections 10", ProxyProgram::Envoy)]
fn proxies_with_a_full_connection_pool(#[case] program: &str, #[case] proxy: ProxyProgram) -> Result<()> {
    if let Some(reason) = proxy.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story(program, |world| {
        let backend = App::node("delayed").start(world)?;
        let proxy = proxy.start(world, &backend.address())?;
        for verdict in run_rounds(world, program, &Load::on(&proxy.address(), "/a"), 1, &backend, || Ok(0))? {
            verdict.expect_none_wrong_and_right_at_least(99)?;
        }
        Ok(())
    })
}

#[test]
fn nginx_as_a_proxy_with_keep_alive() -> Result<()> {
    let program = "nginx proxy, keepalive 10";
    World::story(program, |world| {
        let backend = App::node("delayed").start(world)?;
        let nginx = Nginx::proxy_to(&backend.address()).start(world)?;
        for verdict in run_rounds(world, program, &Load::on(&nginx.address(), "/a"), 1, &backend, || Ok(0))? {
            verdict.expect_all_right()?;
        }
        Ok(())
    })
}
