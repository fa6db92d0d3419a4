//! The formats of trace contexts: all are read, and those that are chosen are written.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{App, Gunicorn, Nginx};
use onlooker_tests::{Agent, Curl, Receiver, Recording, Summary, World, agent_binary};
use rstest::rstest;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Names of formats, and the lines that each has. In them `TRACE` and `SPAN` stand for the ids, and `LOW` for the lower half of the
/// trace id.
const FORMATS: [(&str, &str); 6] = [
    ("tracecontext", "traceparent: 00-TRACE-SPAN-03\r\n"),
    ("b3", "b3: TRACE-SPAN-1\r\n"),
    ("b3multi", "X-B3-TraceId: TRACE\r\nX-B3-SpanId: SPAN\r\nX-B3-Sampled: 1\r\n"),
    ("jaeger", "uber-trace-id: TRACE:SPAN:0:1\r\n"),
    ("ottrace", "ot-tracer-traceid: LOW\r\not-tracer-spanid: SPAN\r\not-tracer-sampled: true \r\n"),
    ("xray", "X-Amzn-Trace-Id: Root=1-TIME-REST;Parent=SPAN;Sampled=1\r\n"),
];

fn filled(lines: &str, trace: &str, span: &str) -> String {
    let lines = lines.replace("TRACE", trace).replace("LOW", &trace[16..]).replace("SPAN", span);
    lines.replace("TIME", &trace[..8]).replace("REST", &trace[8..])
}

/// Writes a configuration file that chooses formats, and returns its path.
fn choosing(world: &World, formats: &str) -> Result<String> {
    let file = world.dir().join("formats.yaml");
    fs::write(&file, format!("file_format: \"1.0\"\npropagator:\n  composite_list: \"{formats}\"\n"))?;
    Ok(file.to_string_lossy().into_owned())
}

#[rstest]
#[case::b3("b3")]
#[case::all("tracecontext,b3,b3multi,jaeger,ottrace,xray,baggage")]
fn the_chosen_formats_are_written_with_the_ids_of_the_span(#[case] chosen: &str) -> Result<()> {
    World::story("formats", |world| {
        let receiver = Receiver::of_requests()?;
        let recording = Recording::start_with(world, &["--inject", "--config", &choosing(world, chosen)?])?;
        Curl::run(world, &[&receiver.url("/get")])?;
        let own = "X-Amzn-Trace-Id: Root=1-0af76519-16cd43dd8448eb211c80319c";
        Curl::run(world, &["--header", own, &receiver.url("/own")])?;
        let outcome = recording.stop(2)?;
        let requests = receiver.requests();
        let span = |path: &str| {
            let found = outcome.spans.iter().find(|span| span.get("url.full").ends_with(path));
            found.with_context(|| format!("no span for {path}"))
        };
        let get = span("/get")?;
        let rows = FORMATS.iter().filter(|(name, _)| chosen.split(',').any(|one| one == *name));
        let lines: String = rows.map(|(_, lines)| filled(lines, &get.trace_id, &get.span_id)).collect();
        ensure!(requests[0].head.ends_with(&format!("{lines}\r\n")), "expected\n{lines}\n{}", requests[0].head);
        // The field of a load balancer is in the way only of another one.
        let writes_xray = chosen.contains("xray");
        ensure!(requests[1].values("b3").is_empty() == writes_xray, "{}", requests[1].head);
        span("/own")?;
        Ok(())
    })
}

/// Header blocks are cut anywhere, as in `requests_in_any_pieces_arrive_with_one_line_more`.
#[test]
fn requests_in_any_pieces_arrive_with_the_lines_of_all_formats() -> Result<()> {
    World::story("pieces", |world| {
        let receiver = Receiver::of_bytes()?;
        let formats = choosing(world, "tracecontext,b3,b3multi,jaeger,ottrace,xray")?;
        let options = ["--inject", "--export", "none", "--config", &formats];
        let mut agent = Agent::watch(world, &agent_binary()?, &options, &[])?;
        let app = App::python("sent_in_pieces").argument(&receiver.port().to_string());
        let printed = app.argument("9").argument("500").argument("all").run(world)?;
        let summary = Summary::read(&agent.finish()?);
        let (mut added, mut own) = (0, 0);
        for line in printed.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [kind, outcome, count] = words[..] else { anyhow::bail!("{line:?}") };
            ensure!(matches!(outcome, "same" | "added"), "{printed}");
            added += if outcome == "added" { count.parse::<u64>()? } else { 0 };
            own += if kind == "own" { count.parse::<u64>()? } else { 0 };
        }
        let counts = ["added", "own"].map(|what| summary.get(&format!("kernel_traceparent_{what}")));
        ensure!(added > 0 && counts == [added, own], "{printed}\n{summary}");
        Ok(())
    })
}

