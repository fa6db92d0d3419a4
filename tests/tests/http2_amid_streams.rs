//! An agent that starts while streams of HTTP/2 are open on a connection.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use onlooker_tests::servers::App;
use onlooker_tests::spans::Span;
use onlooker_tests::wait::{self, within};
use onlooker_tests::{Recording, World};

const PATIENCE: Duration = Duration::from_secs(60);
/// In flight all the time, on one connection.
const STREAMS: usize = 50;
/// So many requests are sent while the agent runs.
const RECORDED: usize = 2_000;
/// More than are sent.
const MOST: usize = 500_000;

#[test]
fn every_request_that_begins_after_the_agent_is_reported() -> Result<()> {
    World::story("http2-amid-streams", |world| {
        let server = App::node("delayed").env("HTTP2", "1").start(world)?;
        let received = || Ok::<_, anyhow::Error>(server.received_paths()?.len());
        let urls = world.dir().join("urls");
        fs::write(&urls, (0..MOST).map(|number| server.url(&format!("/r/{number}\n"))).collect::<String>())?;
        let mut load = world.command("h2load");
        load.arg("--clients=1").args([format!("--requests={MOST}"), format!("--max-concurrent-streams={STREAMS}")]);
        let mut load = world.spawn(load.arg(format!("--input-file={}", urls.display())))?;
        wait::until(within(PATIENCE), "open streams", || Ok((received()? > 2 * STREAMS).then_some(())))?;
        let recording = Recording::start(world)?;
        // These may have begun before.
        let first = received()? + 2 * STREAMS;
        wait::until(within(PATIENCE), "requests", || Ok((received()? >= first + RECORDED).then_some(())))?;
        let end = received()?;
        load.kill()?;
        load.wait()?;
        let spans = recording.stop(0..=usize::MAX)?.spans;
        for kind in ["client", "server"] {
            let of_kind = || spans.iter().filter(|span| span.kind == kind);
            let numbers: BTreeSet<usize> = of_kind().filter_map(number).collect();
            let missing = (first..end).filter(|number| !numbers.contains(number)).count();
            ensure!(missing == 0, "{missing} of {} {kind} spans are missing", end - first);
            ensure!(numbers.len() == of_kind().count(), "a request has two {kind} spans, or an unknown path");
        }
        // The method is in HPACK's fixed table, and so known at once.
        let unknown = spans.iter().filter(|span| span.name != "GET /r/{id}").count();
        ensure!(unknown == 0, "{unknown} spans have another name");
        Ok(())
    })
}

fn number(span: &Span) -> Option<usize> {
    [span.get("url.full"), span.get("url.path")].concat().rsplit('/').next()?.parse().ok()
}
