//! Parents of calls over HTTP/2: many calls share a connection, and each has an owner of its own.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::bpf_objects;
use onlooker_tests::http2_client::{self, Written};
use onlooker_tests::http2_matrix::{Kind, grpc_js};
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Recording, World, record_skip};
use rstest::rstest;

const PATIENCE: Duration = Duration::from_secs(30);

/// How many requests are in flight, and the numbers of the requests.
const ROUNDS: [(usize, Range<u64>); 2] = [(10, 1000..1200), (50, 10_000..10_400)];

#[test]
fn streams_of_a_go_client_belong_to_the_requests_of_their_goroutines() -> Result<()> {
    const CALLS: usize = 2;
    World::story("Go over HTTP/2", |world| {
        let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
        let app = App::go("caller").env("HTTP2", "1").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&app.address(), "/r");
        // Go's scheduler takes ids in batches. Goroutines with ids from before the agent looked inherit nothing: use them up.
        let mut requests = load.clone().in_flight(20).run(1_000_000..1_000_400)?.answered.len();
        for (in_flight, numbers) in ROUNDS {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let received = backend.received_paths()?.len();
        let outcome = recording.finish(requests + 2 * received)?;
        for (in_flight, numbers) in ROUNDS {
            let verdict = judge(&outcome.spans, load.address(), |number| numbers.contains(&number));
            verdict
                .print(&format!("Go over HTTP/2 | {in_flight}"))
                .expect_counts(usize::try_from(numbers.end - numbers.start)?, CALLS)?
                .expect_all_right_by("goroutine")?;
        }
        Ok(())
    })
}

#[test]
fn handlers_of_a_go_server_over_http_2_own_their_calls() -> Result<()> {
    World::story("Go server over HTTP/2", |world| {
        let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
        let mut app = App::go("caller").env("HTTP2", "1").env("BACKEND_URL", backend.url("")).start(world)?;
        let mut recording = Recording::start(world)?;
        let load = Load::on(&app.address(), "/r").in_flight(20);
        let mut requests = 0;
        let mut warm_up = |count: u64| -> Result<()> {
            let first = 1_000_000 + u64::try_from(requests)?;
            requests += load.run(first..first + count)?.answered.len();
            Ok(())
        };
        wait::until(within(PATIENCE), "goroutines to be known", || {
            warm_up(20)?;
            let is_known = |span: &Span| span.get("onlooker.parent.evidence") == "goroutine";
            Ok(recording.spans()?.iter().any(is_known).then_some(()))
        })?;
        // Goroutines with ids from before the agent looked inherit nothing: use them up.
        warm_up(400)?;
        let numbers = 10_000..10_600;
        let urls = world.dir().join("urls");
        fs::write(&urls, numbers.clone().map(|number| app.url(&format!("/r/{number}\n"))).collect::<String>())?;
        let input = format!("--input-file={}", urls.display());
        world.run(world.command("h2load").args([
            "--requests=600",
            "--clients=2",
            "--max-concurrent-streams=25",
            &input,
        ]))?;
        requests += 2 * 600;
        ensure!(noted_streams(&mut recording, &mut app)? == 0, "requests that were handled are still noted");
        let received = backend.received_paths()?.len();
        let outcome = recording.finish(requests + 2 * received)?;
        let verdict = judge(&outcome.spans, &app.address(), |number| numbers.contains(&number));
        verdict.print("Go server over HTTP/2 | 50").expect_all_right_by("goroutine")?;
        Ok(())
    })
}

/// How many streams of this program the kernel programs have noted.
fn noted_streams(recording: &mut Recording, app: &mut App) -> Result<usize> {
    let pid = app.process().pid().to_ne_bytes();
    let keys = bpf_objects::keys(recording.agent().process().pid(), "STREAMS")?;
    Ok(keys.iter().filter(|key| key.starts_with(&pid)).count())
}

