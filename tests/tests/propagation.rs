//! `--inject`: a `traceparent` is added to the first request on each new connection, and to nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::load::Load;
use onlooker_tests::servers::{App, AppOptions, Gunicorn, Nginx};
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{until, within};
use onlooker_tests::{Agent, Curl, Networks, Receiver, Recording, Request, Summary, World, agent_binary, record_skip};
use rstest::rstest;

const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Bodies that the programs send.
fn body(path: &str) -> Vec<u8> {
    match path {
        "/post" => (0..1_usize << 20).map(|index| index as u8).collect(),
        "/chunked" => format!("one{}three", "two".repeat(1000)).into_bytes(),
        _ => Vec::new(),
    }
}

/// `00-TRACE-SPAN-FLAGS`
fn parts(traceparent: &str) -> Result<(&str, &str, &str)> {
    let mut parts = traceparent.splitn(4, '-').skip(1);
    let found = parts.next().zip(parts.next()).zip(parts.next());
    let ((trace, span), flags) = found.with_context(|| format!("malformed: {traceparent:?}"))?;
    Ok((trace, span, flags))
}

/// The one `traceparent` of a request.
fn context(request: &Request) -> Result<(&str, &str, &str)> {
    let values = request.values("traceparent");
    ensure!(values.len() == 1, "{} fields in {}", values.len(), request.head);
    parts(values[0])
}

/// Outcomes of tests/apps/python/sent_in_pieces.py by kind of request.
fn outcomes(printed: &str) -> Result<BTreeMap<(&str, &str), u64>> {
    let lines = printed.lines().map(|line| {
        let mut words = line.split(' ');
        let found = words.next().zip(words.next()).zip(words.next());
        let ((kind, outcome), count) = found.with_context(|| format!("{line:?}"))?;
        Ok(((kind, outcome), count.parse()?))
    });
    lines.collect()
}

/// Fails unless every request arrived as it was sent, or with the line where one is to be added.
fn expect_intact(outcomes: &BTreeMap<(&str, &str), u64>) -> Result<()> {
    let wrong = outcomes.keys().find(|(_, outcome)| !matches!(*outcome, "same" | "added"));
    ensure!(wrong.is_none(), "{outcomes:?}");
    Ok(())
}

#[test]
fn requests_in_any_pieces_arrive_with_one_line_more() -> Result<()> {
    World::story("pieces", |world| {
        let receiver = Receiver::of_bytes()?;
        let mut agent = Agent::watch(world, &agent_binary()?, &["--inject", "--export", "none"], &[])?;
        let app = App::python("sent_in_pieces").argument(&receiver.port().to_string());
        let printed = app.argument("7").argument("1500").run(world)?;
        let outcomes = outcomes(&printed)?;
        expect_intact(&outcomes)?;
        let summary = Summary::read(&agent.finish()?);
        let count = |wanted: &str| -> u64 {
            outcomes.iter().filter(|((_, outcome), _)| *outcome == wanted).map(|(_, count)| count).sum()
        };
        ensure!(summary.get("kernel_traceparent_added") == count("added"), "{outcomes:?}\n{summary}");
        ensure!(summary.get("kernel_traceparent_own") == outcomes[&("own", "same")], "{outcomes:?}\n{summary}");
        let left = ["own", "opaque", "too_big", "no_room"].map(|why| summary.get(&format!("kernel_traceparent_{why}")));
        ensure!(left.iter().sum::<u64>() == count("same"), "{outcomes:?}\n{summary}");
        Ok(())
    })
}

#[test]
fn nothing_breaks_when_the_agent_is_killed() -> Result<()> {
    const KILLS: usize = 4;
    const ADDED: u64 = 50;
    World::story("killed", |world| {
        let receiver = Receiver::of_bytes()?;
        let stop = world.dir().join("stop");
        let app = App::python("sent_in_pieces").argument(&receiver.port().to_string());
        let app = app.argument("8").argument(&stop.display().to_string());
        let kill_agents = |is_over: &dyn Fn() -> bool| -> Result<()> {
            for _ in 0..KILLS {
                let mut agent = Agent::watch(world, &agent_binary()?, &["--inject", "--export", "none"], &[])?;
                // It is killed in the middle of requests, after it has changed some.
                until(within(Duration::from_secs(60)), "changed requests", || {
                    ensure!(!is_over(), "the program has ended");
                    agent.process().signal(libc::SIGUSR1)?;
                    let added = Summary::read(&agent.stderr()?).get("kernel_traceparent_added");
                    Ok((added >= ADDED).then_some(()))
                })?;
                agent.process().signal(libc::SIGKILL)?;
                agent.process().wait_for_exit(within(Duration::from_secs(10)))?;
            }
            Ok(())
        };
        let printed = std::thread::scope(|scope| {
            let program = scope.spawn(|| app.run(world));
            let killed = kill_agents(&|| program.is_finished());
            // Also after a failure: the scope ends with the program.
            fs::write(&stop, "")?;
            let printed = program.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
            killed.map(|()| printed)
        })?;
        // Without an agent no line is added. For a moment after its end, FIONREAD may answer 0: docs/propagation.md.
        let expected = ["not_added", "bytes_waiting_late"];
        let outcomes: BTreeMap<_, _> =
            outcomes(&printed)?.into_iter().filter(|((_, outcome), _)| !expected.contains(outcome)).collect();
        expect_intact(&outcomes)?;
        let added: u64 =
            outcomes.iter().filter(|((_, outcome), _)| *outcome == "added").map(|(_, requests)| requests).sum();
        ensure!(added >= KILLS as u64 * ADDED, "{outcomes:?}");
        Ok(())
    })
}

