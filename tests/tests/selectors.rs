//! Each selector selects the right processes, running ones and later ones, and no others.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::load::Load;
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis, Site, Workers};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Outcome, Port, Recording, World, record_skip};

const PATIENCE: Duration = Duration::from_secs(30);

/// The path that is requested until a server turns out to be selected.
const PROBE: &str = "/are-you-selected";

/// Serves with several workers. Each of them must be selected.
fn hello(name: &str) -> Site {
    Nginx::site("location / { return 200 hello; }").workers(2).named(name)
}

/// Sends probes to a server that started after the agent until one is exported. Returns how many were sent. The agent selects
/// a new process a moment after it starts, and only its spans show when.
fn probe_until_selected(recording: &Recording, address: &str) -> Result<usize> {
    let mut probes = 0;
    wait::until(within(PATIENCE), "span of a server that started later", || {
        RawClient::open(address)?.get(PROBE)?;
        probes += 1;
        Ok(recording.spans()?.iter().any(is_probe).then_some(()))
    })?;
    Ok(probes)
}

fn is_probe(span: &Span) -> bool {
    span.get("url.path") == PROBE
}

/// Stops the agent. Fails unless there is exactly one server span for each of the `expected` paths, and, apart from up to
/// `probes` probes, no other span.
fn expect_exactly(recording: Recording, mut expected: Vec<String>, probes: usize) -> Result<Outcome> {
    let is_complete = |spans: &[Span]| spans.iter().filter(|span| !is_probe(span)).count() >= expected.len();
    recording.wait_until("spans of the selected processes", is_complete)?;
    // Of the probes, at least the last is exported.
    let outcome = recording.stop(expected.len() + probes.min(1)..=expected.len() + probes)?;
    ensure!(outcome.summary.lost() == 0, "{}", outcome.summary);
    let servers = outcome.spans.iter().filter(|span| span.kind == "server" && !is_probe(span));
    let mut exported: Vec<_> = servers.map(|span| span.get("url.path").to_owned()).collect();
    exported.sort();
    expected.sort();
    ensure!(exported == expected, "exported are {exported:?}, but expected were {expected:?}");
    Ok(outcome)
}

/// Requests `PREFIX/0`, `PREFIX/1` and so on over several connections. Returns the paths.
fn request(address: &str, prefix: &str) -> Result<Vec<String>> {
    const REQUESTS: u64 = 40;
    let sent = Load::on(address, prefix).in_flight(8).run(0..REQUESTS)?;
    Ok(sent.answered.keys().map(|number| format!("{prefix}/{number}")).collect())
}

#[test]
fn a_port_selects_its_listeners_running_and_later() -> Result<()> {
    World::story("by port", |world| {
        let (before, other) = (hello("before").start(world)?, hello("other").start(world)?);
        let port = Port::claim()?;
        let selected = [before.port().to_string(), port.to_string()];
        let recording = Recording::start_selecting(world, &["--port", &selected[0], "--port", &selected[1]])?;
        let after = hello("after").start_on(world, port)?;
        let probes = probe_until_selected(&recording, &after.address())?;
        request(&other.address(), "/other")?;
        let expected = [request(&before.address(), "/before")?, request(&after.address(), "/after")?].concat();
        expect_exactly(recording, expected, probes)?;
        Ok(())
    })
}

#[test]
fn an_executable_is_selected_running_and_later() -> Result<()> {
    World::story("by executable", |world| {
        // A copy, so that the pattern matches no other nginx of this machine.
        let copy = world.dir().join("copy");
        fs::create_dir(&copy)?;
        let program = copy.join("nginx");
        fs::copy(find_program("nginx").context("nginx is not installed")?, &program)?;
        let glob = format!("{}/*", copy.display());
        let before = hello("before").program(program.clone()).start(world)?;
        let other = hello("other").start(world)?;
        let recording = Recording::start_selecting(world, &["--exe", &glob])?;
        let after = hello("after").program(program).start(world)?;
        let probes = probe_until_selected(&recording, &after.address())?;
        request(&other.address(), "/other")?;
        let expected = [request(&before.address(), "/before")?, request(&after.address(), "/after")?].concat();
        expect_exactly(recording, expected, probes)?;
        Ok(())
    })
}

