//! HTTP/2 in clear text, and gRPC: real clients and servers.

use anyhow::{Result, ensure};
use onlooker_tests::servers::{App, Nghttpx, Nginx};
use onlooker_tests::spans::{self, Span};
use onlooker_tests::{Recording, World};

/// Fails unless all spans are of HTTP/2, and none has a secret.
fn expect_http2(spans: &[Span]) -> Result<()> {
    ensure!(!format!("{spans:?}").contains("s3cret"), "a secret was exported");
    let others = spans.iter().filter(|span| span.get("network.protocol.version") != "2").count();
    ensure!(others == 0, "{others} of {} spans are of another protocol", spans.len());
    Ok(())
}

/// Fails unless every request that was received is joined with the call at the other end.
fn expect_joined(spans: &[Span]) -> Result<()> {
    let alone = spans.iter().filter(|span| span.kind == "server" && span.get("onlooker.parent.evidence") != "host");
    let alone: Vec<_> = alone.map(http).collect();
    ensure!(alone.is_empty(), "without their other end: {alone:#?}");
    Ok(())
}

/// Service, kind, name, status, version and error of a span.
fn http(span: &Span) -> String {
    let values = ["http.response.status_code", "network.protocol.version", "error.type"].map(|key| span.get(key));
    [&span.service, &span.kind, &span.name].into_iter().map(|text| &**text).chain(values).collect::<Vec<_>>().join(" ")
}

/// nginx with HTTP/2 in clear text, and a file of 40 KB.
fn nginx(world: &World) -> Result<Nginx> {
    std::fs::write(world.dir().join("large"), vec![b'x'; 40_000])?;
    let root = world.dir().display();
    let server = format!(
        "location / {{ return 200 'hello'; }} location /missing {{ return 404; }} location /large {{ root {root}; }}"
    );
    Nginx::site(&server).listen("http2").start(world)
}

#[test]
fn curl_and_nginx_speak_http_2_by_prior_knowledge() -> Result<()> {
    World::story("http2-curl", |world| {
        let nginx = nginx(world)?;
        let recording = Recording::start(world)?;
        for path in ["/items/7?token=s3cret", "/missing", "/large"] {
            world.curl(&["--http2-prior-knowledge", "--header", "Authorization: Bearer s3cret", &nginx.url(path)])?;
        }
        let outcome = recording.finish(6)?;
        expect_http2(&outcome.spans)?;
        outcome.expect_tree(
            &["http.response.body.size"],
            "
            curl client GET /items/{id} -> 200 http.response.body.size=5
              nginx server GET /items/{id} -> 200 by host http.response.body.size=5
            curl client GET /missing -> 404 error=404 http.response.body.size=153
              nginx server GET /missing -> 404 by host http.response.body.size=153
            curl client GET /large -> 200 http.response.body.size=40000
              nginx server GET /large -> 200 by host http.response.body.size=40000
            ",
        )?;
        Ok(())
    })
}

#[test]
fn the_request_that_upgrades_a_connection_is_one_span() -> Result<()> {
    World::story("http2-upgrade", |world| {
        let nginx = nginx(world)?;
        let nghttpx = Nghttpx::start(world, &nginx.address())?;
        let recording = Recording::start(world)?;
        let url = [nghttpx.url("/items/7"), nghttpx.url("/missing")];
        world.curl(&["--http2", &url[0], &url[1]])?;
        let outcome = recording.finish(8)?;
        let mut seen: Vec<_> = outcome.spans.iter().map(http).collect();
        seen.sort();
        // Only the request that upgrades the connection is of HTTP/1.
        let expected = [
            "curl client GET /items/{id} 200 1.1 ",
            "curl client GET /missing 404 2 404",
            "nghttpx client GET /items/{id} 200 2 ",
            "nghttpx client GET /missing 404 2 404",
            "nghttpx server GET /items/{id} 200 1.1 ",
            "nghttpx server GET /missing 404 2 ",
            "nginx server GET /items/{id} 200 2 ",
            "nginx server GET /missing 404 2 ",
        ];
        ensure!(seen == expected, "{seen:#?}");
        expect_joined(&outcome.spans)?;
        Ok(())
    })
}

