//! Messages that are longer than what is captured of them, or that end with their connection.

use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Workers};
use onlooker_tests::times::{Measured, expect_times};
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Curl, Recording, World};

const PATIENCE: Duration = Duration::from_secs(30);

/// Captures of each run what is captured where messages are long: 8 KiB of requests and 1 KiB of responses.
const SHORT_RUNS: &[&str] = &["--run-capture", "256"];

#[test]
fn a_response_without_a_length_ends_with_its_connection() -> Result<()> {
    World::story("until close", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let curl = Curl::run(world, &["--http1.0", &app.url("/stream/3/20")?])?;
        ensure!(curl.body == b"chunk 0\nchunk 1\nchunk 2\n");
        recording.finish(2)?.expect_tree(
            &["http.response.body.size", "network.protocol.version"],
            "
            curl client GET /stream/{id}/{id} -> 200 http.response.body.size=24 network.protocol.version=1.0
              behaviours server GET /stream/{id}/{id} -> 200 by host http.response.body.size=24 network.protocol.version=1.0
            ",
        )?;
        Ok(())
    })
}

#[test]
fn pipelined_requests_beyond_the_capture_are_exported_or_counted() -> Result<()> {
    const REQUESTS: usize = 40;
    World::story("long pipeline", |world| {
        let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
        let recording = Recording::start_with(world, SHORT_RUNS)?;
        let mut client = RawClient::open(&nginx.address())?;
        let padding = "x".repeat(500);
        let request = |number| format!("GET /{number} HTTP/1.1\r\nHost: shop.test\r\nX-Padding: {padding}\r\n\r\n");
        client.send((0..REQUESTS).map(request).collect::<String>())?;
        for _ in 0..REQUESTS {
            ensure!(client.response()?.status == 200);
        }
        client.get("/last")?;
        recording.wait_until("span of the last request", |spans| spans.iter().any(|span| span.name == "GET /last"))?;
        recording.stop(REQUESTS + 1)?;
        Ok(())
    })
}

#[test]
fn after_a_head_longer_than_the_capture_more_is_captured() -> Result<()> {
    World::story("long heads", |world| {
        let server = App::python("no_content").argument("127.0.0.1").start(world)?;
        let recording = Recording::start_with(world, SHORT_RUNS)?;
        let mut client = RawClient::open(&server.address())?;
        let fields: String = (0..15).map(|number| format!("X-Field-{number}: {}\r\n", "x".repeat(1000))).collect();
        let long = format!("GET /long HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n");
        let mut sent = 0;
        // After the first long request the agent raises the budget of the process, but only for later requests.
        wait::until(within(PATIENCE), "span of a long request", || {
            sent += 1;
            client.exchange(&long)?;
            Ok((!recording.spans()?.is_empty()).then_some(()))
        })?;
        client.get("/short")?;
        recording
            .wait_until("span of the short request", |spans| spans.iter().any(|span| span.name == "GET /short"))?;
        recording.stop(sent + 1)?;
        Ok(())
    })
}

#[test]
fn a_response_head_longer_than_the_capture_keeps_status_and_time() -> Result<()> {
    World::story("long response heads", |world| {
        // With more threads, each of the first requests may start one. Reading it waits for that.
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(1)).start(world)?;
        RawClient::open(&app.address())?.get("/hello")?;
        let recording = Recording::start_with(world, SHORT_RUNS)?;
        let mut client = RawClient::open(&app.address())?;
        let mut measured: Vec<Measured> = Vec::new();
        for _ in 0..8 {
            let (response, times) = world.timed(|| client.get("/fields/30/100"))?;
            ensure!(response.status == 200);
            measured.push(times);
        }
        measured.push(world.timed(|| client.get("/hello"))?.1);
        let outcome = recording.finish(9)?;
        expect_times(&outcome.spans, &measured)?;
        Ok(())
    })
}

#[test]
fn the_request_after_a_response_seen_from_its_middle_is_exported() -> Result<()> {
    const BYTES: usize = 50 << 20;
    World::story("in the middle of a response", |world| {
        let server = App::python("large").argument(&BYTES.to_string()).start(world)?;
        let mut client = RawClient::open_with_receive_buffer(&server.address(), 128 << 10)?;
        client.send("GET /large HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        client.response_head()?;
        // The server is blocked in a write.
        let recording = Recording::start(world)?;
        client.skip(BYTES)?;
        for _ in 0..2 {
            ensure!(client.get("/small")?.0.body == 6);
        }
        recording.wait_until("spans of the two later requests", |spans| {
            spans.iter().filter(|span| span.name == "GET /small" && span.status == "unset").count() == 2
        })?;
        // The first request may be exported too, although its beginning was not seen.
        recording.stop(2..=3)?;
        Ok(())
    })
}

#[test]
fn data_after_a_protocol_switch_is_no_request_but_data_after_its_refusal_is() -> Result<()> {
    World::story("upgrade", |world| {
        let server = App::python("upgrading").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&server.address())?;
        let upgrade = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: shop.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
        };
        client.get("/before")?;
        // The server does not switch, so the bytes that follow are a request.
        client.send(upgrade("/refused") + "GET /behind HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        for _ in 0..2 {
            ensure!(client.response()?.status == 200);
        }
        ensure!(client.exchange(upgrade("/chat"))?.0.status == 101);
        // A text frame that looks like a request, and a masked frame, as RFC 6455 5.3 demands of clients.
        let text = b"GET /said HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        let frames = [&[0x81, text.len() as u8], &text[..], &[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]].concat();
        for _ in 0..3 {
            client.send(&frames)?;
            client.skip(frames.len())?;
        }
        drop(client);
        RawClient::open(&server.address())?.get("/after")?;
        recording.finish(5)?.expect_tree(
            &[],
            "
            upgrading server GET /before -> 200
            upgrading server GET /refused -> 200
            upgrading server GET /behind -> 200
            upgrading server GET /chat -> 101
            upgrading server GET /after -> 200
            ",
        )?;
        Ok(())
    })
}
