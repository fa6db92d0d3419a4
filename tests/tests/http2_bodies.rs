//! Long bodies over HTTP/2: they are stepped over, and what is around them is exact.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::servers::Nginx;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Outcome, Recording, World};

const PATIENCE: Duration = Duration::from_secs(30);
const LENGTH: usize = 32 << 20;
/// What nginx and curl send in one DATA frame.
const FRAME: u64 = 16 << 10;

/// nginx with HTTP/2 in clear text, and a long file.
fn nginx(world: &World) -> Result<Nginx> {
    fs::write(world.dir().join("long"), vec![b'x'; LENGTH])?;
    let root = world.dir().display();
    let server = format!(
        "client_max_body_size 0; http2_chunk_size 16k; location /upload {{ proxy_pass http://127.0.0.1:9; }} location /long {{ root {root}; }}"
    );
    Nginx::site(&server).listen("http2").start(world)
}

#[test]
fn a_long_download_is_stepped_over() -> Result<()> {
    World::story("http2 download", |world| {
        let nginx = nginx(world)?;
        let recording = Recording::start(world)?;
        world.curl(&["--http2-prior-knowledge", "--output", "/dev/null", &nginx.url("/long")])?;
        let outcome = recording.finish(2)?;
        let sizes: Vec<_> = outcome.spans.iter().map(|span| span.get("http.response.body.size")).collect();
        let long = LENGTH.to_string();
        ensure!(sizes == [long.as_str(); 2], "{sizes:?}");
        expect_few_records(&outcome)?;
        Ok(())
    })
}

#[test]
fn a_long_upload_is_stepped_over() -> Result<()> {
    World::story("http2 upload", |world| {
        let nginx = nginx(world)?;
        let recording = Recording::start(world)?;
        let long = world.dir().join("long");
        let upload = format!("@{}", long.display());
        // nginx reads the whole body before it finds nobody to send it to.
        world.curl(&[
            "--http2-prior-knowledge",
            "--header",
            "Expect:",
            "--data-binary",
            &upload,
            &nginx.url("/upload"),
        ])?;
        let outcome = recording.finish(2)?;
        let statuses: Vec<_> = outcome.spans.iter().map(|span| span.get("http.response.status_code")).collect();
        ensure!(statuses == ["502"; 2], "{statuses:?}");
        expect_few_records(&outcome)?;
        Ok(())
    })
}

/// Fails unless nothing was missing, and each frame took two records at each end at most: one for the rest of the frame that
/// an operation cut, and one for the next.
fn expect_few_records(Outcome { summary, .. }: &Outcome) -> Result<()> {
    for counter in ["kernel_http2_frames_lost", "bytes_missing"] {
        ensure!(summary.get(counter) == 0, "{counter}:\n{summary}");
    }
    let most = 2 * 2 * (LENGTH as u64 / FRAME);
    let events = summary.get("events");
    ensure!(events <= most, "{events} records, at most {most} were expected");
    Ok(())
}

#[test]
fn frames_of_a_connection_that_was_open_before_are_found() -> Result<()> {
    World::story("http2 late", |world| {
        let nginx = nginx(world)?;
        let address = nginx.url("/long");
        let arguments = ["--requests=40", "--clients=1", "--max-concurrent-streams=4", &address];
        let mut load = world.command("h2load");
        let mut load = load.args(arguments).stdout(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(200));
        let recording = Recording::start(world)?;
        wait::until(within(PATIENCE), "end of the load", || Ok(load.try_wait()?.map(drop)))?;
        let outcome = recording.stop(0..=80_usize)?;
        ensure!(!outcome.spans.is_empty(), "{}", outcome.summary);
        ensure!(outcome.spans.iter().all(|span| span.get("network.protocol.version") == "2"));
        let traces: BTreeSet<_> = outcome.spans.iter().map(|span| &span.trace_id).collect();
        ensure!(traces.len() == outcome.spans.len(), "requests of one connection share a trace");
        Ok(())
    })
}
