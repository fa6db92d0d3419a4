//! When spans begin and end, against what the client measured.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::servers::{Gunicorn, Nginx, Workers};
use onlooker_tests::spans::{expect_nested, of};
use onlooker_tests::times::{expect_curls_times, expect_times};
use onlooker_tests::{Curl, Recording, World};

#[test]
fn idle_time_on_a_kept_connection_is_in_no_span() -> Result<()> {
    World::story("idle", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&nginx.address())?;
        let mut measured = Vec::new();
        for _ in 0..8 {
            measured.push(world.timed(|| client.get("/hello"))?.1);
            // Idleness, on the client's connection and on nginx's.
            sleep(Duration::from_millis(150));
        }
        let account = recording.finish(24)?;
        expect_times(&of(&account.spans, "nginx", "server"), &measured)?;
        expect_nested(&account.spans)?;
        Ok(())
    })
}

#[test]
fn a_slow_answer_and_a_slow_upload_take_as_long_as_the_client_waits() -> Result<()> {
    World::story("slow", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Sync).start(world)?;
        let recording = Recording::start(world)?;
        let mut measured = Vec::new();
        for _ in 0..4 {
            let mut client = Connection::open(&app.address())?;
            measured.push(world.timed(|| client.get("/slow/100"))?.1);
        }
        for _ in 0..4 {
            let mut client = Connection::open(&app.address())?;
            let upload = |client: &mut Connection| {
                let start = client.send("POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 50\r\n\r\n")?;
                for _ in 0..5 {
                    // The client takes its time.
                    sleep(Duration::from_millis(50));
                    client.send("0123456789")?;
                }
                Ok((start, client.response()?))
            };
            let (response, times) = world.timed(|| client.measured(upload))?;
            ensure!(response.status == 200);
            measured.push(times);
        }
        let account = recording.finish(8)?;
        expect_times(&account.spans, &measured)?;
        ensure!(account.spans.iter().all(|span| span.duration() >= Duration::from_millis(100)));
        Ok(())
    })
}

#[test]
fn curl_takes_as_long_as_it_says() -> Result<()> {
    World::story("curl's times", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Sync).start(world)?;
        let recording = Recording::start(world)?;
        let url = app.url("/slow/20")?;
        let curls: Vec<_> = (0..8).map(|_| Curl::run(world, &[&url])).collect::<Result<_>>()?;
        let account = recording.finish(16)?;
        expect_curls_times(&account.spans, &curls)
    })
}

#[test]
fn a_stream_of_ten_seconds_is_one_span_told_at_its_end() -> Result<()> {
    World::story("stream", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).http("proxy_buffering off;").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&nginx.address())?;
        let (response, measured) = world.timed(|| client.get("/stream/20/500"))?;
        ensure!(response.status == 200 && measured.duration() >= Duration::from_secs(10));
        recording.wait_for(3)?;
        let told = std::fs::metadata(recording.file())?.modified()?.duration_since(UNIX_EPOCH)?;
        let late = told.saturating_sub(Duration::from_nanos(measured.end));
        let account = recording.finish(3)?;
        account.is_tree(
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
        expect_times(&account.spans, &[measured; 3])?;
        ensure!(late < Duration::from_secs(1), "told {late:?} after its end");
        Ok(())
    })
}

#[test]
fn a_file_of_200_megabytes_by_sendfile_is_told_with_its_size_and_time() -> Result<()> {
    const BYTES: usize = 200 << 20;
    const BUFFER: i32 = 128 << 10;
    World::story("sendfile", |world| {
        let site = world.dir().join("site");
        std::fs::create_dir(&site)?;
        File::create(site.join("large.bin"))?.set_len(BYTES as u64).context("cannot make a file of holes")?;
        // nginx is done when what is left fits into the sockets' buffers: small ones, so that it is when the client is.
        let nginx = Nginx::files(&site).listen(&format!("sndbuf={BUFFER}")).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open_narrow(&nginx.address(), BUFFER)?;
        let mut measured = Vec::new();
        for _ in 0..3 {
            let (response, times) = world.timed(|| client.get("/large.bin"))?;
            ensure!(response.status == 200 && response.body == BYTES);
            measured.push(times);
        }
        // What follows on the connection is found again.
        measured.push(world.timed(|| client.get("/nothing"))?.1);
        let account = recording.finish(4)?;
        account.is_tree(
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
        expect_times(&account.spans, &measured)?;
        Ok(())
    })
}
