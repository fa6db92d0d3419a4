//! Connections that are not made the common way: unix sockets, IPv6, passed and reused descriptors, forked servers.

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::{Connection, measured_to_the_end};
use onlooker_tests::load::Load;
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Workers};
use onlooker_tests::spans::{Span, expect_nested, of};
use onlooker_tests::times::{Measured, expect_times};
use onlooker_tests::{Curl, Port, Recording, World, spans};

#[test]
fn both_ends_of_a_unix_socket_are_joined() -> Result<()> {
    for workers in [Workers::Sync, Workers::Threads(4)] {
        World::story("unix socket", |world| {
            let app = Gunicorn::app("behaviours").workers(workers).unix_socket().start(world)?;
            let nginx = Nginx::proxy_to(&app.address()).start(world)?;
            let recording = Recording::start(world)?;
            let mut client = Connection::open(&nginx.address())?;
            let mut measured = Vec::new();
            for path in ["/hello", "/items/7", "/status/503"] {
                measured.push(world.timed(|| client.get(path))?.1);
            }
            let account = recording.finish(9)?;
            expect_times(&of(&account.spans, "nginx", "server"), &measured)?;
            // What goes through the unix socket is within.
            expect_nested(&account.spans)?;
            let socket = app.address();
            let socket = socket.strip_prefix("unix:").context("it listens on a unix socket")?;
            let told = spans::tree(&account.spans, &["network.transport", "server.address"]).replace(socket, "SOCKET");
            spans::expect_lines(
                &told,
                "
                nginx server GET /hello -> 200 network.transport=tcp server.address=shop.test
                  nginx client GET /hello -> 200 by tick network.transport=unix server.address=SOCKET
                    behaviours server GET /hello -> 200 by host network.transport=unix server.address=SOCKET
                nginx server GET /items/{id} -> 200 network.transport=tcp server.address=shop.test
                  nginx client GET /items/{id} -> 200 by tick network.transport=unix server.address=SOCKET
                    behaviours server GET /items/{id} -> 200 by host network.transport=unix server.address=SOCKET
                nginx server GET /status/{id} -> 503 error=503 network.transport=tcp server.address=shop.test
                  nginx client GET /status/{id} -> 503 by tick error=503 network.transport=unix server.address=SOCKET
                    behaviours server GET /status/{id} -> 503 by host error=503 network.transport=unix server.address=SOCKET
                ",
            )
        })?;
    }
    Ok(())
}

#[test]
fn a_unix_socket_whose_other_end_is_not_watched_has_no_caller() -> Result<()> {
    const REQUESTS: u64 = 400;
    World::story("unwatched nginx", |world| {
        let app = Gunicorn::app("behaviours").unix_socket().start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).unwatched().start(world)?;
        let recording = Recording::start(world)?;
        let sent = Load::on(&nginx.address(), "/items").in_flight(20).run(0..REQUESTS)?.answered.len();
        let account = recording.finish(sent)?;
        let with_parent: Vec<_> = account.spans.iter().filter(|span| span.parent.is_some()).collect();
        ensure!(with_parent.is_empty(), "{} have a parent, such as {:#?}", with_parent.len(), with_parent[0]);
        let mut numbers: Vec<_> = account.spans.iter().filter_map(number_of).collect();
        numbers.sort_unstable();
        ensure!(numbers.into_iter().eq(0..REQUESTS), "not each request is told");
        Ok(())
    })
}

/// Holds every second request, which finds its connection where it is to be, to what its client measured: what is first on its
/// connection is read when a process for it is there.
fn expect_second_times(spans: &[Span], measured: &[Measured]) -> Result<()> {
    let spans: Vec<_> = spans.iter().skip(1).step_by(2).cloned().collect();
    expect_times(&spans, &measured.iter().skip(1).step_by(2).copied().collect::<Vec<_>>())
}

#[test]
fn a_connection_passed_to_another_process_is_that_ones() -> Result<()> {
    World::story("passed", |world| {
        let server = App::python("fd_passing").start(world)?;
        let recording = Recording::start(world)?;
        let mut measured = Vec::new();
        for _ in 0..3 {
            let mut client = Connection::open(&server.address())?;
            for path in ["/first", "/second"] {
                let (response, times) = world.timed(|| client.get(path))?;
                ensure!(response.status == 200);
                measured.push(times);
            }
        }
        let account = recording.finish(6)?;
        expect_second_times(&account.spans, &measured)?;
        account.is_tree(
            &[],
            "
            answering server GET /first -> 200
            answering server GET /second -> 200
            answering server GET /first -> 200
            answering server GET /second -> 200
            answering server GET /first -> 200
            answering server GET /second -> 200
            ",
        )?;
        Ok(())
    })
}

