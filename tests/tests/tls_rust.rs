//! TLS of Rust programs: rustls below tokio-rustls, hyper, axum, reqwest and ureq.

use anyhow::Result;
use onlooker_tests::servers::{App, AppOptions};
use onlooker_tests::tls::Certificate;
use onlooker_tests::tls_requests::{TlsRequests, expect_ports};
use onlooker_tests::{World, record_skip};
use rstest::rstest;

/// Why a program cannot run here, if so.
fn skip_reason(programs: &[&AppOptions]) -> Option<String> {
    programs.iter().find_map(|program| program.skip_reason())
}

/// The client is Go's, which asks for no session tickets: so the server encrypts nothing before its first response.
#[rstest]
#[case::ring("ring")]
#[case::aws_lc("aws-lc-rs")]
fn requests_that_axum_serves_are_traced(#[case] provider: &str) -> Result<()> {
    let (server, client) = (App::rust("tls/tls_server"), App::go("tls_client"));
    if let Some(reason) = skip_reason(&[&server, &client]) {
        record_skip(&reason);
        return Ok(());
    }
    World::story(&format!("TLS of axum with {provider}"), |world| {
        let certificate = Certificate::make(world)?;
        let server = server.argument(&certificate.dir()).argument(provider).start(world)?;
        let client = TlsRequests::start(world, client, &server.address())?;
        let (outcome, ports) = client.record_rounds(world, 2)?;
        expect_ports(&outcome.spans, "tls_server", &ports)
    })
}

#[rstest]
#[case::reqwest("reqwest")]
#[case::ureq("ureq")]
#[case::rustls_0_21("rustls-0.21")]
#[case::rustls_0_22("rustls-0.22")]
fn requests_of_clients_are_traced(#[case] library: &str) -> Result<()> {
    let (server, client) = (App::go("tls_server"), App::rust("tls/tls_client"));
    if let Some(reason) = skip_reason(&[&server, &client]) {
        record_skip(&reason);
        return Ok(());
    }
    World::story(&format!("TLS of {library}"), |world| {
        let server = server.start(world)?;
        let client = TlsRequests::start(world, client.argument(library), &server.address())?;
        client.open_connections()?;
        let (outcome, ports) = client.record_rounds(world, 2)?;
        expect_ports(&outcome.spans, "tls_server", &ports)
    })
}
