//! Start and end times of client spans, compared with what the calling program measured.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::load::Load;
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::spans::{Span, expect_within_parents};
use onlooker_tests::times::{Measured, expect_times};
use onlooker_tests::{Recording, World, record_skip};
use serde_json::Value;

/// Returns the times that the application `timekeeper` logged for calls of one kind: `http`, or a database's name.
fn logged_times(log: &str, kind: &str) -> Result<Vec<Measured>> {
    let lines = log.lines().filter_map(|line| line.strip_prefix("measured "));
    let mut measured = Vec::new();
    for line in lines {
        let entry: Value = serde_json::from_str(line).context("a `measured` line is not JSON")?;
        if entry["kind"] == kind {
            measured.push(serde_json::from_value(entry["times"].clone()).context("a `measured` line has no times")?);
        }
    }
    Ok(measured)
}

#[test]
fn spans_of_calls_and_queries_match_their_programs_times() -> Result<()> {
    const REQUESTS: usize = 20;
    let delayed = App::node("delayed");
    if let Some(reason) = delayed.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("own times", |world| {
        let (redis, postgres, delayed) = (Redis::start(world)?, Postgres::start(world)?, delayed.start(world)?);
        // One thread, so that no other thread holds the interpreter.
        let mut app = Gunicorn::app("timekeeper")
            .workers(Workers::Sync)
            .env("BACKEND_ADDRESS", delayed.address())
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        let address = app.address();
        let get = |number: usize| RawClient::open(&address)?.get(&format!("/r/{number}"));
        // Opens the connections. psycopg prepares a statement after a number of executions.
        for number in 1000..1010 {
            get(number)?;
        }
        let before = app.process().log()?.len();
        let recording = Recording::start(world)?;
        for number in 0..REQUESTS {
            ensure!(get(number)?.0.status == 200);
        }
        // The application's own end, and both ends of its three calls.
        let outcome = recording.finish(7 * REQUESTS)?;
        expect_within_parents(&outcome.spans)?;
        let log = app.process().log()?[before..].to_owned();
        for kind in ["http", "redis", "postgresql"] {
            let is_of_kind = |span: &&Span| match kind {
                "http" => !span.get("http.request.method").is_empty(),
                database => span.get("db.system.name") == database,
            };
            let calls = outcome.spans.iter().filter(|span| span.service == "timekeeper" && span.kind == "client");
            let calls: Vec<_> = calls.filter(is_of_kind).cloned().collect();
            expect_times(&calls, &logged_times(&log, kind)?).with_context(|| format!("{kind} calls"))?;
        }
        Ok(())
    })
}

#[test]
fn spans_of_50_concurrent_clients_match_their_times() -> Result<()> {
    const REQUESTS: u64 = 1000;
    let delayed = App::node("delayed");
    if let Some(reason) = delayed.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("50 clients", |world| {
        let delayed = delayed.start(world)?;
        let nginx = Nginx::proxy_to(&delayed.address()).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&nginx.address(), "/a").in_flight(50);
        let sent = load.run_watched(world, Path::new(env!("CARGO_BIN_EXE_load_client")), 0..REQUESTS)?.answered;
        // Both ends of the clients' requests to nginx, and of nginx's calls.
        let outcome = recording.finish(4 * usize::try_from(REQUESTS)?)?;
        expect_within_parents(&outcome.spans)?;
        let mut calls: Vec<_> = outcome.spans.into_iter().filter(|span| span.service == "load_client").collect();
        calls.sort_by_key(number_of);
        ensure!(calls.iter().filter_map(number_of).eq(sent.keys().copied()), "a request has no span or several");
        expect_times(&calls, &sent.into_values().collect::<Vec<_>>())
    })
}
