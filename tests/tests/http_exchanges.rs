//! Complete HTTP exchanges of every kind.

use anyhow::{Result, ensure};
use onlooker_tests::client::{RawClient, measure_until_return};
use onlooker_tests::servers::{Gunicorn, Nginx, Workers};
use onlooker_tests::spans::{Span, expect_lines, of_service};
use onlooker_tests::times::{Measured, expect_curls_times, expect_times};
use onlooker_tests::{Curl, Recording, World};

#[test]
fn a_request_through_a_proxy_is_a_chain_of_four_spans() -> Result<()> {
    for workers in [Workers::Sync, Workers::Threads(4)] {
        World::story("proxied", |world| {
            let app = Gunicorn::app("behaviours").workers(workers).start(world)?;
            let nginx = Nginx::proxy_to(&app.address()).start(world)?;
            let recording = Recording::start(world)?;
            let curl = Curl::run(world, &[&nginx.url("/items/7")])?;
            ensure!(curl.status() == 200);
            recording.finish(4)?.expect_tree(
                &[],
                "
                curl client GET /items/{id} -> 200
                  nginx server GET /items/{id} -> 200 by host
                    nginx client GET /items/{id} -> 200 by connect
                      behaviours server GET /items/{id} -> 200 by host
                ",
            )?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn status_codes_are_errors_of_the_client_or_of_both_sides() -> Result<()> {
    World::story("errors", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let mut curls = Vec::new();
        for path in ["/status/404", "/status/503", "/boom"] {
            curls.push(Curl::run(world, &[&app.url(path)?])?);
        }
        let outcome = recording.finish(6)?;
        expect_curls_times(&outcome.spans, &curls)?;
        outcome.expect_tree(
            &[],
            "
            curl client GET /status/{id} -> 404 error=404
              behaviours server GET /status/{id} -> 404 by host
            curl client GET /status/{id} -> 503 error=503
              behaviours server GET /status/{id} -> 503 by host error=503
            curl client GET /boom -> 500 error=500
              behaviours server GET /boom -> 500 by host error=500
            ",
        )?;
        Ok(())
    })
}

#[test]
fn responses_without_a_body_end_with_their_head() -> Result<()> {
    World::story("bodiless", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        let conditional = "GET /page HTTP/1.1\r\nHost: shop.test\r\nIf-None-Match: \"one\"\r\n\r\n";
        let exchanges = [
            world.timed(|| client.head("/page"))?,
            world.timed(|| client.exchange(conditional))?,
            world.timed(|| client.get("/status/204"))?,
            // If one of the responses was taken for longer than it is, this exchange is lost.
            world.timed(|| client.get("/page"))?,
        ];
        let found = exchanges.each_ref().map(|(response, _)| (response.status, response.body));
        ensure!(found == [(200, 0), (304, 0), (204, 0), (200, 7)], "{found:?}");
        let outcome = recording.finish(12)?;
        expect_times(&of_service(&outcome.spans, "nginx", "server"), &exchanges.map(|(_, measured)| measured))?;
        outcome.expect_tree(
            &["http.response.body.size"],
            "
            nginx server HEAD /page -> 200 http.response.body.size=0
              nginx client HEAD /page -> 200 by connect http.response.body.size=0
                behaviours server HEAD /page -> 200 by host http.response.body.size=0
            nginx server GET /page -> 304 http.response.body.size=0
              nginx client GET /page -> 304 by tick http.response.body.size=0
                behaviours server GET /page -> 304 by host http.response.body.size=0
            nginx server GET /status/{id} -> 204 http.response.body.size=0
              nginx client GET /status/{id} -> 204 by tick http.response.body.size=0
                behaviours server GET /status/{id} -> 204 by host http.response.body.size=0
            nginx server GET /page -> 200 http.response.body.size=7
              nginx client GET /page -> 200 by tick http.response.body.size=7
                behaviours server GET /page -> 200 by host http.response.body.size=7
            ",
        )?;
        Ok(())
    })
}

#[test]
fn an_interim_response_is_skipped() -> Result<()> {
    World::story("continue", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let body = "x".repeat(5000);
        let url = app.url("/upload")?;
        let curl = Curl::run(world, &["--include", "--header", "Expect: 100-continue", "--data", &body, &url])?;
        // Both heads, and the body of the final response.
        let output = String::from_utf8_lossy(&curl.body);
        ensure!(output.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "no 100 came first: {output}");
        ensure!(curl.status() == 200 && output.ends_with("\r\n\r\n5000\n"), "{output}");
        let outcome = recording.finish(2)?;
        expect_curls_times(&outcome.spans, &[curl])?;
        outcome.expect_tree(
            &["http.request.body.size", "http.response.body.size"],
            "
            curl client POST /upload -> 200 http.request.body.size=5000 http.response.body.size=5
              behaviours server POST /upload -> 200 by host http.request.body.size=5000 http.response.body.size=5
            ",
        )?;
        Ok(())
    })
}

#[test]
fn spans_of_both_sides_carry_all_attributes() -> Result<()> {
    World::story("attributes", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let url = app.url("/items/7?colour=red&token=abc")?;
        Curl::run(world, &["--user-agent", "a test", &url])?;
        let outcome = recording.finish(2)?;
        let [client, server] = &outcome.spans[..] else { anyhow::bail!("not two spans") };
        let client_port = client.get("network.local.port");
        let server_port = app.address().rsplit(':').next().unwrap_or_default().to_owned();
        let attributes = |span: &Span| {
            let line = |(key, value): (&String, &String)| format!("{key}={value}");
            let lines: Vec<_> = span.attributes.iter().map(line).collect();
            lines.join("\n").replace(&server_port, "SERVER").replace(client_port, "CLIENT")
        };
        expect_lines(
            &attributes(client),
            "
            http.request.body.size=0
            http.request.method=GET
            http.response.body.size=7
            http.response.status_code=200
            network.local.address=127.0.0.1
            network.local.port=CLIENT
            network.peer.address=127.0.0.1
            network.peer.port=SERVER
            network.protocol.name=http
            network.protocol.version=1.1
            network.transport=tcp
            network.type=ipv4
            server.address=127.0.0.1
            server.port=SERVER
            url.full=http://127.0.0.1:SERVER/items/7?colour=REDACTED&token=REDACTED
            url.scheme=http
            url.template=/items/{id}
            ",
        )?;
        expect_lines(
            &attributes(server),
            "
            client.address=127.0.0.1
            client.port=CLIENT
            http.request.body.size=0
            http.request.method=GET
            http.response.body.size=7
            http.response.status_code=200
            network.local.address=127.0.0.1
            network.local.port=SERVER
            network.peer.address=127.0.0.1
            network.peer.port=CLIENT
            network.protocol.name=http
            network.protocol.version=1.1
            network.transport=tcp
            network.type=ipv4
            onlooker.parent.evidence=host
            server.address=127.0.0.1
            server.port=SERVER
            url.path=/items/7
            url.query=colour=REDACTED&token=REDACTED
            url.scheme=http
            url.template=/items/{id}
            user_agent.original=a test
            ",
        )?;
        Ok(())
    })
}