#[rstest]
#[case::python(App::python("uploading"))]
#[case::node(App::node("uploading"))]
#[case::go(App::go("uploading"))]
fn a_programs_requests_have_the_ids_of_their_spans(#[case] app: AppOptions) -> Result<()> {
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("ids", |world| {
        let receiver = Receiver::of_requests()?;
        let recording = Recording::start_with(world, &["--inject"])?;
        app.clone().argument(&receiver.url("")).run(world)?;
        expect_ids(recording, &receiver, &["/get", "/post", "/chunked", "/own"])
    })
}

#[test]
fn curls_requests_have_the_ids_of_their_spans() -> Result<()> {
    World::story("curl", |world| {
        let receiver = Receiver::of_requests()?;
        let recording = Recording::start_with(world, &["--inject"])?;
        let file = |path: &str| -> Result<String> {
            let file = world.dir().join(path.trim_start_matches('/'));
            fs::write(&file, body(path))?;
            Ok(format!("@{}", file.display()))
        };
        Curl::run(world, &[&receiver.url("/get")])?;
        // It waits for 100 Continue, between the head and the body.
        let (post, url) = (file("/post")?, receiver.url("/post"));
        Curl::run(world, &["--header", "Expect: 100-continue", "--data-binary", &post, &url])?;
        let (chunked, url) = (file("/chunked")?, receiver.url("/chunked"));
        Curl::run(world, &["--header", "Transfer-Encoding: chunked", "--data-binary", &chunked, &url])?;
        Curl::run(world, &["--header", &format!("TraceParent: {OWN}"), &receiver.url("/own")])?;
        expect_ids(recording, &receiver, &["/get", "/post", "/chunked", "/own"])
    })
}

/// Fails unless each of these requests arrived with its body, and with the ids of its span or with its own context.
fn expect_ids(recording: Recording, receiver: &Receiver, paths: &[&str]) -> Result<()> {
    let requests = receiver.requests();
    recording.wait_for_spans(paths.len() - 1)?;
    let outcome = recording.stop(paths.len())?;
    ensure!(requests.iter().map(Request::path).collect::<Vec<_>>() == paths, "{requests:?}");
    for request in &requests {
        let path = request.path();
        ensure!(request.body == body(path), "{path}: {} bytes arrived", request.body.len());
        let context = context(request)?;
        if path == "/own" {
            ensure!(context == parts(OWN)?, "{}", request.head);
            continue;
        }
        let (trace, span, flags) = context;
        let found = outcome.spans.iter().find(|found| found.get("url.full").ends_with(path));
        let found = found.with_context(|| format!("no span for {path}"))?;
        ensure!((trace, span) == (found.trace_id.as_str(), found.span_id.as_str()), "{found:?}\n{}", request.head);
        ensure!(flags == "03", "a root is recorded, and its id is random: {}", request.head);
        ensure!(request.head.contains(&format!("traceparent: 00-{trace}-{span}-03\r\n\r\n")), "{}", request.head);
    }
    ensure!(outcome.summary.get("spans_left_to_sdk") == 1, "{}", outcome.summary);
    Ok(())
}

/// The trace of a caller on another host goes on, although the application passes nothing on.
#[test]
fn a_callers_trace_goes_on_behind_an_application() -> Result<()> {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    World::story("goes on", |world| {
        let receiver = Receiver::of_requests()?;
        let app = Gunicorn::app("caller").env("BACKEND_URL", receiver.url("")).start(world)?;
        let recording = Recording::start_with(world, &["--inject"])?;
        for flags in ["00", "01"] {
            let header = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-{flags}");
            Curl::run(world, &["--header", &header, &app.url("/r/1")?])?;
        }
        recording.wait_for_spans(6)?;
        let outcome = recording.stop(8)?;
        ensure!(outcome.spans.iter().all(|span| span.trace_id == TRACE), "{:?}", outcome.spans);
        let requests = receiver.requests();
        let sent: Vec<_> = requests.iter().filter(|request| !request.values("traceparent").is_empty()).collect();
        ensure!(!sent.is_empty(), "{requests:?}");
        for request in sent {
            let (trace, span, flags) = context(request)?;
            ensure!(trace == TRACE && flags == "00", "{}", request.head);
            ensure!(outcome.spans.iter().any(|found| found.span_id == span), "{}", request.head);
        }
        Ok(())
    })
}

