//! Exchanges that do not complete. The span says why.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use onlooker_tests::client::{RawClient, measure_until_return};
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Postgres, Redis, Workers};
use onlooker_tests::times::expect_times;
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, record_skip, spans};
use rstest::rstest;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_disconnects_within_the_response_causes_an_error() -> Result<()> {
    World::story("client disconnects", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&app.address())?;
        // The first request of a connection is read late, after it was handed to a thread. Measure the second.
        client.get("/hello")?;
        let (_, measured) = world.timed(|| {
            measure_until_return(|| {
                let start = client.send("GET /stream/100/20 HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
                client.response_head()?;
                client.reset()?;
                Ok(start)
            })
        })?;
        let outcome = recording.finish(2)?;
        expect_times(&outcome.spans[1..], &[measured])?;
        outcome.expect_tree(
            &[],
            "
            behaviours server GET /hello -> 200
            behaviours server GET /stream/{id}/{id} -> 200 error=connection_reset
            ",
        )?;
        Ok(())
    })
}

#[test]
fn a_connection_closed_without_a_response_is_an_error_on_both_sides() -> Result<()> {
    World::story("silent", |world| {
        let server = App::python("reused_fd").start(world)?;
        let recording = Recording::start(world)?;
        // 52: curl received nothing.
        let curl = world.exit_status_of(world.command("curl").args(["--silent", &server.url("/silence")]))?;
        ensure!(curl.code() == Some(52), "{curl}");
        recording.finish(2)?.expect_tree(
            &[],
            "
            curl client GET /silence error=connection_closed
              reused_fd server GET /silence by host error=connection_closed
            ",
        )?;
        Ok(())
    })
}

#[rstest]
#[case::closed("close", "connection_closed", "")]
#[case::shut_down("shutdown", "connection_closed", "")]
#[case::closed_by_the_kernel("exit", "process_exit", " onlooker.incomplete=process_exit")]
fn a_client_that_closes_and_exits_at_once_closed_the_connection(
    #[case] end: &str,
    #[case] error: &str,
    #[case] incomplete: &str,
) -> Result<()> {
    World::story(end, |world| {
        let server = App::python("no_response").argument("wait").start(world)?;
        let recording = Recording::start(world)?;
        let client = App::python("raw_client").argument(&server.port().to_string());
        client.argument("tcp").argument(end).argument("/hello").run(world)?;
        recording.finish(2)?.expect_tree(
            &["onlooker.incomplete"],
            &format!(
                "
                raw_client client GET /hello error={error}{incomplete}
                  no_response server GET /hello by host error=connection_closed
                "
            ),
        )?;
        Ok(())
    })
}

#[test]
fn an_aborted_upload_is_an_error() -> Result<()> {
    World::story("aborted upload", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = RawClient::open(&nginx.address())?;
        let head = "POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\n\r\n";
        let (_, measured) = world.timed(|| {
            measure_until_return(|| {
                let start = client.send(head.to_owned() + "0123456789")?;
                client.shut_down_write()?;
                // nginx closes the connection when it reads the FIN.
                client.read_to_end()?;
                Ok(start)
            })
        })?;
        let outcome = recording.finish(1)?;
        expect_times(&outcome.spans, &[measured])?;
        outcome.expect_tree(
            &["http.request.body.size"],
            "
            nginx server POST /upload error=connection_closed http.request.body.size=10
            ",
        )?;
        Ok(())
    })
}

#[test]
fn the_span_of_a_request_ends_with_its_servers_process() -> Result<()> {
    World::story("died", |world| {
        let mut server = App::python("hanging").start(world)?;
        let recording = Recording::start(world)?;
        let mut curl = world.command("curl");
        curl.args(["--silent", &server.url("/hello")]);
        std::thread::scope(|scope| {
            let curl = scope.spawn(|| world.exit_status_of(&mut curl));
            server.process().wait_for_log(within(PATIENCE), "hanging", 1)?;
            server.process().signal(libc::SIGKILL)?;
            match curl.join() {
                // 52: curl received nothing. 56: the connection was reset.
                Ok(ended) => ensure!(matches!(ended?.code(), Some(52 | 56))),
                Err(_) => bail!("the thread that runs curl panicked"),
            }
            Ok(())
        })?;
        recording.finish(2)?.expect_tree(
            &["onlooker.incomplete"],
            "
            curl client GET /hello error=connection_closed
              hanging server GET /hello by host error=process_exit onlooker.incomplete=process_exit
            ",
        )?;
        Ok(())
    })
}

