//! What each selector selects, traced: what was there before the agent, what comes later, and nothing beside.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::load::Load;
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{Gunicorn, Nginx, Postgres, Redis, Site, Workers};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Account, Port, Recording, World};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a server is asked to find out if it is selected.
const ASKED_BEFORE: &str = "/are-you-selected";

/// Several workers, each of which is to be selected.
fn hello(name: &str) -> Site {
    Nginx::site("location / { return 200 hello; }").workers(2).named(name)
}

/// Asks a server that began after the agent until the agent tells of it; how often that was. What starts is selected a
/// moment later, and nobody but its spans says when.
fn until_selected(recording: &Recording, address: &str) -> Result<usize> {
    let mut asked = 0;
    wait::until(within(PATIENCE), "span of a server that began later", || {
        Connection::open(address)?.get(ASKED_BEFORE)?;
        asked += 1;
        Ok(recording.spans()?.iter().any(asked_before).then_some(()))
    })?;
    Ok(asked)
}

fn asked_before(span: &Span) -> bool {
    span.get("url.path") == ASKED_BEFORE
}

/// Stops the agent. Fails unless each of `expected`, paths, is told by one span of a server, and nothing else is but what
/// was `asked` before.
fn tells(recording: Recording, mut expected: Vec<String>, asked: usize) -> Result<Account> {
    let is_told = |spans: &[Span]| spans.iter().filter(|span| !asked_before(span)).count() >= expected.len();
    recording.wait_until("spans of what is selected", is_told)?;
    // Of what was asked before, at least the last is told.
    let account = recording.stop(expected.len() + asked.min(1)..=expected.len() + asked)?;
    ensure!(account.summary.lost() == 0, "{}", account.summary);
    let servers = account.spans.iter().filter(|span| span.kind == "server" && !asked_before(span));
    let mut told: Vec<_> = servers.map(|span| span.get("url.path").to_owned()).collect();
    told.sort();
    expected.sort();
    ensure!(told == expected, "told are {told:?}, but expected was {expected:?}");
    Ok(account)
}

/// Asks for `PREFIX/0` and so on over several connections; gives the paths.
fn ask(address: &str, prefix: &str) -> Result<Vec<String>> {
    const REQUESTS: u64 = 40;
    let sent = Load::on(address, prefix).in_flight(8).run(0..REQUESTS)?;
    Ok(sent.answered.keys().map(|number| format!("{prefix}/{number}")).collect())
}

#[test]
fn a_port_selects_who_listens_on_it_before_the_agent_and_after() -> Result<()> {
    World::story("by port", |world| {
        let (before, other) = (hello("before").start(world)?, hello("other").start(world)?);
        let port = Port::claim()?;
        let selected = [before.port().to_string(), port.to_string()];
        let recording = Recording::selecting(world, &["--port", &selected[0], "--port", &selected[1]])?;
        let after = hello("after").start_on(world, port)?;
        let asked = until_selected(&recording, &after.address())?;
        ask(&other.address(), "/other")?;
        let expected = [ask(&before.address(), "/before")?, ask(&after.address(), "/after")?].concat();
        tells(recording, expected, asked)?;
        Ok(())
    })
}

#[test]
fn an_executable_is_selected_whenever_it_starts() -> Result<()> {
    World::story("by executable", |world| {
        // A copy, so that no other nginx of this machine is meant.
        let ours = world.dir().join("ours");
        fs::create_dir(&ours)?;
        let program = ours.join("nginx");
        fs::copy(find_program("nginx").context("nginx is not installed")?, &program)?;
        let glob = format!("{}/*", ours.display());
        let before = hello("before").program(program.clone()).start(world)?;
        let other = hello("other").start(world)?;
        let recording = Recording::selecting(world, &["--exe", &glob])?;
        let after = hello("after").program(program).start(world)?;
        let asked = until_selected(&recording, &after.address())?;
        ask(&other.address(), "/other")?;
        let expected = [ask(&before.address(), "/before")?, ask(&after.address(), "/after")?].concat();
        tells(recording, expected, asked)?;
        Ok(())
    })
}

#[test]
fn a_process_is_selected_with_the_workers_it_forked_and_those_it_will() -> Result<()> {
    World::story("by process", |world| {
        let other = hello("other").start(world)?;
        let mut app = Gunicorn::app("behaviours").workers(Workers::Sync).processes(2).start(world)?;
        let master = app.process().pid().to_string();
        let recording = Recording::selecting(world, &["--pid", &master])?;
        ask(&other.address(), "/other")?;
        let mut expected = ask(&app.address(), "/items")?;
        // One worker more; then the two oldest go.
        let [more, fewer] = [libc::SIGTTIN, libc::SIGTTOU];
        app.process().signal(more)?;
        app.process().logged(within(PATIENCE), Gunicorn::WORKER_READY, 3)?;
        for gone in 1..=2 {
            app.process().signal(fewer)?;
            app.process().logged(within(PATIENCE), "Worker exiting", gone)?;
        }
        expected.extend(ask(&app.address(), "/items")?);
        tells(recording, expected, 0)?;
        Ok(())
    })
}

#[test]
fn a_port_selects_the_backends_whose_connection_was_open_before_the_agent() -> Result<()> {
    World::story("backends", |world| {
        let (postgres, redis) = (Postgres::start(world)?, Redis::start(world)?);
        postgres.execute(include_str!("../apps/python/inventory.sql"))?;
        let app = Gunicorn::app("inventory")
            .workers(Workers::Sync)
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .start(world)?;
        // Its one connection is made: the process behind it holds that and no socket that listens.
        world.curl(&[&app.url("/stock/9")?])?;
        let recording = Recording::selecting(world, &["--port", &postgres.port().to_string()])?;
        let before = postgres.asked()?;
        for number in [7, 8] {
            world.curl(&[&app.url(&format!("/stock/{number}"))?])?;
        }
        // By one that is forked later.
        postgres.execute("SELECT pieces FROM products")?;
        ensure!(postgres.asked()? - before == 3, "{} statements", postgres.asked()? - before);
        recording.finish(3)?.is_tree(
            &["network.transport"],
            "
            postgres server SELECT products network.transport=tcp
            postgres server SELECT products network.transport=tcp
            postgres server SELECT products network.transport=unix
            ",
        )?;
        Ok(())
    })
}
