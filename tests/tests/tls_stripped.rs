//! TLS libraries in executables without symbols, whose functions are found by their code.

use anyhow::{Result, ensure};
use onlooker_tests::servers::{App, Stripped};
use onlooker_tests::tls_requests::{TlsRequests, expect_ports, one_each};
use onlooker_tests::{World, record_skip};

/// BoringSSL, which reads and writes sockets within its calls.
#[test]
fn envoy_terminates_and_originates_tls() -> Result<()> {
    let client = App::go("tls_client");
    if let Some(reason) = Stripped::envoy_skip_reason().or_else(|| client.skip_reason()) {
        record_skip(&reason);
        return Ok(());
    }
    World::story("TLS of Envoy", |world| {
        let server = App::go("tls_server").start(world)?;
        let envoy = Stripped::envoy(world, &server.address())?;
        let client = TlsRequests::start(world, client, &envoy.address())?;
        client.open_connections()?;
        let (outcome, ports) = client.record_rounds(world, 4)?;
        expect_ports(&outcome.spans, "envoy", &ports)?;
        let sent = one_each(&outcome.spans, "envoy", "client", "network.local.port", &ports)?;
        let received = one_each(&outcome.spans, "tls_server", "server", "network.peer.port", &ports)?;
        ensure!(sent == received, "the ends of some connections differ");
        Ok(())
    })
}

/// The server's threads wait in `SSL_read`. Those that wait as the agent attaches return unseen: each connection that is older than the
/// agent would lose a request.
#[test]
fn openssl_in_a_static_executable() -> Result<()> {
    let client = App::go("tls_client");
    if let Some(reason) = Stripped::openssl_skip_reason().or_else(|| client.skip_reason()) {
        record_skip(&reason);
        return Ok(());
    }
    World::story("TLS of OpenSSL, static and stripped", |world| {
        let server = Stripped::openssl(world)?;
        let client = TlsRequests::start(world, client, &server.address())?;
        let (outcome, ports) = client.record_rounds(world, 2)?;
        expect_ports(&outcome.spans, "tls_server", &ports)
    })
}
