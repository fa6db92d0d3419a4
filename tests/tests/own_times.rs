//! When calls begin and end, against what the calling program itself measured of them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::load::Load;
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::spans::{Span, expect_nested};
use onlooker_tests::times::{Measured, expect_times};
use onlooker_tests::{Recording, World, record_skip};
use serde_json::Value;

/// What the application `timekeeper` has logged of calls of one kind: `http`, or a database's name.
fn logged(log: &str, what: &str) -> Result<Vec<Measured>> {
    let told = log.lines().filter_map(|line| line.strip_prefix("measured "));
    let mut measured = Vec::new();
    for told in told {
        let told: Value = serde_json::from_str(told).context("what it measured is JSON")?;
        if told["what"] == what {
            measured.push(serde_json::from_value(told["times"].clone()).context("times")?);
        }
    }
    Ok(measured)
}

#[test]
fn calls_and_queries_take_as_long_as_their_program_says() -> Result<()> {
    const REQUESTS: usize = 20;
    let dawdle = App::node("dawdle");
    if let Some(reason) = dawdle.missing() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("own times", |world| {
        let (redis, postgres, dawdle) = (Redis::start(world)?, Postgres::start(world)?, dawdle.start(world)?);
        // One thread: nobody else holds the interpreter.
        let mut app = Gunicorn::app("timekeeper")
            .workers(Workers::Sync)
            .env("ELSEWHERE", dawdle.address())
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        let address = app.address();
        let get = |number: usize| Connection::open(&address)?.get(&format!("/r/{number}"));
        // Its connections are made, and its statement is prepared, which psycopg does when it has seen it often enough.
        for number in 1000..1010 {
            get(number)?;
        }
        let before = app.process().log()?.len();
        let recording = Recording::start(world)?;
        for number in 0..REQUESTS {
            ensure!(get(number)?.0.status == 200);
        }
        // The application's own end, and both of its three calls.
        let account = recording.finish(7 * REQUESTS)?;
        expect_nested(&account.spans)?;
        let log = app.process().log()?[before..].to_owned();
        for what in ["http", "redis", "postgresql"] {
            let is_meant = |span: &&Span| match what {
                "http" => !span.get("http.request.method").is_empty(),
                database => span.get("db.system.name") == database,
            };
            let calls = account.spans.iter().filter(|span| span.service == "timekeeper" && span.kind == "client");
            let calls: Vec<_> = calls.filter(is_meant).cloned().collect();
            expect_times(&calls, &logged(&log, what)?).with_context(|| format!("calls to {what}"))?;
        }
        Ok(())
    })
}

#[test]
fn each_of_50_clients_requests_takes_as_long_as_it_says() -> Result<()> {
    const REQUESTS: u64 = 1000;
    let dawdle = App::node("dawdle");
    if let Some(reason) = dawdle.missing() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("50 clients", |world| {
        let dawdle = dawdle.start(world)?;
        let nginx = Nginx::proxy_to(&dawdle.address()).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&nginx.address(), "/a").in_flight(50);
        let sent = load.run_watched(world, Path::new(env!("CARGO_BIN_EXE_ask")), 0..REQUESTS)?.answered;
        // Both ends of what the clients asked nginx, and of what it asked for them.
        let account = recording.finish(4 * usize::try_from(REQUESTS)?)?;
        expect_nested(&account.spans)?;
        let mut calls: Vec<_> = account.spans.into_iter().filter(|span| span.service == "ask").collect();
        calls.sort_by_key(number_of);
        ensure!(calls.iter().filter_map(number_of).eq(sent.keys().copied()), "not every request has its span");
        expect_times(&calls, &sent.into_values().collect::<Vec<_>>())
    })
}