#[test]
fn an_exchange_that_lasts_longer_than_the_age_limit_has_its_real_end() -> Result<()> {
    World::story("aged", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let (postgres, redis) = (Postgres::start(world)?, Redis::start(world)?);
        let recording = Recording::start_with(world, &["--request-age", "1"])?;
        let mut client = RawClient::open(&app.address())?;
        client.get("/hello")?;
        let (_, slow) = world.timed(|| client.get("/slow/3000"))?;
        postgres.execute("SELECT pg_sleep(3)")?;
        let port = redis.port().to_string();
        world.run(world.command("redis-cli").args(["-p", &port, "BLPOP", "nothing", "3"]))?;
        let outcome = recording.finish(5)?;
        expect_times(&outcome.spans[1..2], &[slow])?;
        for span in &outcome.spans[1..] {
            ensure!(span.status == "unset" && span.get("onlooker.incomplete").is_empty(), "{span:#?}");
            ensure!(span.end - span.start >= Duration::from_secs(3).as_nanos() as u64, "{span:#?}");
        }
        let counted = ["requests_aged", "requests_given_up"].map(|name| outcome.summary.get(name));
        ensure!(counted == [4, 0], "{}", outcome.summary);
        Ok(())
    })
}

#[test]
fn a_request_that_does_not_end_within_twelve_times_the_age_limit_is_no_error() -> Result<()> {
    World::story("given up", |world| {
        let server = App::python("hanging").start(world)?;
        let recording = Recording::start_with(world, &["--request-age", "1"])?;
        let mut client = RawClient::open(&server.address())?;
        client.send("GET /hello HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        let outcome = recording.finish(1)?;
        outcome.expect_tree(&["onlooker.incomplete"], "hanging server GET /hello onlooker.incomplete=aged\n")?;
        let took = outcome.spans[0].end - outcome.spans[0].start;
        ensure!((12_000_000_000..14_500_000_000).contains(&took), "it ends after {took} ns");
        ensure!(outcome.summary.get("requests_given_up") == 1, "{}", outcome.summary);
        Ok(())
    })
}

#[test]
fn a_request_reset_before_it_was_read_is_exported_and_its_calls_get_no_wrong_parent() -> Result<()> {
    let delayed = App::node("delayed");
    if let Some(reason) = delayed.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("reset before it was read", |world| {
        let delayed = delayed.start(world)?;
        let mut server = App::python("reads_after_reset").env("BACKEND_ADDRESS", delayed.address()).start(world)?;
        let recording = Recording::start(world)?;
        for number in 0..10 {
            RawClient::open(&server.address())?.get(&format!("/r/{number}"))?;
            let mut client = RawClient::open(&server.address())?;
            client.send(format!("GET /late/{} HTTP/1.1\r\nHost: shop.test\r\n\r\n", 100 + number))?;
            client.reset()?;
        }
        server.process().wait_for_log(within(PATIENCE), "aborted", 10)?;
        // The server's own 20 requests, and both ends of the call for each.
        let outcome = recording.finish(60)?;
        let verdict = judge(&outcome.spans, &server.address(), |_| true);
        verdict.print("a server that reads requests after their reset | 1");
        ensure!(verdict.wrong.is_empty(), "{verdict}\n{}", verdict.faults.join("\n"));
        let reset = outcome.spans.iter().filter(|span| span.get("url.path").starts_with("/late/"));
        ensure!(reset.filter(|span| span.status == "error").count() == 10, "{}", spans::overview(&outcome.spans));
        Ok(())
    })
}

#[test]
fn exchanges_in_progress_are_exported_when_the_agent_stops() -> Result<()> {
    World::story("stopped", |world| {
        let mut server = App::python("hanging").start(world)?;
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let recording = Recording::start(world)?;
        let mut waiting = RawClient::open(&server.address())?;
        waiting.send("GET /hello HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        server.process().wait_for_log(within(PATIENCE), "hanging", 1)?;
        let mut streaming = RawClient::open(&app.address())?;
        streaming.send("GET /stream/1000/20 HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        streaming.response_head()?;
        RawClient::open(&app.address())?.get("/hello")?;
        recording.wait_for_spans(1)?;
        recording.stop(3)?.expect_tree(
            &["onlooker.incomplete"],
            "
            hanging server GET /hello onlooker.incomplete=shutdown
            behaviours server GET /stream/{id}/{id} -> 200 onlooker.incomplete=shutdown
            behaviours server GET /hello -> 200
            ",
        )?;
        Ok(())
    })
}