#[test]
fn a_descriptor_used_again_is_another_connection() -> Result<()> {
    World::story("reused", |world| {
        let server = App::python("reused_fd").start(world)?;
        let recording = Recording::start(world)?;
        let (mut descriptors, mut measured) = (Vec::new(), Vec::new());
        for path in ["/first", "/silence", "/second"] {
            let mut client = Connection::open(&server.address())?;
            let (_, times) = world.timed(|| {
                measured_to_the_end(|| {
                    let start = client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))?;
                    if path == "/silence" {
                        ensure!(client.rest()? == 0);
                    } else {
                        client.beginning()?;
                        descriptors.push(client.text()?);
                    }
                    Ok(start)
                })
            })?;
            measured.push(times);
        }
        ensure!(descriptors[0] == descriptors[1], "the descriptors are not the same: {descriptors:?}");
        let account = recording.finish(3)?;
        expect_times(&account.spans, &measured)?;
        account.is_tree(
            &[],
            "
            reused_fd server GET /first -> 200
            reused_fd server GET /silence error=connection_closed
            reused_fd server GET /second -> 200
            ",
        )?;
        Ok(())
    })
}

#[test]
fn every_child_of_a_forking_server_is_watched_and_all_are_one_service() -> Result<()> {
    const CONNECTIONS: usize = 20;
    World::story("forking", |world| {
        let server = App::python("forking").start(world)?;
        let recording = Recording::start(world)?;
        // Open until all is told, and so are the children.
        let (mut clients, mut measured) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let mut client = Connection::open(&server.address())?;
            for _ in 0..2 {
                let (response, times) = world.timed(|| client.get("/hello"))?;
                ensure!(response.status == 200);
                measured.push(times);
            }
            clients.push(client);
        }
        let spans = recording.finish(2 * CONNECTIONS)?.spans;
        expect_second_times(&spans, &measured)?;
        ensure!(
            spans.iter().all(|span| span.service == "forking" && span.name == "GET /hello"),
            "{}",
            spans::tree(&spans, &[])
        );
        let processes: std::collections::HashSet<_> =
            spans.iter().map(|span| span.get("client.port").to_owned()).collect();
        ensure!(processes.len() == CONNECTIONS);
        Ok(())
    })
}

#[test]
fn a_request_read_by_one_process_and_answered_by_its_child_is_one_span() -> Result<()> {
    const CONNECTIONS: usize = 10;
    World::story("handing over", |world| {
        let server = App::python("handing_over").start(world)?;
        let recording = Recording::start(world)?;
        for _ in 0..CONNECTIONS {
            let mut client = Connection::open(&server.address())?;
            for path in ["/first", "/second"] {
                ensure!(client.get(path)?.0.status == 200);
            }
        }
        let account = recording.finish(2 * CONNECTIONS)?;
        let told = "handing_over server GET /first -> 200\nhanding_over server GET /second -> 200\n";
        account.is_tree(&[], &told.repeat(CONNECTIONS))?;
        Ok(())
    })
}

#[test]
fn a_connection_that_is_refused_is_no_request() -> Result<()> {
    World::story("refused", |world| {
        let nobody = Port::claim()?;
        let server = App::python("empty").argument("127.0.0.1").start(world)?;
        let recording = Recording::start(world)?;
        // 7: curl could not connect.
        let url = format!("http://{}/hello", nobody.address());
        let curl = world.run_to_end(world.command("curl").args(["--silent", "--noproxy", "*", &url]))?;
        ensure!(curl.code() == Some(7), "{curl}");
        ensure!(Curl::run(world, &[&server.url("/hello")])?.status() == 204);
        recording.finish(2)?.is_tree(
            &[],
            "
            curl client GET /hello -> 204
              empty server GET /hello -> 204 by host
            ",
        )?;
        Ok(())
    })
}

#[test]
fn ipv6_is_told_as_it_is() -> Result<()> {
    World::story("ipv6", |world| {
        let server = App::python("empty").argument("::1").start(world)?;
        let recording = Recording::start(world)?;
        let url = format!("http://[::1]:{}/hello", server.port());
        ensure!(Curl::run(world, &[&url])?.status() == 204);
        recording.finish(2)?.is_tree(
            &["network.type", "network.peer.address", "server.address"],
            "
            curl client GET /hello -> 204 network.type=ipv6 network.peer.address=::1 server.address=::1
              empty server GET /hello -> 204 by host network.type=ipv6 network.peer.address=::1 server.address=::1
            ",
        )?;
        Ok(())
    })
}