/// On one host the sequence numbers of a connection and the header name the same call, for each request that has the header.
#[test]
fn both_ends_of_a_connection_agree_with_the_header() -> Result<()> {
    const REQUESTS: u64 = 200;
    World::story("agree", |world| {
        let log = world.dir().join("received.txt");
        let site = format!("access_log {} received; location / {{ return 200 hello; }}", log.display());
        let behind = Nginx::site(&site).http("log_format received '$request_uri $http_traceparent';").named("behind");
        let behind = behind.start(world)?;
        let app = App::go("caller");
        if let Some(reason) = app.skip_reason() {
            record_skip(&reason);
            return Ok(());
        }
        let app = app.env("BACKEND_URL", behind.url("")).start(world)?;
        let front = Nginx::proxy_to(&app.address()).named("front").start(world)?;
        let recording = Recording::start_with(world, &["--inject"])?;
        let sent = Load::on(&front.address(), "/r").in_flight(20).run(1..REQUESTS + 1)?.answered.len();
        let outcome = recording.finish(7 * sent)?;
        let spans: HashMap<&str, &Span> = outcome.spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
        let received = until(within(Duration::from_secs(10)), "the log", || {
            let text = fs::read_to_string(&log)?;
            Ok((text.lines().count() == 2 * sent).then_some(text))
        })?;
        let mut with_header = 0;
        for line in received.lines() {
            let (path, traceparent) = line.split_once(' ').with_context(|| line.to_owned())?;
            if traceparent == "-" {
                continue;
            }
            with_header += 1;
            let (trace, span, _) = parts(traceparent)?;
            let call = spans.get(span).with_context(|| format!("no span has the id of {line}"))?;
            ensure!(
                call.kind == "client" && call.get("url.full").ends_with(path) && call.trace_id == trace,
                "{line}: {call:?}"
            );
            let served = outcome
                .spans
                .iter()
                .find(|found| found.kind == "server" && found.get("url.path") == path && found.service == "nginx");
            let served = served.with_context(|| format!("no server span for {line}"))?;
            ensure!(served.parent.as_deref() == Some(span) && served.trace_id == trace, "{line}: {served:?}");
            ensure!(served.get("onlooker.parent.evidence") == "host", "{line}: {served:?}");
        }
        ensure!(with_header > 0 && outcome.summary.get("parents_found_late") == 0, "{}", outcome.summary);
        println!("{with_header} of {} requests carried the header", received.lines().count());
        Ok(())
    })
}

/// Its cgroup is attached to when the process is selected.
#[test]
fn a_process_that_a_port_selects_is_covered() -> Result<()> {
    World::story("by port", |world| {
        let receiver = Receiver::of_requests()?;
        let app = Gunicorn::app("caller").env("BACKEND_URL", receiver.url("")).start(world)?;
        let port = app.address().rsplit_once(':').context("it has a port")?.1.to_owned();
        let recording = Recording::start_selecting(world, &["--port", &port, "--inject"])?;
        // curl is not selected.
        Curl::run(world, &[&app.url("/r/1")?])?;
        recording.wait_for_spans(3)?;
        let outcome = recording.stop(3)?;
        ensure!(outcome.summary.get("kernel_traceparent_added") == 1, "{}", outcome.summary);
        let requests = receiver.requests();
        let (trace, span, _) = context(&requests[0])?;
        let call = outcome.spans.iter().find(|found| found.span_id == span).context("no span has the id")?;
        ensure!(
            call.trace_id == trace && outcome.spans.iter().all(|span| span.trace_id == trace),
            "{:?}",
            outcome.spans
        );
        Ok(())
    })
}

/// Trace ids leave only for the destinations that are meant.
#[rstest]
#[case::denied_port("--inject-deny", ":OTHER")]
#[case::denied_network("--inject-deny", "10.0.0.0/8,127.0.0.0/8:OTHER")]
#[case::allowed_address("--inject-allow", "127.0.0.1:WANTED")]
#[case::allowed_name("--inject-allow", "shop.test,localhost:WANTED")]
fn only_allowed_destinations_get_the_header(#[case] option: &str, #[case] destinations: &str) -> Result<()> {
    World::story("destinations", |world| {
        let [wanted, other] = [Receiver::of_requests()?, Receiver::of_requests()?];
        let destinations = destinations.replace("WANTED", &wanted.port().to_string());
        let destinations = destinations.replace("OTHER", &other.port().to_string());
        let recording = Recording::start_with(world, &["--inject", option, &destinations])?;
        Curl::run(world, &[&wanted.url("/get")])?;
        Curl::run(world, &[&other.url("/get")])?;
        let outcome = recording.stop(2)?;
        context(wanted.requests().first().context("nothing arrived")?)?;
        let left = other.requests();
        ensure!(left[0].values("traceparent").is_empty(), "{}", left[0].head);
        let counts = ["added", "denied"].map(|what| outcome.summary.get(&format!("kernel_traceparent_{what}")));
        ensure!(counts == [1, 1], "{}", outcome.summary);
        Ok(())
    })
}

