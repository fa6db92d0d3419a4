//! The agent's lifecycle: it starts while requests are in flight, loses events, is killed, or runs a command.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::bpf_objects::{self, ObjectKind};
use onlooker_tests::client::{RawClient, now};
use onlooker_tests::load::Load;
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Redis};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Outcome, Recording, Summary, World, agent_binary, record_skip};

const PATIENCE: Duration = Duration::from_secs(30);

/// Calls that are made earlier have fewer parents. Node's executable takes longest to look through.
#[test]
fn the_agent_is_ready_when_the_units_of_running_processes_are_read() -> Result<()> {
    World::story("units before ready", |world| {
        let mut apps = [App::node("delayed"), App::python("caller_asyncio")]
            .map(|app| app.env("BACKEND_URL", "http://127.0.0.1:1").start(world))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut recording = Recording::start_with(world, &["-vv"])?;
        let log = recording.agent().stderr()?;
        let (before, _) = log.split_once("ready: ").context("the agent is ready")?;
        for app in &mut apps {
            let read = format!("the unit of work is read pid={} ", app.process().pid());
            ensure!(before.contains(&read), "not before `ready`: {read}\n{log}");
        }
        recording.finish(0)?;
        Ok(())
    })
}

#[test]
fn requests_that_begin_after_ready_are_exported_on_connections_opened_before() -> Result<()> {
    World::story("in the middle", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let load = Load::on(&nginx.address(), "/items").in_flight(50);
        let ((recording, started, ready), sent) = load.run_during(0, |progress| {
            progress.wait_for_more(200)?;
            let started = now();
            let recording = Recording::start(world)?;
            let ready = now();
            progress.wait_for_more(500)?;
            Ok((recording, started, ready))
        })?;
        let sent = sent.answered;
        let complete: Vec<_> =
            sent.iter().filter(|(_, times)| times.start >= ready).map(|(number, _)| number).collect();
        let possible = sent.values().filter(|times| times.end >= started).count();
        let complete_paths: HashSet<_> = complete.iter().map(|number| format!("/items/{number}")).collect();
        recording.wait_until("spans of requests after ready", |spans| {
            spans.iter().filter(|span| complete_paths.contains(path(span))).count() >= 3 * complete.len()
        })?;
        let outcome = recording.stop(3 * complete.len()..=3 * possible)?;
        ensure!(outcome.summary.lost() == 0, "{}", outcome.summary);

        let mut by_path: HashMap<&str, Vec<Span>> = HashMap::new();
        for span in &outcome.spans {
            by_path.entry(path(span)).or_default().push(span.clone());
        }
        for number in complete {
            spans::expect_tree(
                by_path.get(format!("/items/{number}").as_str()).map(Vec::as_slice).unwrap_or_default(),
                &[],
                "
                nginx server GET /items/{id} -> 200
                  nginx client GET /items/{id} -> 200 by *
                    behaviours server GET /items/{id} -> 200 by host
                ",
            )
            .with_context(|| format!("request {number} began after the agent was ready"))?;
        }
        let sent_paths: HashSet<_> = sent.keys().map(|number| format!("/items/{number}")).collect();
        let unknown: Vec<_> = by_path.keys().filter(|path| !sent_paths.contains(**path)).collect();
        ensure!(unknown.is_empty(), "these paths were never requested: {unknown:?}");
        Ok(())
    })
}

/// The path of the request: for a client span, the end of its URL.
fn path(span: &Span) -> &str {
    match span.get("url.path") {
        "" => span.get("url.full").find("/items/").map_or("", |at| &span.get("url.full")[at..]),
        path => path,
    }
}

