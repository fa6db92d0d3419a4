//! Requests behind a proxy that names its client in a PROXY header.

use anyhow::{Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::Nginx;
use onlooker_tests::{Recording, World};

const VERSION_1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
/// TCP over IPv6, with an additional value.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x29\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xdc\x04\x01\xbb\x01\0\x02h2";
/// A proxy that speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn a_proxys_header_names_the_client() -> Result<()> {
    World::story("PROXY protocol", |world| {
        let nginx =
            Nginx::site("location / { return 200 $proxy_protocol_addr; }").listen("proxy_protocol").start(world)?;
        let recording = Recording::start(world)?;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n").into_bytes();

        let mut client = RawClient::open(&nginx.address())?;
        ensure!(client.exchange([VERSION_1, &get("/first")].concat())?.0.status == 200);
        ensure!(client.get("/second")?.0.status == 200);
        let mut client = RawClient::open(&nginx.address())?;
        client.send(VERSION_2)?;
        ensure!(client.get("/binary")?.0.status == 200);
        let mut client = RawClient::open(&nginx.address())?;
        ensure!(client.exchange([LOCAL, &get("/local")].concat())?.0.status == 200);
        // This client is watched as well, so both ends are joined. It names its own address.
        world.curl(&["--haproxy-protocol", &nginx.url("/joined")])?;

        let outcome = recording.finish(4 + 2)?;
        let client_of = |name: &str| {
            let is_meant = |span: &&onlooker_tests::spans::Span| span.name == name && span.kind == "server";
            let span = outcome.spans.iter().find(is_meant);
            span.map(|span| (span.get("client.address").to_owned(), span.get("client.port").to_owned()))
        };
        let named = |address: &str| Some((address.to_owned(), "56324".to_owned()));
        ensure!(client_of("GET /first") == named("203.0.113.7"), "{:?}", client_of("GET /first"));
        ensure!(client_of("GET /second") == named("203.0.113.7"), "{:?}", client_of("GET /second"));
        ensure!(client_of("GET /binary") == named("2001:db8::7"), "{:?}", client_of("GET /binary"));
        let local = client_of("GET /local");
        ensure!(local.as_ref().is_some_and(|(address, _)| address == "127.0.0.1"), "{local:?}");
        outcome.expect_tree(
            &["network.peer.address"],
            "
            nginx server GET /first -> 200 network.peer.address=127.0.0.1
            nginx server GET /second -> 200 network.peer.address=127.0.0.1
            nginx server GET /binary -> 200 network.peer.address=127.0.0.1
            nginx server GET /local -> 200 network.peer.address=127.0.0.1
            curl client GET /joined -> 200 network.peer.address=127.0.0.1
              nginx server GET /joined -> 200 by host network.peer.address=127.0.0.1
            ",
        )?;
        Ok(())
    })
}