#[test]
fn pipelined_requests_are_exported_one_by_one_in_order() -> Result<()> {
    const REQUESTS: usize = 10;
    World::story("pipelined", |world| {
        let site = "location /found { return 200 hello; } location /lost { return 404 nothing; }";
        let nginx = Nginx::site(site).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        // Every second path is found.
        let path = |number| format!("{}/{number}", if number % 2 == 0 { "/found" } else { "/lost" });
        let request = |number| format!("GET {} HTTP/1.1\r\nHost: shop.test\r\n\r\n", path(number));
        let mut ends = Vec::new();
        let (_, all) = world.timed(|| {
            measure_until_return(|| {
                let start = client.send((0..REQUESTS).map(request).collect::<String>())?;
                for _ in 0..REQUESTS {
                    ends.push(client.response()?.last);
                }
                Ok(start)
            })
        })?;
        let outcome = recording.finish(REQUESTS)?;
        // The server reads all requests at once and answers one after another.
        let found = outcome.spans.iter().map(|span| (span.get("url.path"), span.get("http.response.status_code")));
        let found: Vec<_> = found.map(|(path, status)| format!("{path} {status}")).collect();
        let status = |number| if number % 2 == 0 { 200 } else { 404 };
        let expected: Vec<_> = (0..REQUESTS).map(|number| format!("{} {}", path(number), status(number))).collect();
        ensure!(found == expected, "{found:?}");
        expect_times(&outcome.spans, &ends.into_iter().map(|end| Measured { end, ..all }).collect::<Vec<_>>())
    })
}