#[test]
fn each_of_many_streams_at_once_is_one_span_of_each_side() -> Result<()> {
    const REQUESTS: usize = 2_000;
    for connections in ["1", "10"] {
        World::story("http2-load", |world| {
            let nginx = nginx(world)?;
            let recording = Recording::start(world)?;
            let streams = if connections == "1" { "50" } else { "5" };
            let mut load = world.command("h2load");
            load.args(["-n", &REQUESTS.to_string(), "-c", connections, "-m", streams, &nginx.url("/items/7")]);
            world.run(&mut load)?;
            let outcome = recording.finish(2 * REQUESTS)?;
            expect_http2(&outcome.spans)?;
            let served: Vec<_> = outcome.spans.iter().filter(|span| span.kind == "server").collect();
            let right = served.iter().filter(|span| {
                span.name == "GET /items/{id}"
                    && span.get("http.response.status_code") == "200"
                    && span.get("onlooker.parent.evidence") == "host"
            });
            ensure!(right.count() == REQUESTS, "{} spans of nginx, not all right", served.len());
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn each_stream_of_an_untraced_client_begins_a_trace() -> Result<()> {
    World::story("http2-untraced", |world| {
        let nginx = nginx(world)?;
        let recording = Recording::start(world)?;
        let mut load = world.command("h2load");
        world.run_unwatched(load.args(["-n", "200", "-c", "2", "-m", "10", &nginx.url("/items/7")]))?;
        let spans = recording.finish(200)?.spans;
        let traces: std::collections::BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
        ensure!(traces.len() == 200, "{} traces", traces.len());
        Ok(())
    })
}

#[test]
fn node_gives_up_streams_and_chains_requests() -> Result<()> {
    World::story("http2-node", |world| {
        let server = App::node("http2").start(world)?;
        let recording = Recording::start(world)?;
        let client = App::node("http2_client").argument(&server.url(""));
        let paths = ["/items/7", "/large", "/reset", "/slow"];
        paths.iter().fold(client, |client, path| client.argument(path)).run(world)?;
        let outcome = recording.finish(8)?;
        expect_http2(&outcome.spans)?;
        let expected = [
            "http2 server GET /items/{id} 200 2 ",
            "http2 server GET /large 200 2 ",
            "http2 server GET /reset  2 INTERNAL_ERROR",
            "http2 server GET /slow  2 ",
            "http2_client client GET /items/{id} 200 2 ",
            "http2_client client GET /large 200 2 ",
            "http2_client client GET /reset  2 INTERNAL_ERROR",
            "http2_client client GET /slow  2 CANCEL",
        ];
        expect_joined(&outcome.spans)?;
        spans::expect_each(&outcome.spans, http, &expected)
    })
}

#[test]
fn go_serves_and_calls_itself() -> Result<()> {
    World::story("http2-go", |world| {
        let server = App::go("h2c").start(world)?;
        let recording = Recording::start(world)?;
        for path in ["/chain/1", "/chain/2"] {
            world.curl(&["--http2-prior-knowledge", &server.url(path)])?;
        }
        let outcome = recording.finish(8)?;
        expect_http2(&outcome.spans)?;
        let calls = outcome.spans.iter().filter(|span| span.service == "h2c" && span.name == "GET /items/{id}");
        ensure!(calls.count() == 4, "the calls of the server are missing");
        expect_joined(&outcome.spans)?;
        Ok(())
    })
}

#[test]
fn httpx_and_hypercorn_share_a_connection() -> Result<()> {
    World::story("http2-httpx", |world| {
        let server = App::python("asgi_http2").with_http2().start(world)?;
        let recording = Recording::start(world)?;
        App::python("httpx_http2").with_http2().argument(&server.url("")).run(world)?;
        let outcome = recording.finish(22)?;
        expect_http2(&outcome.spans)?;
        expect_joined(&outcome.spans)?;
        let of = |name: &str, status: &str| {
            outcome.spans.iter().filter(|it| it.name == name && it.get("http.response.status_code") == status).count()
        };
        let found = [
            of("GET /items/{id}", "200"),
            of("POST /orders", "200"),
            of("GET /missing", "404"),
            of("GET /cart", "200"),
        ];
        ensure!(found == [16, 2, 2, 2], "{found:?}");
        Ok(())
    })
}

#[test]
fn calls_of_grpc_have_their_status() -> Result<()> {
    World::story("grpc", |world| {
        let server = App::python("rpc_server").with_http2().start(world)?;
        let recording = Recording::start(world)?;
        let client = App::python("rpc_client").with_http2().argument(&server.address()).argument("20");
        let printed = client.run(world)?;
        ensure!(printed == "Missing NOT_FOUND\nNothing UNIMPLEMENTED\nSlow DEADLINE_EXCEEDED\n", "{printed}");
        let outcome = recording.finish(2 * (20 + 7))?;
        ensure!(!format!("{:?}", outcome.spans).contains("s3cret"), "metadata was exported");
        expect_joined(&outcome.spans)?;
        let others: Vec<_> = outcome.spans.iter().filter(|span| span.name != "shop.Cart/Get").cloned().collect();
        let expected = [
            "client shop.Cart/Add OK 2 1 ",
            "client shop.Cart/Chat OK 2 2 ",
            "client shop.Cart/Missing NOT_FOUND 1 0 NOT_FOUND",
            "client shop.Cart/Nothing UNIMPLEMENTED 1 0 UNIMPLEMENTED",
            "client shop.Cart/Slow CANCELLED 1 0 CANCELLED",
            "client shop.Cart/Slow DEADLINE_EXCEEDED 1 0 DEADLINE_EXCEEDED",
            "client shop.Cart/Watch OK 1 3 ",
            "server shop.Cart/Add OK 2 1 ",
            "server shop.Cart/Chat OK 2 2 ",
            "server shop.Cart/Missing NOT_FOUND 1 0 ",
            "server shop.Cart/Nothing UNIMPLEMENTED 1 0 UNIMPLEMENTED",
            "server shop.Cart/Slow CANCELLED 1 0 ",
            "server shop.Cart/Slow DEADLINE_EXCEEDED 1 0 DEADLINE_EXCEEDED",
            "server shop.Cart/Watch OK 1 3 ",
        ];
        spans::expect_each(&others, summary, &expected)
    })
}

/// Kind, method, status, messages of both ends, and error.
fn summary(span: &Span) -> String {
    let parts = ["rpc.method", "rpc.response.status_code", "onlooker.rpc.request.messages"];
    let more = ["onlooker.rpc.response.messages", "error.type"];
    let values = parts.into_iter().chain(more).map(|key| span.get(key));
    std::iter::once(&*span.kind).chain(values).collect::<Vec<_>>().join(" ")
}
