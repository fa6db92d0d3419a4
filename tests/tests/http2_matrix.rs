//! Some pairs of the matrix of HTTP/2 clients and servers. `cargo xtask http2-matrix` runs all of them.

use anyhow::{Result, ensure};
use onlooker_tests::http2_matrix::{self, Load};
use onlooker_tests::{agent_binary, record_skip};
use rstest::rstest;

#[rstest]
#[case::over_one_connection("Go net/http", "HAProxy", 1)]
#[case::over_ten_connections("Node http2", "Go net/http", 10)]
#[case::through_a_proxy("h2load", "Envoy", 10)]
#[case::calls_over_one_connection("grpcio", "Node http2 (gRPC)", 1)]
#[case::calls_over_ten_connections("grpc-go", "grpc.aio", 10)]
#[case::calls_through_a_proxy("grpc.aio", "nghttpx", 1)]
fn every_request_of_a_pair_is_one_span_of_each_side(
    #[case] client: &str,
    #[case] server: &str,
    #[case] connections: usize,
) -> Result<()> {
    let client = http2_matrix::client(client)?;
    let server = http2_matrix::server(server, client.kind)?;
    ensure!(client.talks_to(server));
    if let Some(reason) = http2_matrix::skip_reason(client, server) {
        record_skip(&reason);
        return Ok(());
    }
    client.against(server, &Load { requests: 2_000, streams: 50, connections }, &agent_binary()?)?;
    Ok(())
}