/// A socket can have one program of this kind.
#[test]
fn a_second_agent_adds_no_second_line() -> Result<()> {
    World::story("second agent", |world| {
        let receiver = Receiver::of_requests()?;
        let options = ["--inject", "--export", "none"];
        let mut agents = [
            Agent::watch(world, &agent_binary()?, &options, &[])?,
            Agent::watch(world, &agent_binary()?, &options, &[])?,
        ];
        Curl::run(world, &[&receiver.url("/get")])?;
        let requests = receiver.requests();
        context(requests.first().context("nothing arrived")?)?;
        // Both write to the same log, and what the second returns has the counters of both.
        let [first, second] = &mut agents;
        first.finish()?;
        let summary = Summary::read(&second.finish()?);
        let counts = ["added", "busy"].map(|what| summary.get(&format!("kernel_traceparent_{what}")));
        ensure!(counts == [1, 1], "added and busy: {counts:?}");
        Ok(())
    })
}

/// Another agent's program comes first.
#[test]
fn nothing_is_added_while_a_program_of_somebody_else_is_loaded() -> Result<()> {
    World::story("foreign program", |world| {
        let receiver = Receiver::of_requests()?;
        let agent = agent_binary()?.display().to_string();
        let beside = |arguments: &[&str]| {
            let app = App::python("with_foreign_program").argument(&agent);
            arguments.iter().fold(app, |app, argument| app.argument(argument)).run(world)
        };
        let curl = ["exec", "--inject", "--export", "none", "--", "curl", "--silent"];
        let printed = beside(&[&curl[..], &[&receiver.url("/get")]].concat())?;
        ensure!(printed.starts_with("GET /get ") && !printed.contains("traceparent"), "{printed}");
        let printed = beside(&["doctor"])?;
        ensure!(printed.contains("--inject adds nothing") && printed.contains("somebody_else"), "{printed}");
        Ok(())
    })
}

/// Two hosts with an agent each: neither knows the other's processes, and the header is all that they share.
#[test]
fn a_trace_goes_on_in_another_network_with_an_agent_of_its_own() -> Result<()> {
    let networks = Networks::create()?;
    let [near, far] = [0, 1].map(|end| networks.ends[end].clone());
    let far_world = World::in_network(&far)?;
    World::story("two agents", |_| {
        let world = World::in_network(&near)?;
        let server = App::node("delayed").start(&far_world)?;
        let proxy = format!(
            "server {{ listen {}:8080; location / {{ proxy_pass http://{}; }} }}",
            far.address(),
            server.address()
        );
        let _proxy = Nginx::site("return 200;").http(&proxy).start(&far_world)?;
        let url = format!("http://{}:8080", far.address());
        let app = Gunicorn::app("caller").env("BACKEND_URL", url).start(&world)?;
        let far_recording = Recording::start_with(&far_world, &["--inject"])?;
        let recording = Recording::start_with(&world, &["--inject"])?;
        Curl::run(&world, &[&app.url("/r/1")?])?;
        // The application's second call goes over the connection of the first, which has left by then.
        recording.wait_for_spans(4)?;
        far_recording.wait_for_spans(6)?;
        let (outcome, far_outcome) = (recording.stop(4)?, far_recording.stop(6)?);
        let call = outcome.spans.iter().find(|span| span.kind == "client" && span.get("url.full").ends_with("/a/1"));
        let call = call.context("the first call has no span")?;
        ensure!(outcome.spans.iter().all(|span| span.trace_id == call.trace_id), "{:?}", outcome.spans);
        let below: Vec<_> = far_outcome
            .spans
            .iter()
            .filter(|span| span.get("url.path").ends_with("/a/1") || span.get("url.full").ends_with("/a/1"))
            .collect();
        ensure!(below.len() == 3 && below.iter().all(|span| span.trace_id == call.trace_id), "{:?}", far_outcome.spans);
        let first =
            below.iter().find(|span| span.kind == "server" && span.service == "nginx").context("nginx has no span")?;
        ensure!(first.parent.as_ref() == Some(&call.span_id), "{first:?}");
        ensure!(first.get("onlooker.parent.evidence") == "wire", "{first:?}");
        Ok(())
    })
}