#[test]
fn losses_at_full_speed_are_counted_exactly() -> Result<()> {
    let Some(wrk) = find_program("wrk") else {
        record_skip("wrk is not installed");
        return Ok(());
    };
    // The last size is the default. A debug build of the agent may overflow it too.
    for (bytes, too_small) in [("4096", true), ("65536", true), ("8388608", false)] {
        World::story("small ring", |world| {
            let site = "location / { return 200 hello; } location = /count { stub_status; }";
            let nginx = Nginx::site(site).start(world)?;
            let recording = Recording::start_with(world, &["--ring-bytes", bytes])?;
            let mut load = world.command(&wrk);
            load.args(["--threads", "1", "--connections", "50", "--duration", "2s", &nginx.url("/hello")]);
            world.run_unwatched(&mut load)?;
            let mut client = RawClient::open(&nginx.address())?;
            client.send("GET /count HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
            client.response_head()?;
            let requests = requests_counted(&client.read_to_string()?)?;
            let outcome = recording.stop(requests)?;
            ensure!(!too_small || outcome.summary.lost() > 0, "no loss occurred: {}", outcome.summary);
            Ok(())
        })
        .with_context(|| format!("with a ring of {bytes} bytes"))?;
    }
    Ok(())
}

#[test]
fn with_a_small_ring_lost_calls_are_counted_with_their_requests() -> Result<()> {
    World::story("small ring, both ends", |world| {
        let backend = Nginx::site("location / { return 200 hello; }").named("backend").start(world)?;
        let proxy = Nginx::proxy_to(&backend.address()).start(world)?;
        let recording = Recording::start_with(world, &["--ring-bytes", "4096"])?;
        let sent = Load::on(&proxy.address(), "/items").in_flight(16).run(0..3000)?;
        // The proxy's server and client spans, and the backend's server span.
        let outcome = recording.stop(3 * sent.answered.len())?;
        ensure!(outcome.summary.lost() > 0, "no loss occurred: {}", outcome.summary);
        Ok(())
    })
}

#[test]
fn with_a_small_ring_lost_redis_commands_are_counted_exactly() -> Result<()> {
    let Some(benchmark) = find_program("redis-benchmark") else {
        record_skip("redis-benchmark is not installed");
        return Ok(());
    };
    World::story("small ring, Redis", |world| {
        let redis = Redis::start(world)?;
        let recording = Recording::start_with(world, &["--ring-bytes", "4096"])?;
        let mut load = world.command(&benchmark);
        load.args(["-p", &redis.port().to_string(), "-t", "set,get", "-c", "50", "-n", "20000", "-q"]);
        world.run_unwatched(&mut load)?;
        let outcome = recording.stop(redis.command_count()?)?;
        ensure!(outcome.summary.lost() > 0, "no loss occurred: {}", outcome.summary);
        Ok(())
    })
}

#[test]
fn with_a_small_ring_lost_pipelined_requests_are_counted_by_record() -> Result<()> {
    const CLIENTS: usize = 8;
    const BATCHES: usize = 500;
    const PIPELINED: usize = 10;
    World::story("small ring, pipelined", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start_with(world, &["--ring-bytes", "4096"])?;
        let requests = "GET /hello HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(PIPELINED);
        let run_client = || {
            let mut client = RawClient::open(&nginx.address())?;
            for _ in 0..BATCHES {
                client.send(&requests)?;
                for _ in 0..PIPELINED {
                    ensure!(client.response()?.status == 200);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(run_client)).collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")))
        })?;
        let sent = CLIENTS * BATCHES * PIPELINED;
        // Never count more than were sent. Fewer is possible: a record that did not fit into the ring counts as one request,
        // though it may have carried a whole batch.
        let outcome = recording.stop(0..=sent)?;
        let counted = outcome.spans.len() as u64 + outcome.summary.lost();
        let hidden = outcome.summary.get("kernel_ring_full_requests") * (PIPELINED as u64 - 1);
        ensure!(counted + hidden >= sent as u64, "only {counted} of {sent} requests are counted: {}", outcome.summary);
        ensure!(outcome.summary.lost() > 0, "no loss occurred: {}", outcome.summary);
        Ok(())
    })
}

/// `ngx_http_stub_status_module`: the third number of the third line counts requests, including this one.
fn requests_counted(status: &str) -> Result<usize> {
    let numbers = status.lines().nth(2).and_then(|line| line.split_whitespace().nth(2));
    numbers.and_then(|number| number.parse().ok()).with_context(|| format!("nginx's status is\n{status}"))
}

#[test]
fn a_killed_agent_leaves_no_kernel_objects_and_does_not_disturb_the_service() -> Result<()> {
    World::story("killed", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let mut recording = Recording::start(world)?;
        // A request that fails makes the load fail.
        Load::on(&nginx.address(), "/items").in_flight(8).run_during(0, |progress| {
            progress.wait_for_more(200)?;
            let agent = recording.agent().process();
            let held = bpf_objects::held_by(agent.pid())?;
            for kind in [ObjectKind::Program, ObjectKind::Map, ObjectKind::Link] {
                ensure!(held.iter().any(|object| object.kind == kind), "{held:?}");
            }
            agent.signal(libc::SIGKILL)?;
            agent.wait_for_exit(within(PATIENCE))?;
            wait::until(within(PATIENCE), "removal of the programs, maps and links", || {
                Ok(bpf_objects::all()?.is_disjoint(&held).then_some(()))
            })?;
            progress.wait_for_more(200)
        })?;
        Ok(())
    })
}

#[test]
fn exec_runs_a_command_unchanged_and_traces_it() -> Result<()> {
    World::story("exec", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let file = world.dir().join("spans.jsonl");
        let script =
            format!("curl --silent --noproxy '*' {}; printf 'out\\0put'; echo complaint >&2; exit 7", nginx.url("/7"));
        let alone = world.output_of(world.command("sh").args(["-c", &script]))?;
        let mut exec = world.command(agent_binary()?);
        exec.args(["exec", "--file"]).arg(&file).args(["--", "sh", "-c", &script]);
        let traced = world.output_of(&mut exec)?;
        let stderr = String::from_utf8_lossy(&traced.stderr);
        ensure!(traced.stdout == alone.stdout && traced.stdout == b"helloout\0put", "{traced:?}");
        ensure!(traced.status.code() == Some(7) && alone.status.code() == Some(7), "{traced:?}");
        let (from_agent, from_command): (Vec<_>, Vec<_>) = stderr.lines().partition(|line| is_from_agent(line));
        ensure!(from_command == ["complaint"] && !from_agent.is_empty(), "{stderr}");
        let spans = spans::from_requests(&spans::read_lines(&file)?)?;
        let outcome = Outcome::check(spans, Summary::read(&stderr), &1.into())?;
        outcome.expect_tree(&[], "curl client GET /{id} -> 200")?;
        Ok(())
    })
}

/// The agent prints lines that begin with its name, and logs lines of a time, a level and a message.
fn is_from_agent(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let time = words.next().is_some_and(|word| word.ends_with('Z') && word.contains('T'));
    line.starts_with("onlooker: ") || time && matches!(words.next(), Some("ERROR" | "WARN" | "INFO" | "DEBUG"))
}
