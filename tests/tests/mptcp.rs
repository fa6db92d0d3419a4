//! MPTCP: the process's socket is followed. The kernel's subflows are not.

use std::fs;

use anyhow::{Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::{Curl, Recording, World, record_skip};
use rstest::rstest;

/// Whether this kernel has MPTCP. If not, the calling test is recorded as skipped.
fn has_mptcp() -> bool {
    let enabled = fs::read_to_string("/proc/sys/net/mptcp/enabled").unwrap_or_default();
    let has_mptcp = enabled.trim() == "1";
    if !has_mptcp {
        record_skip("this kernel has no MPTCP, or it is switched off");
    }
    has_mptcp
}

/// Sends a GET for each path over one connection, which speaks `protocol`. Returns the bodies of the responses.
fn get(world: &World, server: &App, protocol: &str, end: &str, paths: &[&str]) -> Result<String> {
    let port = server.port().to_string();
    let arguments = [&[port.as_str(), protocol, end], paths].concat();
    let client = arguments.into_iter().fold(App::python("raw_client"), AppOptions::argument);
    client.run(world)
}

#[rstest]
#[case::server_before_the_agent(true)]
#[case::agent_before_the_server(false)]
fn both_ends_of_an_mptcp_connection_are_joined(#[case] server_first: bool) -> Result<()> {
    if !has_mptcp() {
        return Ok(());
    }
    World::story("mptcp", |world| {
        let early = if server_first { Some(App::python("mptcp").start(world)?) } else { None };
        let recording = Recording::start(world)?;
        let server = early.map_or_else(|| App::python("mptcp").start(world), Ok)?;
        ensure!(get(world, &server, "mptcp", "read", &["/a", "/b", "/c"])? == "mptcp\nmptcp\nmptcp\n");
        let outcome = recording.finish(6)?;
        ensure!(outcome.summary.get("kernel_mptcp_connections_unplaced") == 0, "{}", outcome.summary);
        outcome.expect_tree(
            &["network.transport", "network.peer.address"],
            "
            raw_client client GET /a -> 200 network.transport=tcp network.peer.address=127.0.0.1
              mptcp server GET /a -> 200 by host network.transport=tcp network.peer.address=127.0.0.1
            raw_client client GET /b -> 200 network.transport=tcp network.peer.address=127.0.0.1
              mptcp server GET /b -> 200 by host network.transport=tcp network.peer.address=127.0.0.1
            raw_client client GET /c -> 200 network.transport=tcp network.peer.address=127.0.0.1
              mptcp server GET /c -> 200 by host network.transport=tcp network.peer.address=127.0.0.1
            ",
        )?;
        let port = server.port().to_string();
        for span in &outcome.spans {
            let ends = ["network.local.port", "network.peer.port"].map(|key| span.get(key));
            let [server, client] = if span.kind == "server" { ends } else { [ends[1], ends[0]] };
            ensure!(server == port && !matches!(client, "" | "0"), "{span:#?}");
        }
        Ok(())
    })
}

#[test]
fn a_go_server_that_listens_with_mptcp_is_traced() -> Result<()> {
    let go = App::go("multipath");
    if let Some(reason) = go.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    if !has_mptcp() {
        return Ok(());
    }
    World::story("go", |world| {
        let server = go.start(world)?;
        if get(world, &server, "mptcp", "read", &["/"])? != "mptcp\n" {
            record_skip("Go before 1.24 listens without MPTCP");
            return Ok(());
        }
        let recording = Recording::start(world)?;
        ensure!(get(world, &server, "mptcp", "read", &["/a", "/b"])? == "mptcp\nmptcp\n");
        // The server's kernel falls back to TCP for a client without MPTCP.
        let curl = Curl::run(world, &[&server.url("/c")])?;
        ensure!(curl.body == b"tcp", "{curl:?}");
        recording.finish(6)?.expect_tree(
            &[],
            "
            raw_client client GET /a -> 200
              multipath server GET /a -> 200 by host
            raw_client client GET /b -> 200
              multipath server GET /b -> 200 by host
            curl client GET /c -> 200
              multipath server GET /c -> 200 by host
            ",
        )?;
        Ok(())
    })
}

#[test]
fn a_client_that_falls_back_from_mptcp_to_tcp_is_traced() -> Result<()> {
    if !has_mptcp() {
        return Ok(());
    }
    World::story("fallback", |world| {
        let server = App::python("no_content").argument("127.0.0.1").start(world)?;
        let recording = Recording::start(world)?;
        get(world, &server, "mptcp", "read", &["/a", "/b"])?;
        recording.finish(4)?.expect_tree(
            &[],
            "
            raw_client client GET /a -> 204
              no_content server GET /a -> 204 by host
            raw_client client GET /b -> 204
              no_content server GET /b -> 204 by host
            ",
        )?;
        Ok(())
    })
}

#[test]
fn an_mptcp_connection_that_is_closed_ends_its_request() -> Result<()> {
    if !has_mptcp() {
        return Ok(());
    }
    World::story("closed", |world| {
        let server = App::python("mptcp").start(world)?;
        let recording = Recording::start(world)?;
        // The client fails, because the server closes the connection.
        ensure!(get(world, &server, "mptcp", "read", &["/a", "/silence"]).is_err());
        recording.finish(4)?.expect_tree(
            &[],
            "
            raw_client client GET /a -> 200
              mptcp server GET /a -> 200 by host
            raw_client client GET /silence error=connection_closed
              mptcp server GET /silence by host error=connection_closed
            ",
        )?;
        Ok(())
    })
}

#[test]
fn the_ends_of_mptcp_connections_from_before_the_agent_are_not_joined() -> Result<()> {
    if !has_mptcp() {
        return Ok(());
    }
    World::story("old connection", |world| {
        let server = App::python("mptcp").start(world)?;
        let mut client = RawClient::open_mptcp(&server.address())?;
        client.get("/before")?;
        let recording = Recording::start(world)?;
        ensure!(client.get("/a")?.0.status == 200);
        let outcome = recording.finish(1)?;
        ensure!(outcome.summary.get("kernel_mptcp_connections_unplaced") == 1, "{}", outcome.summary);
        outcome.expect_tree(&[], "mptcp server GET /a -> 200\n")?;
        Ok(())
    })
}
