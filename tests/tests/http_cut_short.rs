//! Exchanges that do not come to their end, each told with why.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use onlooker_tests::client::{Connection, measured_to_the_end};
use onlooker_tests::parents::judge;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Workers};
use onlooker_tests::times::expect_times;
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, record_skip, spans};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_goes_away_within_the_response_leaves_an_error() -> Result<()> {
    World::story("aborted", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&app.address())?;
        // The first on its connection is read when it was handed to a thread.
        client.get("/hello")?;
        let (_, measured) = world.timed(|| {
            measured_to_the_end(|| {
                let start = client.send("GET /stream/100/20 HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
                client.beginning()?;
                client.reset()?;
                Ok(start)
            })
        })?;
        let account = recording.finish(2)?;
        expect_times(&account.spans[1..], &[measured])?;
        account.is_tree(
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
fn a_connection_closed_without_an_answer_is_an_error_on_both_sides() -> Result<()> {
    World::story("silent", |world| {
        let server = App::python("reused_fd").start(world)?;
        let recording = Recording::start(world)?;
        // 52: nothing was received.
        let curl = world.run_to_end(world.command("curl").args(["--silent", &server.url("/silence")]))?;
        ensure!(curl.code() == Some(52), "{curl}");
        recording.finish(2)?.is_tree(
            &[],
            "
            curl client GET /silence error=connection_closed
              reused_fd server GET /silence by host error=connection_closed
            ",
        )?;
        Ok(())
    })
}

#[test]
fn an_upload_that_is_given_up_is_an_error() -> Result<()> {
    World::story("given up", |world| {
        let app = Gunicorn::app("behaviours").start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).start(world)?;
        let recording = Recording::start(world)?;
        let mut client = Connection::open(&nginx.address())?;
        let head = "POST /upload HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\n\r\n";
        let (_, measured) = world.timed(|| {
            measured_to_the_end(|| {
                let start = client.send(head.to_owned() + "0123456789")?;
                client.finish()?;
                // nginx closes when it reads that there will be no more.
                client.rest()?;
                Ok(start)
            })
        })?;
        let account = recording.finish(1)?;
        expect_times(&account.spans, &[measured])?;
        account.is_tree(
            &["http.request.body.size"],
            "
            nginx server POST /upload error=connection_closed http.request.body.size=10
            ",
        )?;
        Ok(())
    })
}

#[test]
fn a_server_that_dies_with_a_request_says_so() -> Result<()> {
    World::story("died", |world| {
        let mut server = App::python("hanging").start(world)?;
        let recording = Recording::start(world)?;
        let mut curl = world.command("curl");
        curl.args(["--silent", &server.url("/hello")]);
        std::thread::scope(|scope| {
            let curl = scope.spawn(|| world.run_to_end(&mut curl));
            server.process().logged(within(PATIENCE), "hanging", 1)?;
            server.process().signal(libc::SIGKILL)?;
            match curl.join() {
                // 52: nothing was received; 56: the connection was reset.
                Ok(ended) => ensure!(matches!(ended?.code(), Some(52 | 56))),
                Err(_) => bail!("the thread of curl panicked"),
            }
            Ok(())
        })?;
        recording.finish(2)?.is_tree(
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
fn a_request_beyond_its_age_is_told_without_its_answer_and_the_next_as_ever() -> Result<()> {
    World::story("aged", |world| {
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let recording = Recording::start_with(world, &["--request-age", "1"])?;
        let mut client = Connection::open(&app.address())?;
        client.get("/slow/3000")?;
        let (_, measured) = world.timed(|| client.get("/hello"))?;
        let account = recording.finish(2)?;
        expect_times(&account.spans[1..], &[measured])?;
        account.is_tree(
            &["onlooker.incomplete"],
            "
            behaviours server GET /slow/{id} error=no_response onlooker.incomplete=aged
            behaviours server GET /hello -> 200
            ",
        )?;
        Ok(())
    })
}

#[test]
fn a_request_that_was_reset_before_it_was_read_is_told_and_its_calls_are_nobody_elses() -> Result<()> {
    let dawdle = App::node("dawdle");
    if let Some(reason) = dawdle.missing() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("reset before it was read", |world| {
        let dawdle = dawdle.start(world)?;
        let mut server = App::python("late").env("ELSEWHERE", dawdle.address()).start(world)?;
        let recording = Recording::start(world)?;
        for number in 0..10 {
            Connection::open(&server.address())?.get(&format!("/r/{number}"))?;
            let mut client = Connection::open(&server.address())?;
            client.send(format!("GET /late/{} HTTP/1.1\r\nHost: shop.test\r\n\r\n", 100 + number))?;
            client.reset()?;
        }
        server.process().logged(within(PATIENCE), "given up", 10)?;
        // The server's own 20, and both ends of what it asked for them.
        let account = recording.finish(60)?;
        let verdict = judge(&account.spans, &server.address(), |_| true);
        verdict.tell("a server that reads what was reset | 1");
        ensure!(verdict.wrong.is_empty(), "{verdict}\n{}", verdict.faults.join("\n"));
        let reset = account.spans.iter().filter(|span| span.get("url.path").starts_with("/late/"));
        ensure!(reset.filter(|span| span.status == "error").count() == 10, "{}", spans::overview(&account.spans));
        Ok(())
    })
}

#[test]
fn what_is_under_way_when_the_agent_stops_is_told_as_far_as_it_was_seen() -> Result<()> {
    World::story("stopped", |world| {
        let mut server = App::python("hanging").start(world)?;
        let app = Gunicorn::app("behaviours").workers(Workers::Threads(4)).start(world)?;
        let recording = Recording::start(world)?;
        let mut waiting = Connection::open(&server.address())?;
        waiting.send("GET /hello HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        server.process().logged(within(PATIENCE), "hanging", 1)?;
        let mut streaming = Connection::open(&app.address())?;
        streaming.send("GET /stream/1000/20 HTTP/1.1\r\nHost: shop.test\r\n\r\n")?;
        streaming.beginning()?;
        Connection::open(&app.address())?.get("/hello")?;
        recording.wait_for(1)?;
        recording.stop(3)?.is_tree(
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