#[test]
fn every_format_of_a_callers_context_is_read() -> Result<()> {
    World::story("read", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        for (name, lines) in FORMATS {
            let request = format!("GET /{name} HTTP/1.1\r\nHost: shop.test\r\n{}\r\n", filled(lines, TRACE, SPAN));
            ensure!(client.exchange(request)?.0.status == 200, "{name}");
        }
        let outcome = recording.finish(FORMATS.len())?;
        for ((name, _), span) in FORMATS.iter().zip(&outcome.spans) {
            let trace = if *name == "ottrace" { format!("{:0>32}", &TRACE[16..]) } else { TRACE.to_owned() };
            ensure!(span.trace_id == trace, "{name}: {span:?}");
            ensure!(span.parent.as_deref() == Some(SPAN), "{name}: {span:?}");
            ensure!(span.get("onlooker.parent.evidence") == "wire", "{name}: {span:?}");
        }
        Ok(())
    })
}

/// What is sent for a request continues its trace, or has no header if the kernel programs cannot read the format.
#[rstest]
#[case::b3("b3: TRACE-SPAN-0", true, "00")]
#[case::b3_with_a_parent("b3: TRACE-SPAN-d-00f067aa0ba902b7", true, "01")]
#[case::the_w3cs_comes_first(
    "b3: 11111111111111111111111111111111-SPAN-1\r\ntraceparent: 00-TRACE-SPAN-01",
    true,
    "01"
)]
#[case::the_w3cs_comes_last("traceparent: 00-TRACE-SPAN-01\r\nb3: 11111111111111111111111111111111-SPAN-1", true, "01")]
#[case::jaeger("uber-trace-id: TRACE:SPAN:0:1", false, "")]
#[case::xray("X-Amzn-Trace-Id: Root=1-TIME-REST;Parent=SPAN;Sampled=1", false, "")]
fn a_callers_trace_goes_on_from_every_format(
    #[case] header: &str,
    #[case] is_sent: bool,
    #[case] flags: &str,
) -> Result<()> {
    World::story("goes on", |world| {
        let receiver = Receiver::of_requests()?;
        let app = Gunicorn::app("caller").env("BACKEND_URL", receiver.url("")).start(world)?;
        let recording = Recording::start_with(world, &["--inject"])?;
        let mut client = RawClient::open(&app.address())?;
        let header = filled(header, TRACE, SPAN);
        client.exchange(format!("GET /r/1 HTTP/1.1\r\nHost: shop.test\r\n{header}\r\n\r\n"))?;
        recording.wait_for_spans(3)?;
        let outcome = recording.stop(3)?;
        ensure!(outcome.spans.iter().all(|span| span.trace_id == TRACE), "{:?}", outcome.spans);
        let requests = receiver.requests();
        let sent = requests[0].values("traceparent");
        ensure!(sent.len() == usize::from(is_sent), "{}\n{}", requests[0].head, outcome.summary);
        ensure!(sent.iter().all(|sent| sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with(flags)), "{sent:?}");
        let unknown = outcome.summary.get("kernel_traceparent_unknown_trace");
        ensure!(unknown == u64::from(!is_sent), "{}", outcome.summary);
        Ok(())
    })
}

/// It goes with what is sent for the request, as it came.
#[rstest]
#[case::usual("tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned())]
#[case::blanks_around_it("TraceState:\trojo=1 ,\tcongo=2 \t", "rojo=1 ,\tcongo=2".to_owned())]
#[case::the_longest(&format!("tracestate: a={},b={}", "x".repeat(250), "y".repeat(250)), format!("a={},b={}", "x".repeat(250), "y".repeat(250)))]
#[case::too_long(&format!("tracestate: a={},b={}", "x".repeat(256), "y".repeat(256)), String::new())]
#[case::two_fields("tracestate: a=1\r\ntracestate: b=2", String::new())]
#[case::empty("tracestate: ", String::new())]
#[case::beyond_ascii("tracestate: a=\u{e9}", String::new())]
fn a_callers_tracestate_goes_with_the_call(#[case] header: &str, #[case] expected: String) -> Result<()> {
    World::story("state", |world| {
        let receiver = Receiver::of_requests()?;
        let app = Gunicorn::app("caller").env("BACKEND_URL", receiver.url("")).start(world)?;
        let recording = Recording::start_with(world, &["--inject"])?;
        let mut client = RawClient::open(&app.address())?;
        let traceparent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
        client.exchange(format!("GET /r/1 HTTP/1.1\r\nHost: shop.test\r\n{header}\r\n{traceparent}\r\n\r\n"))?;
        recording.wait_for_spans(3)?;
        let outcome = recording.stop(3)?;
        let requests = receiver.requests();
        let head = &requests[0].head;
        let call = outcome.spans.iter().find(|span| span.get("url.full").ends_with("/a/1")).context("no span")?;
        let state = if expected.is_empty() { String::new() } else { format!("tracestate: {expected}\r\n") };
        let end = format!("traceparent: 00-{TRACE}-{}-01\r\n{state}\r\n", call.span_id);
        ensure!(head.ends_with(&end), "expected\n{end}\n{head}");
        Ok(())
    })
}
