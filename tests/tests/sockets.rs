//! Unusual connections: unix sockets, IPv6, passed and reused descriptors, forking servers.

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::{RawClient, measure_until_return};
use onlooker_tests::load::Load;
use onlooker_tests::parents::number_of;
use onlooker_tests::servers::{App, Gunicorn, Nginx, Workers};
use onlooker_tests::spans::{Span, expect_within_parents, of_service};
use onlooker_tests::times::{Measured, expect_times};
use onlooker_tests::{Curl, Port, Recording, World, spans};

#[test]
fn both_ends_of_a_unix_socket_are_joined() -> Result<()> {
    for workers in [Workers::Sync, Workers::Threads(4)] {
        World::story("unix socket", |world| {
            let app = Gunicorn::app("behaviours").workers(workers).unix_socket().start(world)?;
            let nginx = Nginx::proxy_to(&app.address()).start(world)?;
            let recording = Recording::start(world)?;
            let mut client = RawClient::open(&nginx.address())?;
            let mut measured = Vec::new();
            for path in ["/hello", "/items/7", "/status/503"] {
                measured.push(world.timed(|| client.get(path))?.1);
            }
            let outcome = recording.finish(9)?;
            expect_times(&of_service(&outcome.spans, "nginx", "server"), &measured)?;
            // The spans of the unix socket's exchanges lie within these.
            expect_within_parents(&outcome.spans)?;
            let socket = app.address();
            let socket = socket.strip_prefix("unix:").context("it listens on a unix socket")?;
            let tree = spans::tree(&outcome.spans, &["network.transport", "server.address"]).replace(socket, "SOCKET");
            spans::expect_lines(
                &tree,
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
fn a_server_on_a_unix_socket_with_an_unwatched_client_has_no_parent() -> Result<()> {
    const REQUESTS: u64 = 400;
    World::story("unwatched nginx", |world| {
        let app = Gunicorn::app("behaviours").unix_socket().start(world)?;
        let nginx = Nginx::proxy_to(&app.address()).unwatched().start(world)?;
        let recording = Recording::start(world)?;
        let sent = Load::on(&nginx.address(), "/items").in_flight(20).run(0..REQUESTS)?.answered.len();
        let outcome = recording.finish(sent)?;
        let with_parent: Vec<_> = outcome.spans.iter().filter(|span| span.parent.is_some()).collect();
        ensure!(with_parent.is_empty(), "{} have a parent, such as {:#?}", with_parent.len(), with_parent[0]);
        let mut numbers: Vec<_> = outcome.spans.iter().filter_map(number_of).collect();
        numbers.sort_unstable();
        ensure!(numbers.into_iter().eq(0..REQUESTS), "a request has no span or several");
        Ok(())
    })
}

/// Compares every second request with what its client measured. The first request of each connection is read late, when a
/// process for the connection exists.
fn expect_times_of_every_second(spans: &[Span], measured: &[Measured]) -> Result<()> {
    let spans: Vec<_> = spans.iter().skip(1).step_by(2).cloned().collect();
    expect_times(&spans, &measured.iter().skip(1).step_by(2).copied().collect::<Vec<_>>())
}

#[test]
fn a_connection_passed_to_another_process_belongs_to_that_process() -> Result<()> {
    World::story("passed", |world| {
        let server = App::python("fd_passing").start(world)?;
        let recording = Recording::start(world)?;
        let mut measured = Vec::new();
        for _ in 0..3 {
            let mut client = RawClient::open(&server.address())?;
            for path in ["/first", "/second"] {
                let (response, times) = world.timed(|| client.get(path))?;
                ensure!(response.status == 200);
                measured.push(times);
            }
        }
        let outcome = recording.finish(6)?;
        expect_times_of_every_second(&outcome.spans, &measured)?;
        outcome.expect_tree(
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
fn a_reused_descriptor_is_a_new_connection() -> Result<()> {
    World::story("reused", |world| {
        let server = App::python("reused_fd").start(world)?;
        let recording = Recording::start(world)?;
        let (mut descriptors, mut measured) = (Vec::new(), Vec::new());
        for path in ["/first", "/silence", "/second"] {
            let mut client = RawClient::open(&server.address())?;
            let (_, times) = world.timed(|| {
                measure_until_return(|| {
                    let start = client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))?;
                    if path == "/silence" {
                        ensure!(client.read_to_end()? == 0);
                    } else {
                        client.response_head()?;
                        descriptors.push(client.read_to_string()?);
                    }
                    Ok(start)
                })
            })?;
            measured.push(times);
        }
        ensure!(descriptors[0] == descriptors[1], "the descriptors are not the same: {descriptors:?}");
        let outcome = recording.finish(3)?;
        expect_times(&outcome.spans, &measured)?;
        outcome.expect_tree(
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
fn every_child_of_a_forking_server_is_watched_and_all_form_one_service() -> Result<()> {
    const CONNECTIONS: usize = 20;
    World::story("forking", |world| {
        let server = App::python("forking").start(world)?;
        let recording = Recording::start(world)?;
        // Keep the connections open, and with them the children, until all spans are exported.
        let (mut clients, mut measured) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let mut client = RawClient::open(&server.address())?;
            for _ in 0..2 {
                let (response, times) = world.timed(|| client.get("/hello"))?;
                ensure!(response.status == 200);
                measured.push(times);
            }
            clients.push(client);
        }
        let spans = recording.finish(2 * CONNECTIONS)?.spans;
        expect_times_of_every_second(&spans, &measured)?;
        ensure!(
            spans.iter().all(|span| span.service == "forking" && span.name == "GET /hello"),
            "{}",
            spans::tree(&spans, &[])
        );
        let ports: std::collections::HashSet<_> = spans.iter().map(|span| span.get("client.port").to_owned()).collect();
        ensure!(ports.len() == CONNECTIONS, "{} of {CONNECTIONS} connections have spans", ports.len());
        Ok(())
    })
}

#[test]
fn a_request_read_by_a_process_and_answered_by_its_child_is_one_span() -> Result<()> {
    const CONNECTIONS: usize = 10;
    World::story("handing over", |world| {
        let server = App::python("handing_over").start(world)?;
        let recording = Recording::start(world)?;
        for _ in 0..CONNECTIONS {
            let mut client = RawClient::open(&server.address())?;
            for path in ["/first", "/second"] {
                ensure!(client.get(path)?.0.status == 200);
            }
        }
        let outcome = recording.finish(2 * CONNECTIONS)?;
        let spans = "handing_over server GET /first -> 200\nhanding_over server GET /second -> 200\n";
        outcome.expect_tree(&[], &spans.repeat(CONNECTIONS))?;
        Ok(())
    })
}

#[test]
fn a_refused_connection_has_no_span() -> Result<()> {
    World::story("refused", |world| {
        let unused = Port::claim()?;
        let server = App::python("no_content").argument("127.0.0.1").start(world)?;
        let recording = Recording::start(world)?;
        // 7: curl could not connect.
        let url = format!("http://{}/hello", unused.address());
        let curl = world.exit_status_of(world.command("curl").args(["--silent", "--noproxy", "*", &url]))?;
        ensure!(curl.code() == Some(7), "{curl}");
        ensure!(Curl::run(world, &[&server.url("/hello")])?.status() == 204);
        recording.finish(2)?.expect_tree(
            &[],
            "
            curl client GET /hello -> 204
              no_content server GET /hello -> 204 by host
            ",
        )?;
        Ok(())
    })
}

#[test]
fn ipv6_addresses_are_exported() -> Result<()> {
    World::story("ipv6", |world| {
        let server = App::python("no_content").argument("::1").start(world)?;
        let recording = Recording::start(world)?;
        let url = format!("http://[::1]:{}/hello", server.port());
        ensure!(Curl::run(world, &[&url])?.status() == 204);
        recording.finish(2)?.expect_tree(
            &["network.type", "network.peer.address", "server.address"],
            "
            curl client GET /hello -> 204 network.type=ipv6 network.peer.address=::1 server.address=::1
              no_content server GET /hello -> 204 by host network.type=ipv6 network.peer.address=::1 server.address=::1
            ",
        )?;
        Ok(())
    })
}
