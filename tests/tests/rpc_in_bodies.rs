//! gRPC-Web and Connect, over HTTP/1 and HTTP/2: calls whose status is in a body. Real clients and servers.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use onlooker_tests::servers::{App, ProxyProgram};
use onlooker_tests::spans::Span;
use onlooker_tests::{Recording, World, record_skip};
use rstest::rstest;

/// Plain calls of the client, and the others.
const PLAIN: usize = 20;
const OTHERS: usize = 5;

/// Kind, method, status, messages of both ends, and error.
fn summary(span: &Span) -> String {
    let parts = ["rpc.method", "rpc.response.status_code", "onlooker.rpc.request.messages"];
    let more = ["onlooker.rpc.response.messages", "error.type"];
    let values = parts.into_iter().chain(more).map(|key| span.get(key));
    std::iter::once(&*span.kind).chain(values).collect::<Vec<_>>().join(" ")
}

/// Fails unless these are all summaries of spans that there are.
fn expect_summaries(spans: &[Span], expected: &[&str]) -> Result<()> {
    let seen: BTreeSet<_> = spans.iter().map(summary).collect();
    ensure!(seen.iter().eq(expected), "{seen:#?}");
    Ok(())
}

/// Fails unless all spans are of calls, joined with the other end, and hold no secret and no metadata.
fn expect_calls(spans: &[Span], system: &str) -> Result<()> {
    ensure!(!format!("{spans:?}").contains("s3cret"), "a secret was exported");
    let others: Vec<_> = spans.iter().filter(|span| span.get("rpc.system.name") != system).collect();
    ensure!(others.is_empty(), "no calls of {system}: {others:#?}");
    let alone = spans.iter().filter(|span| span.kind == "server" && span.get("onlooker.parent.evidence") != "host");
    ensure!(alone.count() == 0, "a call that was received has no other end");
    Ok(())
}

#[rstest]
#[case::over_http_1("1")]
#[case::over_http_2("2")]
fn calls_of_connect_have_the_status_of_their_bodies(#[case] version: &str) -> Result<()> {
    World::story("connect", |world| {
        let server = App::go("grpc/connect_server").start(world)?;
        let recording = Recording::start(world)?;
        let client = App::go("grpc/connect_client").argument(&server.url("")).argument("connect");
        let printed = client.argument(version).argument(&PLAIN.to_string()).run(world)?;
        ensure!(printed == "Missing not_found\nWatch 3 false\nBreaks 2 true\n", "{printed}");
        let outcome = recording.finish(2 * (PLAIN + OTHERS))?;
        expect_calls(&outcome.spans, "connectrpc")?;
        // Connect has no code for success, and a unary call has one message at each end.
        let expected = [
            "client shop.Cart/Add  2 1 ",
            "client shop.Cart/Breaks aborted 1 2 aborted",
            "client shop.Cart/Get    ",
            "client shop.Cart/Look    ",
            "client shop.Cart/Missing not_found   not_found",
            "client shop.Cart/Watch  1 3 ",
            "server shop.Cart/Add  2 1 ",
            "server shop.Cart/Breaks aborted 1 2 ",
            "server shop.Cart/Get    ",
            "server shop.Cart/Look    ",
            "server shop.Cart/Missing not_found   ",
            "server shop.Cart/Watch  1 3 ",
        ];
        expect_summaries(&outcome.spans, &expected)?;
        let timed = outcome.spans.iter().filter(|span| !span.get("onlooker.rpc.timeout_ms").is_empty());
        ensure!(timed.count() == 2 * (PLAIN + OTHERS), "a call has not the time that its client gave it");
        Ok(())
    })
}

/// What each end of the calls reports, with gRPC-Web.
const WEB: [&str; 12] = [
    "client shop.Cart/Add OK 2 1 ",
    "client shop.Cart/Breaks ABORTED 1 2 ABORTED",
    "client shop.Cart/Get OK 1 1 ",
    "client shop.Cart/Look OK 1 1 ",
    "client shop.Cart/Missing NOT_FOUND 1 0 NOT_FOUND",
    "client shop.Cart/Watch OK 1 3 ",
    "server shop.Cart/Add OK 2 1 ",
    "server shop.Cart/Breaks ABORTED 1 2 ",
    "server shop.Cart/Get OK 1 1 ",
    "server shop.Cart/Look OK 1 1 ",
    "server shop.Cart/Missing NOT_FOUND 1 0 ",
    "server shop.Cart/Watch OK 1 3 ",
];

#[rstest]
#[case::over_http_1("1")]
#[case::over_http_2("2")]
fn calls_of_grpc_web_have_the_status_of_their_last_message(#[case] version: &str) -> Result<()> {
    World::story("grpc-web", |world| {
        let server = App::go("grpc/connect_server").start(world)?;
        let recording = Recording::start(world)?;
        let client = App::go("grpc/connect_client").argument(&server.url("")).argument("grpc-web");
        client.argument(version).argument(&PLAIN.to_string()).run(world)?;
        let outcome = recording.finish(2 * (PLAIN + OTHERS))?;
        expect_calls(&outcome.spans, "grpc")?;
        expect_summaries(&outcome.spans, &WEB)?;
        Ok(())
    })
}

/// The filter of Envoy turns gRPC-Web over HTTP/1 into gRPC over HTTP/2. Both are the same calls.
#[test]
fn envoy_makes_calls_of_grpc_out_of_grpc_web() -> Result<()> {
    if let Some(reason) = ProxyProgram::EnvoyGrpcWeb.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("grpc-web-envoy", |world| {
        let server = App::go("grpc/connect_server").start(world)?;
        let envoy = ProxyProgram::EnvoyGrpcWeb.start(world, &server.address())?;
        let recording = Recording::start(world)?;
        let url = format!("http://{}", envoy.address());
        let client = App::go("grpc/connect_client").argument(&url).argument("grpc-web").argument("1");
        client.argument(&PLAIN.to_string()).run(world)?;
        let outcome = recording.finish(4 * (PLAIN + OTHERS))?;
        expect_calls(&outcome.spans, "grpc")?;
        expect_summaries(&outcome.spans, &WEB)?;
        let roots = outcome.spans.iter().filter(|span| span.parent.is_none());
        ensure!(roots.count() == PLAIN + OTHERS, "the calls of Envoy are not below the calls that it received");
        Ok(())
    })
}
