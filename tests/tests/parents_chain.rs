//! A chain of servers under load: each request is one trace, and all traces are the same tree.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, record_skip};
use rstest::rstest;

const REQUESTS: u64 = 300;
const IN_FLIGHT: usize = 50;

/// nginx, Flask with 20 threads, a second nginx, and Node. Flask also calls Redis and PostgreSQL.
const TREE: &str = "
    nginx server GET /r/{id} -> 200
      nginx client GET /r/{id} -> 200 by *
        caller server GET /r/{id} -> 200 by host
          caller client GET /a/{id} -> 200 by thread
            nginx server GET /a/{id} -> 200 by host
              nginx client GET /a/{id} -> 200 by *
                delayed server GET /a/{id} -> 200 by host
          caller client GET by thread
            redis-server server GET by host
          caller client SELECT by thread
            postgres server SELECT by host
          caller client GET /b/{id} -> 200 by thread
            nginx server GET /b/{id} -> 200 by host
              nginx client GET /b/{id} -> 200 by *
                delayed server GET /b/{id} -> 200 by host
";

/// The commands that a Redis client sends when it connects belong to the request that opened the connection. Our own
/// question to Redis belongs to none.
fn is_redis_set_up(span: &Span) -> bool {
    span.get("db.system.name") == "redis" && span.get("db.operation.name") != "GET"
}

#[rstest]
#[case::nothing_added(&[])]
#[case::traceparent_added(&["--inject"])]
fn each_request_through_a_chain_is_one_trace(#[case] options: &[&str]) -> Result<()> {
    World::story("chain", |world| {
        let (redis, postgres) = (Redis::start(world)?, Postgres::start(world)?);
        let delayed = App::node("delayed").start(world)?;
        let behind = Nginx::proxy_to(&delayed.address()).named("behind").start(world)?;
        let caller = Gunicorn::app("caller")
            .env("BACKEND_URL", behind.url(""))
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        let front = Nginx::proxy_to(&caller.address()).named("front").start(world)?;

        let recording = Recording::start_with(world, options)?;
        Load::on(&front.address(), "/r").in_flight(IN_FLIGHT).run(1..REQUESTS + 1)?;
        // Each request has three ends at nginx and Flask, and each of Flask's calls has four at nginx and Node. Database calls
        // have two ends; our own question to Redis has one.
        let (calls, received) = (delayed.received_paths()?.len(), postgres.statement_count()? + redis.command_count()?);
        let outcome = recording.finish(3 * usize::try_from(REQUESTS)? + 4 * calls + 2 * received - 1)?;
        spans::expect_within_parents(&outcome.spans)?;

        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in outcome.spans.into_iter().filter(|span| !is_redis_set_up(span)) {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        for trace in traces.values() {
            let number =
                |span: &Span| Some(span.get("url.path").rsplit_once('/')?.1.to_owned()).filter(|n| !n.is_empty());
            let mut numbers: Vec<_> = trace.iter().filter_map(number).collect();
            numbers.dedup();
            spans::expect_tree(trace, &[], TREE).with_context(|| format!("in the trace of {numbers:?}"))?;
            ensure!(numbers.len() == 1, "requests {numbers:?} share one trace");
        }
        ensure!(traces.len() == usize::try_from(REQUESTS)?, "{REQUESTS} requests have {} traces", traces.len());
        Ok(())
    })
}

#[test]
fn calls_of_a_program_to_itself_form_no_cycle() -> Result<()> {
    const BEATS: usize = 20;
    let program = App::go("heartbeat");
    if let Some(reason) = program.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("heartbeat", |world| {
        let recording = Recording::start(world)?;
        let mut program = program.start(world)?;
        program.process().wait_for_log(within(Duration::from_secs(30)), "done", 1)?;
        let beat = "heartbeat client GET /beat -> 200\n  heartbeat server GET /beat -> 200 by host\n";
        recording.finish(2 * BEATS)?.expect_tree(&[], &beat.repeat(BEATS))?;
        Ok(())
    })
}
