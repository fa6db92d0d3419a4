//! The agent comes in the middle of things, is killed, has too little room, runs a command: and is right, or harmless.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::bpf_objects::{self, Kind};
use onlooker_tests::client::{Connection, now};
use onlooker_tests::load::Load;
use onlooker_tests::machine::find_program;
use onlooker_tests::servers::{Gunicorn, Nginx, Redis};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Account, Recording, Summary, World, agent_beside, record_skip};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_begins_after_ready_is_told_on_connections_already_open_too() -> Result<()> {
    World::story("in the middle", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let load = Load::on(&nginx.address(), "/items").in_flight(50);
        let ((recording, started, ready), sent) = load.during(0, |progress| {
            progress.more(200)?;
            let started = now();
            let recording = Recording::start(world)?;
            let ready = now();
            progress.more(500)?;
            Ok((recording, started, ready))
        })?;
        let sent = sent.answered;
        let must: Vec<_> = sent.iter().filter(|(_, times)| times.start >= ready).map(|(number, _)| number).collect();
        let may = sent.values().filter(|times| times.end >= started).count();
        let must_be_told: HashSet<_> = must.iter().map(|number| format!("/items/{number}")).collect();
        recording.wait_until("spans of what began then", |spans| {
            spans.iter().filter(|span| must_be_told.contains(path(span))).count() >= 3 * must.len()
        })?;
        let account = recording.stop(3 * must.len()..=3 * may)?;
        ensure!(account.summary.lost() == 0, "{}", account.summary);

        let mut told: HashMap<&str, Vec<Span>> = HashMap::new();
        for span in &account.spans {
            told.entry(path(span)).or_default().push(span.clone());
        }
        for number in must {
            spans::expect_tree(
                told.get(format!("/items/{number}").as_str()).map(Vec::as_slice).unwrap_or_default(),
                &[],
                "
                nginx server GET /items/{id} -> 200
                  nginx client GET /items/{id} -> 200 by *
                    behaviours server GET /items/{id} -> 200 by host
                ",
            )
            .with_context(|| format!("request {number} began after the agent was ready"))?;
        }
        let asked: HashSet<_> = sent.keys().map(|number| format!("/items/{number}")).collect();
        let unknown: Vec<_> = told.keys().filter(|path| !asked.contains(**path)).collect();
        ensure!(unknown.is_empty(), "nobody asked for {unknown:?}");
        Ok(())
    })
}

/// What was asked for: of a call the end of its URL.
fn path(span: &Span) -> &str {
    match span.get("url.path") {
        "" => span.get("url.full").find("/items/").map_or("", |at| &span.get("url.full")[at..]),
        path => path,
    }
}

#[test]
fn at_full_speed_what_is_lost_is_counted_to_the_unit() -> Result<()> {
    let Some(wrk) = find_program("wrk") else {
        record_skip("wrk is not installed");
        return Ok(());
    };
    // The last is the usual one, which an agent that was built for debugging may fill too.
    for (bytes, too_small) in [("4096", true), ("65536", true), ("8388608", false)] {
        World::story("small ring", |world| {
            let site = "location / { return 200 hello; } location = /count { stub_status; }";
            let nginx = Nginx::site(site).start(world)?;
            let recording = Recording::start_with(world, &["--ring-bytes", bytes])?;
            let mut load = world.command(&wrk);
            load.args(["--threads", "1", "--connections", "50", "--duration", "2s", &nginx.url("/hello")]);
            world.run_unwatched(&mut load)?;
            let mut client = Connection::open(&nginx.address())?;
            client.send("GET /count HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
            client.beginning()?;
            let requests = requests_counted(&client.text()?)?;
            let account = recording.stop(requests)?;
            ensure!(!too_small || account.summary.lost() > 0, "the ring was large enough: {}", account.summary);
            Ok(())
        })
        .with_context(|| format!("with a ring of {bytes} bytes"))?;
    }
    Ok(())
}

#[test]
fn with_too_small_a_ring_calls_are_counted_as_the_requests_they_become() -> Result<()> {
    World::story("small ring, both ends", |world| {
        let backend = Nginx::site("location / { return 200 hello; }").named("backend").start(world)?;
        let proxy = Nginx::proxy_to(&backend.address()).start(world)?;
        let recording = Recording::start_with(world, &["--ring-bytes", "4096"])?;
        let sent = Load::on(&proxy.address(), "/items").in_flight(16).run(0..3000)?;
        // The proxy's own and its call's, and the backend's.
        let account = recording.stop(3 * sent.answered.len())?;
        ensure!(account.summary.lost() > 0, "the ring was large enough: {}", account.summary);
        Ok(())
    })
}

#[test]
fn with_too_small_a_ring_redis_commands_are_counted_to_the_unit() -> Result<()> {
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
        let account = recording.stop(redis.asked()?)?;
        ensure!(account.summary.lost() > 0, "the ring was large enough: {}", account.summary);
        Ok(())
    })
}

