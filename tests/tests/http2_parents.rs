//! Parents of calls over HTTP/2: many calls share a connection, and each has an owner of its own.

use std::fs;
use std::ops::Range;

use anyhow::Result;
use onlooker_tests::load::Load;
use onlooker_tests::parents::judge;
use onlooker_tests::servers::App;
use onlooker_tests::{Recording, World};

/// How many requests are in flight, and the numbers of the requests.
const ROUNDS: [(usize, Range<u64>); 2] = [(10, 1000..1200), (50, 10_000..10_400)];

#[test]
fn streams_of_a_go_client_belong_to_the_requests_of_their_goroutines() -> Result<()> {
    const CALLS: usize = 2;
    World::story("Go over HTTP/2", |world| {
        let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
        let app = App::go("caller").env("HTTP2", "1").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        let load = Load::on(&app.address(), "/r");
        // Go's scheduler takes ids in batches. Goroutines with ids from before the agent looked inherit nothing: use them up.
        let mut requests = load.clone().in_flight(20).run(1_000_000..1_000_400)?.answered.len();
        for (in_flight, numbers) in ROUNDS {
            requests += load.clone().in_flight(in_flight).run(numbers)?.answered.len();
        }
        let received = backend.received_paths()?.len();
        let outcome = recording.finish(requests + 2 * received)?;
        for (in_flight, numbers) in ROUNDS {
            let verdict = judge(&outcome.spans, load.address(), |number| numbers.contains(&number));
            verdict
                .print(&format!("Go over HTTP/2 | {in_flight}"))
                .expect_counts(usize::try_from(numbers.end - numbers.start)?, CALLS)?
                .expect_all_right_by("goroutine")?;
        }
        Ok(())
    })
}

#[test]
fn handlers_of_a_go_server_over_http_2_own_their_calls() -> Result<()> {
    World::story("Go server over HTTP/2", |world| {
        let backend = App::node("delayed").env("HTTP2", "1").start(world)?;
        let app = App::go("caller").env("HTTP2", "1").env("BACKEND_URL", backend.url("")).start(world)?;
        let recording = Recording::start(world)?;
        // Goroutines with ids from before the agent looked inherit nothing: use them up.
        let load = Load::on(&app.address(), "/r");
        let mut requests = load.in_flight(20).run(1_000_000..1_000_400)?.answered.len();
        let numbers = 10_000..10_600;
        let urls = world.dir().join("urls");
        fs::write(&urls, numbers.clone().map(|number| app.url(&format!("/r/{number}\n"))).collect::<String>())?;
        let input = format!("--input-file={}", urls.display());
        world.run(world.command("h2load").args([
            "--requests=600",
            "--clients=2",
            "--max-concurrent-streams=25",
            &input,
        ]))?;
        requests += 2 * 600;
        let received = backend.received_paths()?.len();
        let outcome = recording.finish(requests + 2 * received)?;
        let verdict = judge(&outcome.spans, &app.address(), |number| numbers.contains(&number));
        verdict.print("Go server over HTTP/2 | 50").expect_all_right_by("goroutine")?;
        Ok(())
    })
}