#[test]
fn calls_of_grpc_go_belong_to_the_requests_of_their_goroutines() -> Result<()> {
    const CALLS: usize = 2;
    World::story("grpc-go", |world| {
        // In an executable of this size without symbols, much looks like the runtime's list of goroutines.
        let stripped = App::go("grpc/rpc_caller").go_arguments(&["-ldflags=-s -w"]);
        let app = |service: &str| stripped.clone().env("OTEL_SERVICE_NAME", service);
        let backend = app("back").start(world)?;
        // With 50 calls in flight the pool is used up, so handlers run on goroutines of their own too.
        let mut middle = app("middle").env("WORKERS", "20").env("BACKEND", backend.address()).start(world)?;
        let front = app("front").env("FRONT", "1").env("BACKEND", middle.address()).start(world)?;
        let mut recording = Recording::start(world)?;
        let load = Load::on(&front.address(), "/r");
        let mut requests = 0;
        let mut warm_up = || -> Result<()> {
            let first = 1_000_000 + u64::try_from(requests)?;
            requests += load.clone().in_flight(20).run(first..first + 100)?.answered.len();
            Ok(())
        };
        wait::until(within(PATIENCE), "goroutines to be known", || {
            warm_up()?;
            let spans = recording.spans()?;
            let is_known = |service| {
                let is_of = |span: &Span| span.kind == "client" && span.service == service;
                spans.iter().any(|span| is_of(span) && span.get("onlooker.parent.evidence") == "goroutine")
            };
            Ok((is_known("front") && is_known("middle")).then_some(()))
        })?;
        // Goroutines with ids from before the agent looked inherit nothing: use them up.
        warm_up()?;
        let noted = noted_streams(&mut recording, &mut middle)?;
        let rounds = [(1, 100..130), (10, 1000..1100), (50, 10_000..10_300)];
        for (in_flight, numbers) in rounds.clone() {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let still_noted = noted_streams(&mut recording, &mut middle)?;
        ensure!(still_noted <= noted, "{still_noted} requests that were handled are still noted, {noted} before");
        // Each request makes two calls, and each of these makes two more. Calls have two spans.
        let outcome = recording.finish(requests * (1 + 2 * CALLS + 2 * CALLS * CALLS))?;
        for (in_flight, numbers) in rounds {
            let verdict = judge(&outcome.spans, &front.address(), |number| numbers.contains(&number));
            verdict
                .print(&format!("net/http server, grpc-go client | {in_flight}"))
                .expect_all_right_by("goroutine")?;
            let verdict = judge(&outcome.spans, &middle.address(), |number| numbers.contains(&number));
            verdict.print(&format!("grpc-go server and client | {in_flight}")).expect_all_right_by("goroutine")?;
        }
        expect_methods_below_their_parents(&outcome.spans)?;
        Ok(())
    })
}

/// A server's first read has the preface and perhaps a request. A frame's header may come in two reads.
#[rstest]
#[case::net_http(Kind::Http, App::go("caller").env("HTTP2", "1"))]
#[case::grpc_go(Kind::Grpc, App::go("grpc/rpc_caller"))]
fn requests_of_go_own_their_calls_however_their_bytes_arrive(
    #[case] kind: Kind,
    #[case] app: AppOptions,
) -> Result<()> {
    const CALLS: usize = 2;
    World::story("bytes-of-requests", |world| {
        let app = match kind {
            Kind::Http => {
                let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
                let app = app.env("BACKEND_URL", backend.url("")).start(world)?;
                (app, backend)
            }
            Kind::Grpc => {
                let backend = app.clone().env("OTEL_SERVICE_NAME", "back").start(world)?;
                (app.env("BACKEND", backend.address()).env("OTEL_SERVICE_NAME", "caller").start(world)?, backend)
            }
        };
        let (app, _backend) = app;
        let recording = Recording::start(world)?;
        let mut requests = 0;
        let mut send = |numbers: Range<u64>, written: Written| -> Result<()> {
            for number in numbers {
                let path = if kind == Kind::Http { format!("/r/{number}") } else { format!("/calls/{number}") };
                http2_client::request(&app.address(), &path, kind, written)?;
                requests += 1;
            }
            Ok(())
        };
        let mut first = 1_000_000;
        wait::until(within(PATIENCE), "goroutines to be known", || {
            send(first..first + 10, Written::AfterSettings)?;
            first += 10;
            let is_known = |span: &Span| span.get("onlooker.parent.evidence") == "goroutine";
            Ok(recording.spans()?.iter().any(is_known).then_some(()))
        })?;
        // Within the header of the HEADERS frame, and behind it.
        let ways = [Written::WithPreface, Written::InPieces(4), Written::InPieces(9)];
        let rounds: Vec<_> = (1000..).step_by(1000).zip(ways).map(|(from, way)| (from..from + 20, way)).collect();
        for (numbers, way) in &rounds {
            send(numbers.clone(), *way)?;
        }
        let outcome = recording.finish(requests * (1 + 2 * CALLS))?;
        for (numbers, way) in rounds {
            let verdict = judge(&outcome.spans, &app.address(), |number| numbers.contains(&number));
            verdict.print(&format!("{kind:?}, {way:?}")).expect_counts(20, CALLS)?.expect_all_right_by("goroutine")?;
        }
        Ok(())
    })
}

/// Fails unless the parent of every call of `calls.A.B/7` is the request `calls.A/7`: two requests have the same number.
fn expect_methods_below_their_parents(spans: &[Span]) -> Result<()> {
    let methods: HashMap<_, _> = spans.iter().map(|span| (span.span_id.as_str(), span.get("rpc.method"))).collect();
    for call in spans.iter().filter(|span| span.kind == "client") {
        let parent = call.parent.as_deref().and_then(|parent| methods.get(parent)).copied().unwrap_or_default();
        let (Some((above, _)), Some((service, _))) = (parent.split_once('/'), call.get("rpc.method").split_once('/'))
        else {
            continue;
        };
        ensure!(service.rsplit_once('.').is_some_and(|(of, _)| of == above), "{parent} called {service}");
    }
    Ok(())
}

/// With httpx, the task of a request writes its calls and its response. grpc.aio writes calls from tasks of its own.
#[rstest]
#[case::httpx("hypercorn and httpx", App::python("caller_http2").with_http2(), true)]
#[case::grpc_aio("hypercorn and grpc.aio", App::python("caller_http2").with_http2().env("GRPC", "1"), false)]
fn calls_of_asyncio_over_http_2_have_no_wrong_parents(
    #[case] name: &str,
    #[case] app: AppOptions,
    #[case] is_found: bool,
) -> Result<()> {
    const CALLS: usize = 2;
    World::story(name, |world| {
        let backend = match is_found {
            true => App::node("delayed").env("HTTP2", "1").start(world)?,
            false => App::go("grpc/rpc_caller").start(world)?,
        };
        let app = app.env("BACKEND", backend.address()).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&app.address(), "/r");
        let mut requests = 0;
        let rounds = [(10, 1000..1100), (50, 10_000..10_200)];
        for (in_flight, numbers) in rounds.clone() {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let outcome = recording.finish(requests * (1 + 2 * CALLS))?;
        for (in_flight, numbers) in rounds {
            let verdict = judge(&outcome.spans, load.address(), |number| numbers.contains(&number));
            let least = if is_found && in_flight > 10 { 95 } else { 0 };
            verdict.print(&format!("{name} | {in_flight}")).expect_none_wrong_and_right_at_least(least)?;
        }
        Ok(())
    })
}

/// Node reads many requests at once, and sends many calls at once.
#[rstest]
#[case::at_its_end("Node http2 server and client, two connections", App::node("callbacks_http2"))]
#[case::at_its_data("the same, the second call at the data of the first", App::node("callbacks_http2").env("AT", "data"))]
#[case::at_its_head("the same, the second call at the head of the first", App::node("callbacks_http2").env("AT", "response"))]
fn calls_of_node_over_http_2_belong_to_the_requests_of_their_streams(
    #[case] name: &str,
    #[case] app: AppOptions,
) -> Result<()> {
    World::story("Node over HTTP/2", |world| {
        let recording = Recording::start(world)?;
        let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
        let app = app.env("BACKEND_URL", backend.url("")).start(world)?;
        let mut requests = 0;
        let mut send = |connections: usize, streams: usize, numbers: Range<u64>| -> Result<()> {
            let urls = world.dir().join("urls");
            fs::write(&urls, numbers.clone().map(|number| app.url(&format!("/r/{number}\n"))).collect::<String>())?;
            let mut load = world.command("h2load");
            load.arg(format!("--requests={}", numbers.end - numbers.start)).arg(format!("--clients={connections}"));
            load.arg(format!("--max-concurrent-streams={streams}")).arg(format!("--input-file={}", urls.display()));
            world.run_unwatched(&mut load)?;
            requests += usize::try_from(numbers.end - numbers.start)?;
            Ok(())
        };
        wait::until(within(PATIENCE), "async ids to be known", || {
            send(1, 1, 1_000_000..1_000_010)?;
            Ok(are_async_ids_known(&recording, "callbacks_http2")?.then_some(()))
        })?;
        let rounds = [(1, 1, 100..130), (2, 5, 1000..1200), (2, 25, 10_000..10_600)];
        for (connections, streams, numbers) in rounds.clone() {
            send(connections, streams, numbers)?;
        }
        let outcome = recording.finish(requests * (1 + 2 * 2))?;
        for (connections, streams, numbers) in rounds {
            let verdict = judge(&outcome.spans, &app.address(), |number| numbers.contains(&number));
            verdict.print(&format!("{name} | {}", connections * streams)).expect_none_wrong_and_right_at_least(95)?;
        }
        Ok(())
    })
}

/// Whether a call of the service has a parent by `async-id`.
fn are_async_ids_known(recording: &Recording, service: &str) -> Result<bool> {
    let is_found = |span: &Span| span.service == service && span.get("onlooker.parent.evidence") == "async-id";
    Ok(recording.spans()?.iter().any(is_found))
}

#[test]
fn calls_of_services_of_grpc_in_python_and_node_have_no_wrong_parents() -> Result<()> {
    if let Some(reason) = grpc_js("grpc_js_relay").skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("grpc-relays", |world| {
        let recording = Recording::start(world)?;
        let go = App::go("grpc/rpc_caller");
        let back = go.clone().env("OTEL_SERVICE_NAME", "back").start(world)?;
        let grpc_js = grpc_js("grpc_js_relay").env("OTEL_SERVICE_NAME", "grpc-js");
        let grpc_js = grpc_js.env("BACKEND", back.address()).start(world)?;
        let node =
            App::node("rpc_relay").env("OTEL_SERVICE_NAME", "node").env("BACKEND_URL", grpc_js.url("")).start(world)?;
        let python = App::python("rpc_relay").with_http2().env("OTEL_SERVICE_NAME", "python");
        let python = python.env("BACKEND", node.address()).start(world)?;
        let front = go.env("OTEL_SERVICE_NAME", "front").env("FRONT", "1").env("BACKEND", python.address());
        let front = front.start(world)?;
        let load = Load::on(&front.address(), "/r");
        let mut requests = 0;
        wait::until(within(PATIENCE), "async ids to be known", || {
            let first = 1_000_000 + u64::try_from(requests)?;
            requests += load.run(first..first + 10)?.answered.len();
            let is_known = |service| are_async_ids_known(&recording, service);
            Ok((is_known("node")? && is_known("grpc-js")?).then_some(()))
        })?;
        let rounds = [(1, 100..120), (10, 1000..1100), (50, 10_000..10_200)];
        for (in_flight, numbers) in rounds.clone() {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let outcome = recording.finish(requests * (1 + 2 * 8))?;
        let services = [("grpcio", &python), ("Node http2", &node), ("grpc-js", &grpc_js)];
        for (in_flight, numbers) in rounds {
            for (name, address) in services.map(|(name, app)| (name, app.address())) {
                let verdict = judge(&outcome.spans, &address, |number| numbers.contains(&number));
                verdict.print(&format!("{name}, server and client | {in_flight}"));
                let least = if name == "grpcio" { 0 } else { 95 };
                verdict.expect_none_wrong_and_right_at_least(least)?;
            }
        }
        expect_methods_below_their_parents(&outcome.spans)
    })
}