/// Before, 27 to 42 of 50 were reported, and the others were not counted.
#[test]
fn every_one_shot_client_is_seen_from_its_first_connection() -> Result<()> {
    World::story("one-shot clients", |world| {
        // Names of their own, so that the pattern concerns no other program of this machine.
        let client = world.dir().join("onlooker-one-shot-client");
        let script = world.dir().join("onlooker-one-shot-script");
        let server = world.dir().join("onlooker-one-shot-server");
        let (curl, nginx) = (find_program("curl").context("no curl")?, find_program("nginx").context("no nginx")?);
        let install = |program: &std::path::Path, to: &std::path::Path| {
            // A new file each time.
            fs::copy(program, to.with_extension("new"))?;
            fs::rename(to.with_extension("new"), to)
        };
        install(&curl, &client)?;
        install(&nginx, &server)?;
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", curl.display()))?;
        fs::set_permissions(&script, fs::metadata(&client)?.permissions())?;
        let site = hello("site").program(server).start(world)?;
        let glob = |kind: &str| format!("{}/onlooker-one-shot-{kind}", world.dir().display());
        let globs = [glob("client"), "onlooker-one-shot-s*".to_owned()];
        let recording = Recording::start_selecting(world, &["--exe", &globs[0], "--exe", &globs[1]])?;
        for number in 0..50 {
            if number == 25 {
                install(&curl, &client)?;
            }
            let mut command = world.command(if number % 10 == 9 { &script } else { &client });
            command.args(["--silent", "--noproxy", "*", &format!("http://{}/{number}", site.address())]);
            world.run(&mut command)?;
        }
        let outcome = recording.finish(100)?;
        for kind in ["client", "server"] {
            let spans = outcome.spans.iter().filter(|span| span.kind == kind).count();
            ensure!(spans == 50, "{spans} of 50 {kind} spans");
        }
        Ok(())
    })
}

#[test]
fn a_process_is_selected_with_its_workers_running_and_later() -> Result<()> {
    World::story("by process", |world| {
        let other = hello("other").start(world)?;
        let mut app = Gunicorn::app("behaviours").workers(Workers::Sync).processes(2).start(world)?;
        let master = app.process().pid().to_string();
        let recording = Recording::start_selecting(world, &["--pid", &master])?;
        request(&other.address(), "/other")?;
        let mut expected = request(&app.address(), "/items")?;
        // Starts one more worker, then stops the two oldest.
        let [more, fewer] = [libc::SIGTTIN, libc::SIGTTOU];
        app.process().signal(more)?;
        app.process().wait_for_log(within(PATIENCE), Gunicorn::WORKER_READY, 3)?;
        for exited in 1..=2 {
            app.process().signal(fewer)?;
            app.process().wait_for_log(within(PATIENCE), "Worker exiting", exited)?;
        }
        expected.extend(request(&app.address(), "/items")?);
        expect_exactly(recording, expected, 0)?;
        Ok(())
    })
}

/// Starts a process that holds a listening socket on `port`, and two services: one that it passes the socket to, and another.
fn activator(world: &World, port: &Port, other: &Port, when: &str) -> Result<App> {
    let [port, other] = [port, other].map(ToString::to_string);
    App::python("activator").argument(&port).argument(&other).argument(when).start(world)
}

