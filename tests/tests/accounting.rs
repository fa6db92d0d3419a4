//! The accounting balances: of pipelined requests, spans and counted losses are exactly those that were sent, on both
//! sides, and nearly all are spans.

use std::process::Command;

use anyhow::{Result, anyhow, ensure};
use onlooker_tests::machine;
use onlooker_tests::servers::{Memcached, Nginx, Postgres, Redis};
use onlooker_tests::spans::Span;
use onlooker_tests::{Outcome, Recording, World, record_skip};
use rstest::rstest;

/// Of the requests that are sent, this many of a hundred must be spans on each side.
const SPANS_OF_A_HUNDRED: usize = 95;

/// How many requests the client sent and how many the server received.
struct Requests {
    client: usize,
    server: usize,
}

impl Requests {
    fn on_both_sides(requests: usize) -> Self {
        Self { client: requests, server: requests }
    }
}

/// Runs `client`. `requests` says what it sent, once it has ended.
fn account(world: &World, client: &mut Command, requests: impl FnOnce() -> Result<Requests>) -> Result<()> {
    let recording = Recording::start(world)?;
    world.run(client)?;
    let sent = requests()?;
    let spans_of =
        |spans: &[Span], kind: &str| spans.iter().filter(|span| span.kind == kind && !is_prepare(span)).count();
    let enough = |spans: usize, requests: usize| spans * 100 >= requests * SPANS_OF_A_HUNDRED;
    let waited = recording.wait_until("nearly all spans", |spans| {
        enough(spans_of(spans, "client"), sent.client) && enough(spans_of(spans, "server"), sent.server)
    });
    let Outcome { spans, summary } = recording.stop(0..=usize::MAX)?;
    let (client, server) = (spans_of(&spans, "client"), spans_of(&spans, "server"));
    // A preparation that is part of another span is no execution, which is what servers log.
    let lost = usize::try_from(summary.lost() - summary.get("requests_folded"))?;
    let Requests { client: sent, server: received } = sent;
    let shown = format!(
        "{client} client spans for {sent} requests, {server} server spans for {received}, {lost} lost:\n{summary}"
    );
    waited.map_err(|error| anyhow!("{}: {shown}", error.root_cause()))?;
    ensure!(client + server + lost == sent + received, "{shown}");
    ensure!(client <= sent && server <= received, "{shown}");
    ensure!(summary.get("responses_without_request") == 0, "{shown}");
    Ok(())
}

/// A driver's `Parse` without an `Execute`. Servers do not log it.
fn is_prepare(span: &Span) -> bool {
    span.get("db.operation.name").starts_with("PREPARE")
}

/// A pipeline of `count` requests, as tests/apps/python/pipelining.py sends it.
fn python(world: &World, how: &str, count: usize, address: &str) -> Result<Command> {
    let mut command = world.command(machine::python_environment()?.join("bin/python"));
    command.arg(machine::apps("python").join("pipelining.py")).args([how, &count.to_string(), address]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

#[rstest]
fn every_pipelined_http_request_is_accounted_for(
    #[values("http", "http_in_pieces")] how: &str,
    #[values(10, 1_000, 10_000)] count: usize,
) -> Result<()> {
    World::story(how, |world| {
        let nginx = Nginx::site("return 200 'ok\n';").start(world)?;
        account(world, &mut python(world, how, count, &nginx.address())?, || Ok(Requests::on_both_sides(count)))
    })
}

#[rstest]
fn every_pipelined_redis_command_is_accounted_for(#[values(10, 1_000, 10_000)] count: usize) -> Result<()> {
    World::story("redis", |world| {
        let redis = Redis::start(world)?;
        let mut client = python(world, "redis", count, &redis.url())?;
        // redis-py introduces itself when it connects, with a number of commands that depends on its version.
        // The question is a command too, which the test itself sends.
        account(world, &mut client, || {
            let server = redis.command_count()?;
            Ok(Requests { client: server - 1, server })
        })
    })
}

#[rstest]
fn every_pipelined_memcached_command_is_accounted_for(#[values(10, 1_000, 10_000)] count: usize) -> Result<()> {
    World::story("memcached", |world| {
        let memcached = Memcached::start(world)?;
        account(world, &mut python(world, "memcached", count, &memcached.address())?, || {
            Ok(Requests::on_both_sides(count))
        })
    })
}

#[rstest]
fn every_statement_of_a_python_pipeline_is_accounted_for(
    #[values("psycopg", "psycopg_pipeline", "asyncpg")] how: &str,
    #[values(10, 1_000, 10_000)] count: usize,
) -> Result<()> {
    World::story(how, |world| {
        let postgres = Postgres::start(world)?;
        account(world, &mut python(world, how, count, &postgres.url())?, || {
            Ok(Requests::on_both_sides(postgres.statement_count()?))
        })
    })
}

#[rstest]
fn every_statement_of_a_jdbc_batch_is_accounted_for(#[values(10, 1_000, 10_000)] count: usize) -> Result<()> {
    let (Some(java), Some(driver)) = (machine::java(machine::JDBC_JAVA), machine::jdbc_driver()) else {
        record_skip("no JDK, or no JDBC driver of PostgreSQL is installed");
        return Ok(());
    };
    World::story("jdbc", |world| {
        let postgres = Postgres::start(world)?;
        let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=postgres", postgres.port());
        let mut batch = world.command(&java);
        batch.arg("-cp").arg(&driver).arg(machine::apps("java").join("Batch.java")).args([&count.to_string(), &url]);
        account(world, &mut batch, || Ok(Requests::on_both_sides(postgres.statement_count()?)))
    })
}
