//! A chain of servers under load: each request is one trace, and every trace is the same tree.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, record_skip};

const REQUESTS: u64 = 300;
const IN_FLIGHT: usize = 50;

/// nginx, Flask with 20 threads, nginx again, Node; and Redis and PostgreSQL beside.
const TREE: &str = "
    nginx server GET /r/{id} -> 200
      nginx client GET /r/{id} -> 200 by *
        errands server GET /r/{id} -> 200 by host
          errands client GET /a/{id} -> 200 by thread
            nginx server GET /a/{id} -> 200 by host
              nginx client GET /a/{id} -> 200 by *
                dawdle server GET /a/{id} -> 200 by host
          errands client GET by thread
            redis-server server GET by host
          errands client SELECT by thread
            postgres server SELECT by host
          errands client GET /b/{id} -> 200 by thread
            nginx server GET /b/{id} -> 200 by host
              nginx client GET /b/{id} -> 200 by *
                dawdle server GET /b/{id} -> 200 by host
";

/// What a Redis client says of itself when it connects belongs to the request that made it connect, and to no other; and we
/// have asked Redis how much it was asked.
fn is_introduction(span: &Span) -> bool {
    span.get("db.system.name") == "redis" && span.get("db.operation.name") != "GET"
}

#[test]
fn each_request_through_a_chain_is_one_trace() -> Result<()> {
    World::story("chain", |world| {
        let (redis, postgres) = (Redis::start(world)?, Postgres::start(world)?);
        let dawdle = App::node("dawdle").start(world)?;
        let behind = Nginx::proxy_to(&dawdle.address()).named("behind").start(world)?;
        let errands = Gunicorn::app("errands")
            .env("ELSEWHERE_URL", behind.url(""))
            .env("REDIS_URL", redis.url())
            .env("DATABASE_URL", postgres.url())
            .start(world)?;
        let front = Nginx::proxy_to(&errands.address()).named("front").start(world)?;

        let recording = Recording::start(world)?;
        Load::on(&front.address(), "/r").in_flight(IN_FLIGHT).run(1..REQUESTS + 1)?;
        // Of nginx, Flask, nginx and Node; of the databases both ends of what was asked but the question to Redis, which has
        // one.
        let (calls, asked) = (dawdle.asked()?.len(), postgres.asked()? + redis.asked()?);
        let account = recording.finish(3 * usize::try_from(REQUESTS)? + 4 * calls + 2 * asked - 1)?;
        spans::expect_nested(&account.spans)?;

        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in account.spans.into_iter().filter(|span| !is_introduction(span)) {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        for trace in traces.values() {
            let number =
                |span: &Span| Some(span.get("url.path").rsplit_once('/')?.1.to_owned()).filter(|n| !n.is_empty());
            let mut numbers: Vec<_> = trace.iter().filter_map(number).collect();
            numbers.dedup();
            spans::expect_tree(trace, &[], TREE).with_context(|| format!("in the trace of {numbers:?}"))?;
            ensure!(numbers.len() == 1, "requests {numbers:?} are in one trace");
        }
        ensure!(traces.len() == usize::try_from(REQUESTS)?, "{REQUESTS} requests are {} traces", traces.len());
        Ok(())
    })
}

#[test]
fn a_program_that_asks_itself_for_nobodys_sake_is_in_no_circle() -> Result<()> {
    const BEATS: usize = 20;
    let program = App::go("heartbeat");
    if let Some(reason) = program.missing() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("heartbeat", |world| {
        let recording = Recording::start(world)?;
        let mut program = program.start(world)?;
        program.process().logged(within(Duration::from_secs(30)), "calm", 1)?;
        let beat = "heartbeat client GET /beat -> 200\n  heartbeat server GET /beat -> 200 by host\n";
        recording.finish(2 * BEATS)?.is_tree(&[], &beat.repeat(BEATS))?;
        Ok(())
    })
}
