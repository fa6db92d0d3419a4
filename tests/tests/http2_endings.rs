//! How streams of HTTP/2 end: long ones, refused ones, and those of a server that is killed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::servers::App;
use onlooker_tests::spans::{self, Span};
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_streaming_call_ends_with_its_trailers() -> Result<()> {
    /// 0.3 s apart.
    const MESSAGES: u32 = 34;
    World::story("grpc-long", |world| {
        let server = App::python("rpc_server").with_http2().start(world)?;
        let recording = Recording::start(world)?;
        let client =
            App::python("rpc_streams").with_http2().argument(&server.address()).argument(&MESSAGES.to_string());
        let measured: HashMap<String, [u64; 2]> = serde_json::from_str(&client.run(world)?)?;
        let outcome = recording.finish(6)?;
        for span in &outcome.spans {
            let method = span.name.rsplit('/').next().unwrap_or_default();
            let [begin, end] = *measured.get(method).with_context(|| format!("{method} was not measured"))?;
            let (measured, seen) = (end - begin, span.end - span.start);
            ensure!(measured > 10_000_000_000, "{method} took {measured} ns");
            // The client's own work is part of what it measures.
            ensure!(measured.abs_diff(seen) < measured / 20, "{} {method}: {seen} ns of {measured} ns", span.kind);
            ensure!(span.get("rpc.response.status_code") == "OK", "{span:?}");
        }
        let sum = |key: &str| outcome.spans.iter().filter_map(|span| span.get(key).parse::<u32>().ok()).sum::<u32>();
        // At both ends: one call has one request, one has one response, and all else are streams.
        let expected = 2 * (1 + 2 * MESSAGES);
        ensure!(sum("onlooker.rpc.request.messages") == expected);
        ensure!(sum("onlooker.rpc.response.messages") == expected);
        Ok(())
    })
}

/// A stream that was open before GOAWAY goes on after it.
#[test]
fn streams_that_are_given_up_or_outlive_goaway_have_their_status() -> Result<()> {
    World::story("grpc-given-up", |world| {
        let server = App::python("rpc_server").with_http2().start(world)?;
        let recording = Recording::start(world)?;
        let printed = App::python("rpc_given_up").with_http2().argument(&server.address()).run(world)?;
        let expected = "deadline DEADLINE_EXCEEDED\ncancelled CANCELLED\nfailed DATA_LOSS\nleft 5\n";
        ensure!(printed == expected, "{printed}");
        let outcome = recording.finish(2 * 5)?;
        let expected = [
            "client shop.Cart/Break DATA_LOSS DATA_LOSS",
            "client shop.Cart/Feed CANCELLED CANCELLED",
            "client shop.Cart/Feed DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
            "client shop.Cart/Feed OK ",
            "client shop.Cart/Leave OK ",
            "server shop.Cart/Break DATA_LOSS DATA_LOSS",
            "server shop.Cart/Feed CANCELLED ",
            "server shop.Cart/Feed DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
            "server shop.Cart/Feed OK ",
            "server shop.Cart/Leave OK ",
        ];
        spans::expect_each(&outcome.spans, rpc_ending, &expected)
    })
}

#[test]
fn streams_above_the_last_one_of_goaway_are_refused() -> Result<()> {
    World::story("http2-goaway", |world| {
        let server = App::node("http2").start(world)?;
        let recording = Recording::start(world)?;
        let client = App::node("http2_client").argument(&server.url(""));
        let paths = ["/items/7", "/leave", "/never", "/never"];
        paths.iter().fold(client, |client, path| client.argument(path)).run(world)?;
        let outcome = recording.finish(8)?;
        let expected = [
            "client GET /items/{id} 200 ",
            "client GET /leave 200 ",
            "client GET /never  REFUSED_STREAM",
            "client GET /never  REFUSED_STREAM",
            "server GET /items/{id} 200 ",
            "server GET /leave 200 ",
            "server GET /never  REFUSED_STREAM",
            "server GET /never  REFUSED_STREAM",
        ];
        spans::expect_each(&outcome.spans, ending, &expected)
    })
}

#[test]
fn calls_to_a_server_that_is_killed_have_no_status() -> Result<()> {
    const CALLS: usize = 5;
    World::story("grpc-killed", |world| {
        let mut server = App::python("rpc_server").with_http2().start(world)?;
        let recording = Recording::start(world)?;
        let address = server.address();
        let printed = std::thread::scope(|scope| {
            let client = App::python("rpc_abandoned").with_http2().argument(&address).argument(&CALLS.to_string());
            let client = scope.spawn(move || client.run(world));
            server.process().wait_for_log(within(PATIENCE), "hangs", CALLS)?;
            server.process().signal(libc::SIGKILL)?;
            client.join().map_err(|_| anyhow::anyhow!("the thread of the client panicked"))?
        })?;
        ensure!(printed.trim() == ["UNAVAILABLE"; CALLS].join(" "), "{printed}");
        let outcome = recording.finish(2 * CALLS)?;
        // Its kernel resets the connection if the server had not read everything, such as a WINDOW_UPDATE, and else closes it.
        let reset = outcome.spans.iter().any(|span| span.get("error.type") == "connection_reset");
        let call =
            if reset { "client shop.Cart/Hang  connection_reset" } else { "client shop.Cart/Hang  connection_closed" };
        let expected = [[call; CALLS], ["server shop.Cart/Hang  process_exit"; CALLS]].concat();
        spans::expect_each(&outcome.spans, rpc_ending, &expected)
    })
}

/// Kind, name, status and error of a span of HTTP.
fn ending(span: &Span) -> String {
    format!("{} {} {} {}", span.kind, span.name, span.get("http.response.status_code"), span.get("error.type"))
}

/// The same of a call.
fn rpc_ending(span: &Span) -> String {
    format!("{} {} {} {}", span.kind, span.name, span.get("rpc.response.status_code"), span.get("error.type"))
}