/// Requests both services, and stops the agent. Fails unless exactly the spans of the service on `port` are exported, with
/// the first request.
fn expect_only_the_service(recording: Recording, port: &Port, other: &Port) -> Result<()> {
    let expected = request(&port.address(), "/service")?;
    // It starts when the service is started.
    wait::until(within(PATIENCE), "the other service", || Ok(RawClient::open(&other.address()).ok()))?;
    request(&other.address(), "/other")?;
    expect_exactly(recording, expected, 0).map(drop)
}

#[test]
fn a_port_selects_the_service_that_accepts_and_no_other_child_of_the_process_that_holds_it() -> Result<()> {
    World::story("running", |world| {
        let (port, other) = (Port::claim()?, Port::claim()?);
        let _activator = activator(world, &port, &other, "at-once")?;
        RawClient::open(&port.address())?.get("/before")?;
        let recording = Recording::start_selecting(world, &["--port", &port.to_string()])?;
        expect_only_the_service(recording, &port, &other)
    })
}

#[test]
fn a_port_selects_a_service_that_is_started_later_with_its_first_request() -> Result<()> {
    for when in ["on-demand", "systemd", "systemd-socket-activate"] {
        if when == "systemd-socket-activate" && find_program(when).is_none() {
            record_skip(&format!("{when} is not installed"));
            continue;
        }
        World::story(when, |world| {
            let (port, other) = (Port::claim()?, Port::claim()?);
            let mut recording = Recording::start_selecting(world, &["-vv", "--port", &port.to_string()])?;
            let mut activator = activator(world, &port, &other, when)?;
            let selected = format!("selected pid={}", activator.process().pid());
            recording.agent().wait_for_log(within(PATIENCE), &selected)?;
            expect_only_the_service(recording, &port, &other)
        })?;
    }
    Ok(())
}

#[test]
fn a_port_selects_workers_that_use_its_connections_running_and_later() -> Result<()> {
    let cluster = App::node("cluster");
    if let Some(reason) = cluster.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("workers", |world| {
        let [running, later] = [Port::claim()?, Port::claim()?];
        let gunicorn = Gunicorn::app("behaviours").workers(Workers::Sync).processes(2).start(world)?;
        let address = gunicorn.address();
        let (_, port) = address.rsplit_once(':').context("it listens on a port")?;
        let _running = cluster.clone().argument(&running.to_string()).start(world)?;
        let ports = [port.to_owned(), running.to_string(), later.to_string()];
        let options: Vec<_> = ports.iter().flat_map(|port| ["--port", port]).collect();
        let recording = Recording::start_selecting(world, &options)?;
        let _later = cluster.argument(&later.to_string()).start(world)?;
        let probes = probe_until_selected(&recording, &later.address())?;
        let expected = [
            request(&gunicorn.address(), "/items")?,
            request(&running.address(), "/running")?,
            request(&later.address(), "/later")?,
        ];
        expect_exactly(recording, expected.concat(), probes)?;
        Ok(())
    })
}

#[test]
fn a_port_selects_backends_that_only_hold_an_accepted_connection() -> Result<()> {
    World::story("backends", |world| {
        let (postgres, redis) = (Postgres::start(world)?, Redis::start(world)?);
        postgres.execute(include_str!("../apps/python/inventory.sql"))?;
        let app = Gunicorn::app("inventory")
            .workers(Workers::Sync)
            .env("DATABASE_URL", postgres.url())
            .env("REDIS_URL", redis.url())
            .start(world)?;
        // Opens its one connection. The backend process for it holds that connection and no listening socket.
        world.curl(&[&app.url("/stock/9")?])?;
        let recording = Recording::start_selecting(world, &["--port", &postgres.port().to_string()])?;
        let before = postgres.statement_count()?;
        for number in [7, 8] {
            world.curl(&[&app.url(&format!("/stock/{number}"))?])?;
        }
        // Runs in a backend process that is forked later.
        postgres.execute("SELECT pieces FROM products")?;
        ensure!(postgres.statement_count()? - before == 3, "{} statements", postgres.statement_count()? - before);
        recording.finish(3)?.expect_tree(
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
