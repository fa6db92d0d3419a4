//! Whose request is it? Every call of real servers under load is held against the request that made it.
//!
//! The load carries the truth: see `onlooker_tests::parents`. Another service that answers each call after a while of its
//! own makes answers overtake each other. The rows that these tests print with `--nocapture` are the table of
//! docs/benchmarks.md.

use std::ops::Range;

use anyhow::{Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::parents::{Verdict, judge};
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::{Recording, World, record_skip};

/// Requests in flight, and the numbers of the requests that are sent so.
const TURNS: [(usize, Range<u64>); 3] = [(1, 100..130), (10, 1000..1200), (50, 10_000..10_600)];

#[expect(clippy::print_stderr, reason = "shown with --nocapture: the table of docs/benchmarks.md")]
fn tell(program: &str, in_flight: usize, verdict: &Verdict) {
    eprintln!("| {program} | {in_flight} | {verdict} |");
}

/// Puts `program`, which listens at `address`, under load, and gives the verdict for each of the turns. Fails if a request or
/// one of the calls that it made has no span.
fn under_load(world: &World, program: &str, load: &Load, calls: usize) -> Result<Vec<Verdict>> {
    let recording = Recording::start(world)?;
    for (in_flight, numbers) in TURNS {
        load.clone().in_flight(in_flight).run(numbers)?;
    }
    let account = recording.finish()?;
    let mut verdicts = Vec::new();
    for (in_flight, numbers) in TURNS {
        let verdict = judge(&account.spans, load.address(), &numbers);
        tell(program, in_flight, &verdict);
        let sent = usize::try_from(numbers.end - numbers.start)?;
        ensure!(verdict.requests == sent, "{} of {sent} requests have spans\n{}", verdict.requests, account.summary);
        ensure!(verdict.calls() == calls * sent, "{verdict} for {sent} requests\n{}", account.summary);
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

fn all_right(verdicts: &[Verdict], evidence: &str) -> Result<()> {
    for verdict in verdicts {
        ensure!(verdict.right_by(evidence) == verdict.calls(), "not all right by {evidence}: {verdict}");
    }
    Ok(())
}

fn none_certainly_wrong(verdicts: &[Verdict]) -> Result<()> {
    for verdict in verdicts {
        ensure!(verdict.certainly_wrong() == 0, "wrong on a certain rung: {verdict}");
    }
    Ok(())
}

/// Flask, which asks elsewhere, Redis, PostgreSQL, and elsewhere again.
fn flask(world: &World, workers: Workers, processes: u32) -> Result<Vec<Verdict>> {
    let (redis, postgres) = (Redis::start(world)?, Postgres::start(world)?);
    let elsewhere = App::node("dawdle").start(world)?;
    let app = Gunicorn::app("errands")
        .workers(workers)
        .processes(processes)
        .env("ELSEWHERE_URL", elsewhere.url(""))
        .env("REDIS_URL", redis.url())
        .env("DATABASE_URL", postgres.url())
        .start(world)?;
    let program = match workers {
        Workers::Sync => format!("Flask, gunicorn sync, {processes} processes"),
        Workers::Threads(threads) => format!("Flask, gunicorn gthread, {threads} threads"),
    };
    under_load(world, &program, &Load::on(&app.address(), "/r"), 4)
}

#[test]
fn one_request_at_a_time_per_process() -> Result<()> {
    all_right(&World::story("sync", |world| flask(world, Workers::Sync, 4))?, "thread")
}

#[test]
fn a_pool_of_threads() -> Result<()> {
    all_right(&World::story("gthread", |world| flask(world, Workers::Threads(20), 1))?, "thread")
}

fn app(program: &str, app: &AppOptions) -> Result<Vec<Verdict>> {
    if let Some(reason) = app.missing() {
        record_skip(&reason);
        return Ok(Vec::new());
    }
    World::story(program, |world| {
        let elsewhere = App::node("dawdle").start(world)?;
        let app = app.clone().env("ELSEWHERE_URL", elsewhere.url("")).start(world)?;
        under_load(world, program, &Load::on(&app.address(), "/r"), 2)
    })
}

#[test]
fn an_event_loop_with_a_full_pool_in_node() -> Result<()> {
    none_certainly_wrong(&app("Node http, maxSockets 10", &App::node("errands"))?)
}

#[test]
fn an_event_loop_with_a_full_pool_in_asyncio() -> Result<()> {
    none_certainly_wrong(&app("aiohttp, limit 10", &App::python("errands_asyncio"))?)
}

#[test]
fn goroutines() -> Result<()> {
    none_certainly_wrong(&app("Go net/http, MaxConnsPerHost 10", &App::go("errands"))?)
}

#[test]
fn threads_of_a_jvm() -> Result<()> {
    all_right(&app("Java HttpServer, 20 threads", &App::java("Errands"))?, "thread")
}

#[test]
fn a_proxy_with_connections_kept_alive() -> Result<()> {
    World::story("proxy", |world| {
        let elsewhere = App::node("dawdle").start(world)?;
        let nginx = Nginx::proxy_to(&elsewhere.address()).start(world)?;
        let verdicts = under_load(world, "nginx proxy, keepalive 10", &Load::on(&nginx.address(), "/a"), 1)?;
        none_certainly_wrong(&verdicts)
    })
}
