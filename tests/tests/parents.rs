//! Whose request is it? Every call of real servers under load is held against the request that made it.
//!
//! The load carries the truth: see `onlooker_tests::parents`. Another service that answers each call after a while of its
//! own makes answers overtake each other. What these tests print with `--nocapture` is the table of docs/parents.md.

use std::ops::Range;

use anyhow::Result;
use onlooker_tests::load::Load;
use onlooker_tests::parents::{Verdict, judge, judge_answers};
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::{Recording, World, record_skip};

/// Requests in flight, and the numbers of the requests that are sent so.
const TURNS: [(usize, Range<u64>); 3] = [(1, 100..130), (10, 1000..1200), (50, 10_000..10_600)];

/// Of a hundred calls in an event loop, how many may be given the wrong parent, said to be likely. The table shows none. What a
/// busy machine holds up may look like another request's, but a ladder that guesses is wrong far more often.
const WRONG: usize = 1;

/// Puts `program` under load, and gives the verdict for each of the turns. Fails if a request or one of the `calls` that it
/// made has no span, if the other end of one that went `elsewhere` is not its child, or if the sum is not that of the
/// requests, these calls and what `others` says of further ones, each with its other end.
fn under_load(
    world: &World,
    program: &str,
    load: &Load,
    calls: usize,
    elsewhere: &App,
    others: impl Fn() -> Result<usize>,
) -> Result<Vec<Verdict>> {
    let recording = Recording::start(world)?;
    let mut requests = 0;
    for (in_flight, numbers) in TURNS {
        requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
    }
    let asked = elsewhere.asked()?.len();
    let account = recording.finish(requests + 2 * asked + others()?)?;
    let mut verdicts = Vec::new();
    for (in_flight, numbers) in TURNS {
        let verdict = judge(&account.spans, load.address(), |number| numbers.contains(&number));
        verdict
            .tell(&format!("{program} | {in_flight}"))
            .is_of(usize::try_from(numbers.end - numbers.start)?, calls)?;
        verdicts.push(verdict);
    }
    let answers = judge_answers(&account.spans, &elsewhere.address());
    answers.tell("the other ends of its calls | 1 to 50");
    answers.is_of(asked, 1)?.is_right_by("host")?;
    Ok(verdicts)
}

/// Flask, which asks elsewhere, Redis, PostgreSQL, and elsewhere again.
fn flask(program: &str, workers: Workers, processes: u32) -> Result<()> {
    World::story(program, |world| {
        let (redis, postgres) = (Redis::start(world)?, Postgres::start(world)?);
        let elsewhere = App::node("dawdle").start(world)?;
        let app = Gunicorn::app("errands")
            .workers(workers)
            .processes(processes)
            .env("ELSEWHERE_URL", elsewhere.url(""))
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        // Of Redis both ends of what was asked but the question itself, which has one.
        let databases = || Ok(2 * postgres.asked()? + 2 * redis.asked()? - 1);
        for verdict in under_load(world, program, &Load::on(&app.address(), "/r"), 4, &elsewhere, databases)? {
            verdict.is_right_by("thread")?;
        }
        Ok(())
    })
}

/// An application that asks elsewhere twice. No verdict if it can't run here.
fn app(program: &str, app: &AppOptions) -> Result<Vec<Verdict>> {
    if let Some(reason) = app.missing() {
        record_skip(&reason);
        return Ok(Vec::new());
    }
    World::story(program, |world| {
        let elsewhere = App::node("dawdle").start(world)?;
        let app = app.clone().env("ELSEWHERE_URL", elsewhere.url("")).start(world)?;
        under_load(world, program, &Load::on(&app.address(), "/r"), 2, &elsewhere, || Ok(0))
    })
}

/// Fails unless calls of requests one by one are all right, by whatever evidence, and of others hardly any is wrong.
fn are_an_event_loops(verdicts: &[Verdict]) -> Result<()> {
    for ((in_flight, _), verdict) in TURNS.iter().zip(verdicts) {
        verdict.is_wrong_at_most(WRONG)?;
        if *in_flight == 1 {
            // Nobody else's they could be.
            verdict.is_right()?;
        }
    }
    Ok(())
}

#[test]
fn one_request_at_a_time_per_process() -> Result<()> {
    flask("Flask, gunicorn sync, 4 processes", Workers::Sync, 4)
}

#[test]
fn a_pool_of_threads() -> Result<()> {
    flask("Flask, gunicorn gthread, 20 threads", Workers::Threads(20), 1)
}

#[test]
fn a_pool_of_threads_in_a_jvm() -> Result<()> {
    for verdict in app("Java HttpServer and HttpURLConnection, 20 threads", &App::java("Errands"))? {
        verdict.is_right_by("thread")?;
    }
    Ok(())
}

#[test]
fn virtual_threads_in_a_jvm() -> Result<()> {
    let program = "Java HttpServer and HttpURLConnection, virtual threads";
    are_an_event_loops(&app(program, &App::java("Errands").jdk(21).env("THREADS", "virtual"))?)
}

#[test]
fn a_pool_of_threads_and_a_cache_on_a_unix_socket_that_is_not_watched() -> Result<()> {
    World::story("unwatched Redis", |world| {
        let redis = Redis::start_unwatched(world)?;
        let elsewhere = App::node("dawdle").start(world)?;
        let app = Gunicorn::app("errands")
            .env("ELSEWHERE_URL", elsewhere.url(""))
            .env("REDIS_URL", redis.unix_url())
            .start(world)?;
        // Our own question is not the application's.
        let commands = || Ok(redis.asked()? - 1);
        let program = "Flask, gunicorn gthread, Redis unwatched";
        for verdict in under_load(world, program, &Load::on(&app.address(), "/r"), 3, &elsewhere, commands)? {
            verdict.is_right_by("thread")?;
        }
        Ok(())
    })
}

#[test]
fn an_event_loop_with_a_full_pool_in_node() -> Result<()> {
    // As many as the pool has connections: none is handed from one request to another, so that turns still prove something.
    // All 400 are right in each run of the table.
    const RIGHT_AT_10: usize = 80;
    let verdicts = app("Node http, maxSockets 10", &App::node("errands"))?;
    are_an_event_loops(&verdicts)?;
    if let [_, at_10, _] = &verdicts[..] {
        at_10.is_right_at_least(RIGHT_AT_10)?;
    }
    Ok(())
}

#[test]
fn an_event_loop_with_a_full_pool_in_asyncio() -> Result<()> {
    are_an_event_loops(&app("aiohttp server and client, limit 10", &App::python("errands_asyncio"))?)
}

#[test]
fn an_event_loop_with_a_full_pool_in_fastapi() -> Result<()> {
    are_an_event_loops(&app("FastAPI, uvicorn and httpx, max_connections 10", &App::python("errands_fastapi"))?)
}

#[test]
fn goroutines() -> Result<()> {
    are_an_event_loops(&app("Go net/http server and client, MaxConnsPerHost 10", &App::go("errands"))?)
}

#[test]
fn a_proxy_that_keeps_connections() -> Result<()> {
    let program = "nginx proxy, keepalive 10";
    World::story(program, |world| {
        let elsewhere = App::node("dawdle").start(world)?;
        let nginx = Nginx::proxy_to(&elsewhere.address()).start(world)?;
        for verdict in under_load(world, program, &Load::on(&nginx.address(), "/a"), 1, &elsewhere, || Ok(0))? {
            verdict.is_right()?;
        }
        Ok(())
    })
}