#[test]
fn with_too_small_a_ring_pipelined_requests_are_counted_by_what_they_came_in() -> Result<()> {
    const CLIENTS: usize = 8;
    const TURNS: usize = 500;
    const PIPELINED: usize = 10;
    World::story("small ring, pipelined", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start_with(world, &["--ring-bytes", "4096"])?;
        let requests = "GET /hello HTTP/1.1\r\nHost: shop.test\r\n\r\n".repeat(PIPELINED);
        let talk = || {
            let mut client = Connection::open(&nginx.address())?;
            for _ in 0..TURNS {
                client.send(&requests)?;
                for _ in 0..PIPELINED {
                    ensure!(client.response()?.status == 200);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(talk)).collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().unwrap_or_else(|_| anyhow::bail!("a client panicked")))
        })?;
        let sent = CLIENTS * TURNS * PIPELINED;
        // Never more than there were. Fewer, because a record that the ring had no room for counts as one, and nobody knows
        // how many requests were in it: here at most as many as are sent at once.
        let account = recording.stop(0..=sent)?;
        let counted = account.spans.len() as u64 + account.summary.lost();
        let unseen = account.summary.get("kernel_ring_full_requests") * (PIPELINED as u64 - 1);
        ensure!(counted + unseen >= sent as u64, "{counted} of {sent} requests are accounted for: {}", account.summary);
        ensure!(account.summary.lost() > 0, "the ring was large enough: {}", account.summary);
        Ok(())
    })
}

/// `ngx_http_stub_status_module`: the third number of the third line is that of requests, this one included.
fn requests_counted(status: &str) -> Result<usize> {
    let numbers = status.lines().nth(2).and_then(|line| line.split_whitespace().nth(2));
    numbers.and_then(|number| number.parse().ok()).with_context(|| format!("nginx's status is\n{status}"))
}

#[test]
fn a_killed_agent_leaves_nothing_in_the_kernel_and_the_service_unharmed() -> Result<()> {
    World::story("killed", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let mut recording = Recording::start(world)?;
        // Any request that fails fails the load.
        Load::on(&nginx.address(), "/items").in_flight(8).during(0, |progress| {
            progress.more(200)?;
            let agent = recording.agent().process();
            let held = bpf_objects::held_by(agent.pid())?;
            for kind in [Kind::Program, Kind::Map, Kind::Link] {
                ensure!(held.iter().any(|object| object.kind == kind), "{held:?}");
            }
            agent.signal(libc::SIGKILL)?;
            agent.wait(within(PATIENCE))?;
            wait::until(within(PATIENCE), "end of the programs, maps and links", || {
                Ok(bpf_objects::all()?.is_disjoint(&held).then_some(()))
            })?;
            progress.more(200)
        })?;
        Ok(())
    })
}

#[test]
fn a_command_runs_as_it_would_alone_and_is_traced() -> Result<()> {
    World::story("exec", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let file = world.dir().join("spans.jsonl");
        let script =
            format!("curl --silent --noproxy '*' {}; printf 'out\\0put'; echo complaint >&2; exit 7", nginx.url("/7"));
        let alone = world.ask(world.command("sh").args(["-c", &script]))?;
        let mut exec = world.command(agent_beside()?);
        exec.args(["exec", "--file"]).arg(&file).args(["--", "sh", "-c", &script]);
        let traced = world.ask(&mut exec)?;
        let stderr = String::from_utf8_lossy(&traced.stderr);
        ensure!(traced.stdout == alone.stdout && traced.stdout == b"helloout\0put", "{traced:?}");
        ensure!(traced.status.code() == Some(7) && alone.status.code() == Some(7), "{traced:?}");
        let (ours, theirs): (Vec<_>, Vec<_>) = stderr.lines().partition(|line| is_the_agents(line));
        ensure!(theirs == ["complaint"] && !ours.is_empty(), "{stderr}");
        let spans = spans::spans(&spans::lines(&file)?)?;
        let account = Account::take(spans, Summary::read(&stderr), &1.into())?;
        account.is_tree(&[], "curl client GET /{id} -> 200")?;
        Ok(())
    })
}

/// What it tells, or what it logs: a time, a level, and what for.
fn is_the_agents(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let time = words.next().is_some_and(|word| word.ends_with('Z') && word.contains('T'));
    line.starts_with("onlooker: ") || time && matches!(words.next(), Some("ERROR" | "WARN" | "INFO" | "DEBUG"))
}
