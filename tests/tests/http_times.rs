//! Start and end times of spans, compared with what the client measured.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{Gunicorn, Nginx, Workers};
use onlooker_tests::spans::{expect_within_parents, of_service};
use onlooker_tests::times::{expect_curls_times, expect_times};
use onlooker_tests::{Curl, Recording, World};

#[test]
fn idle_time_of_a_connection_belongs_to_no_span() -> Result<()> {
    World::story("idle", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        let mut measured = Vec::new();
        for _ in 0..8 {
            measured.push(world.timed(|| client.get("/hello"))?.1);
            // Leaves the client's connection and nginx's connection idle.
            sleep(Duration::from_millis(150));
        }
        let outcome = recording.finish(24)?;
        expect_times(&of_service(&outcome.spans, "nginx", "server"), &measured)?;
        expect_within_parents(&outcome.spans)?;
        Ok(())
    })
}

#[test]
fn spans_of_a_slow_response_and_a_slow_upload_match_the_clients_times() -> Result<()> {
    World::story("slow", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Sync).start(world)?;
        let recording = Recording::start(world)?;
        let mut measured = Vec::new();
        for _ in 0..4 {
            let mut client = RawClient::open(&app.address())?;
            measured.push(world.timed(|| client.get("/slow/100"))?.1);
        }
        for _ in 0..4 {
            let mut client = RawClient::open(&app.address())?;
            let upload = |client: &mut RawClient| {
                let start = client.send("POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 50\r\n\r\n")?;
                for _ in 0..5 {
                    // The client sends slowly.
                    sleep(Duration::from_millis(50));
                    client.send("0123456789")?;
                }
                Ok((start, client.response()?))
            };
            let (response, times) = world.timed(|| client.measure(upload))?;
            ensure!(response.status == 200);
            measured.push(times);
        }
        let outcome = recording.finish(8)?;
        expect_times(&outcome.spans, &measured)?;
        ensure!(outcome.spans.iter().all(|span| span.duration() >= Duration::from_millis(100)));
        Ok(())
    })
}

#[test]
fn spans_match_the_times_that_curl_reports() -> Result<()> {
    World::story("curl's times", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Sync).start(world)?;
        let recording = Recording::start(world)?;
        let url = app.url("/slow/20")?;
        let curls: Vec<_> = (0..8).map(|_| Curl::run(world, &[&url])).collect::<Result<_>>()?;
        let outcome = recording.finish(16)?;
        expect_curls_times(&outcome.spans, &curls)
    })
}

#[test]
fn a_stream_of_ten_seconds_is_one_span_exported_at_its_end() -> Result<()> {
    World::story("stream", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).http("proxy_buffering off;").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        let (response, measured) = world.timed(|| client.get("/stream/20/500"))?;
        ensure!(response.status == 200 && measured.duration() >= Duration::from_secs(10));
        recording.wait_for_spans(3)?;
        let exported = std::fs::metadata(recording.file())?.modified()?.duration_since(UNIX_EPOCH)?;
        let late = exported.saturating_sub(Duration::from_nanos(measured.end));
        let outcome = recording.finish(3)?;
        outcome.expect_tree(
            &["http.response.body.size"],
            &format!(
                "
                nginx server GET /stream/{{id}}/{{id}} -> 200 http.response.body.size={0}
                  nginx client GET /stream/{{id}}/{{id}} -> 200 by connect http.response.body.size={0}
                    behaviours server GET /stream/{{id}}/{{id}} -> 200 by host http.response.body.size={0}
                ",
                response.body
            ),
        )?;
        expect_times(&outcome.spans, &[measured; 3])?;
        ensure!(late < Duration::from_secs(1), "exported {late:?} after its end");
        Ok(())
    })
}

#[test]
fn a_sendfile_response_of_200_megabytes_has_its_size_and_times() -> Result<()> {
    const BYTES: usize = 200 << 20;
    const BUFFER: i32 = 128 << 10;
    World::story("sendfile", |world| {
        let site = world.dir().join("site");
        std::fs::create_dir(&site)?;
        File::create(site.join("large.bin"))?.set_len(BYTES as u64).context("cannot create a sparse file")?;
        // nginx finishes when the rest fits into the socket buffers. With small ones it finishes when the client does.
        let nginx = Nginx::files(&site).listen(&format!("sndbuf={BUFFER}")).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open_with_receive_buffer(&nginx.address(), BUFFER)?;
        let mut measured = Vec::new();
        for _ in 0..3 {
            let (response, times) = world.timed(|| client.get("/large.bin"))?;
            ensure!(response.status == 200 && response.body == BYTES);
            measured.push(times);
        }
        // The parser finds the next exchange again.
        measured.push(world.timed(|| client.get("/nothing"))?.1);
        let outcome = recording.finish(4)?;
        outcome.expect_tree(
            &["http.response.body.size"],
            &format!(
                "
                nginx server GET /large.bin -> 200 http.response.body.size={BYTES}
                nginx server GET /large.bin -> 200 http.response.body.size={BYTES}
                nginx server GET /large.bin -> 200 http.response.body.size={BYTES}
                nginx server GET /nothing -> 404 http.response.body.size=*
                "
            ),
        )?;
        expect_times(&outcome.spans, &measured)?;
        Ok(())
    })
}
