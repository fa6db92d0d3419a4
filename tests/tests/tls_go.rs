//! TLS of Go programs: net/http as client and as server.

use anyhow::Result;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::tls_requests::{TlsRequests, expect_ports};
use onlooker_tests::{World, record_skip};

fn both_ends(program: &str, build: impl Fn(AppOptions) -> AppOptions) -> Result<()> {
    let (server, client) = (build(App::go("tls_server")), build(App::go("tls_client")));
    if let Some(reason) = server.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story(program, |world| {
        let server = server.start(world)?;
        let client = TlsRequests::start(world, client, &server.address())?;
        client.open_connections()?;
        let (outcome, ports) = client.record_rounds(world, 2)?;
        expect_ports(&outcome.spans, "tls_server", &ports)
    })
}

#[test]
fn go_with_symbols() -> Result<()> {
    both_ends("TLS of Go", |app| app)
}

#[test]
fn go_without_symbols() -> Result<()> {
    both_ends("TLS of Go, stripped (`-s -w`)", |app| app.go_arguments(&["-ldflags=-s -w"]).without_cgo())
}

#[test]
fn go_without_symbols_at_any_address_with_cgo() -> Result<()> {
    both_ends("TLS of Go, stripped, PIE, cgo", |app| app.go_arguments(&["-buildmode=pie", "-ldflags=-s -w"]))
}
