//! Calls of gRPC-Web and Connect over HTTP/1: what is reported of them, and never their content.

mod kit;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use kit::Talk;
use kit::http1::only_exchange;
use kit::http2::{line, message, rpc};
use onlooker_protocols::http1::Http1;
use onlooker_protocols::{Close, Direction, Finding, Moment, Parser as _};
use rstest::rstest;

/// A request for `shop.Cart/Get` with these fields and this body.
fn request(fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST /shop.Cart/Get HTTP/1.1\r\nhost: shop:8080\r\n{fields}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A response with this status and body.
fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A response whose chunks are these.
fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
    let chunk = |data: &&[u8]| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat();
    let body: Vec<u8> = chunks.iter().flat_map(chunk).collect();
    [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &*body, b"0\r\n\r\n"].concat()
}

/// The message with these flags.
fn last(flags: u8, text: &[u8]) -> Vec<u8> {
    [&[flags][..], &(text.len() as u32).to_be_bytes(), text].concat()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

const WEB: &str = "content-type: application/grpc-web+proto\r\ngrpc-timeout: 2S";
const TEXT: &str = "Content-Type: application/grpc-web-text";
const UNARY: &str = "content-type: application/json\r\nConnect-Protocol-Version: 1\r\nconnect-timeout-ms: 2000";
const STREAM: &str = "content-type: application/connect+json";

#[rstest]
#[case::web(
    request(WEB, &message("id")),
    response(200, &[message("cart"), last(0x80, b"grpc-status: 0\r\n")].concat()),
    "grpc shop.Cart/Get | OK | 1 > 1"
)]
#[case::web_in_chunks(
    request(WEB, &message("id")),
    chunked(&[&message("a"), &message("b")[..3], &message("b")[3..], &last(0x80, b"grpc-message: no\r\ngrpc-status: 5\r\n")]),
    "grpc shop.Cart/Get | NOT_FOUND | 1 > 2"
)]
#[case::web_compressed(
    request(WEB, &message("id")),
    chunked(&[&last(0x81, &gzip(b"grpc-status: 7\r\n"))]),
    "grpc shop.Cart/Get | PERMISSION_DENIED | 1 > 0"
)]
#[case::web_without_a_body(
    request(WEB, &message("id")),
    b"HTTP/1.1 200 OK\r\nGrpc-Status: 12\r\ncontent-length: 0\r\n\r\n".to_vec(),
    "grpc shop.Cart/Get | UNIMPLEMENTED | 1 > 0"
)]
#[case::web_in_base64(
    request(TEXT, b"AAAAAAFh"),
    response(200, b"AAAAAAFhgAAAABBHcnBjLVN0YXR1czogNQ0K"),
    "grpc shop.Cart/Get | NOT_FOUND | 1 > 1"
)]
#[case::refused_by_a_proxy(
    request(WEB, &message("id")),
    response(503, b""),
    "grpc shop.Cart/Get | UNAVAILABLE | 1 > 0"
)]
#[case::unary(request(UNARY, b"{}"), response(200, b"{}"), "connectrpc shop.Cart/Get | ? | ? > ?")]
#[case::unary_that_fails(
    request(UNARY, b"{}"),
    response(404, br#"{"code":"not_found","message":"s3cret"}"#),
    "connectrpc shop.Cart/Get | not_found | ? > ?"
)]
#[case::unary_by_get(
    b"GET /shop.Cart/Get?connect=v1&encoding=json&message=s3cret HTTP/1.1\r\nhost: shop:8080\r\n\r\n".to_vec(),
    response(409, br#"{"code":"aborted"}"#),
    "connectrpc shop.Cart/Get | aborted | ? > ?"
)]
#[case::stream(
    request(STREAM, &[message("a"), message("b")].concat()),
    chunked(&[&message("x"), &message("y"), &last(2, b"{}")]),
    "connectrpc shop.Cart/Get | ? | 2 > 2"
)]
#[case::stream_that_fails(
    request(STREAM, &message("a")),
    chunked(&[&message("x"), &last(2, br#"{"error":{"code":"unavailable"}}"#)]),
    "connectrpc shop.Cart/Get | unavailable | 1 > 1"
)]
#[case::stream_compressed(
    request(STREAM, &message("a")),
    chunked(&[&last(3, &gzip(br#"{"error":{"code":"internal","message":"s3cret"}}"#))]),
    "connectrpc shop.Cart/Get | internal | 1 > 0"
)]
fn a_call_over_http_1_has_status_and_messages(
    #[case] request: Vec<u8>,
    #[case] response: Vec<u8>,
    #[case] expected: &str,
) {
    let exchange = only_exchange(&Talk::new().request(request).response(response));
    assert_eq!(line(&exchange), expected);
    assert_eq!(rpc(&exchange).host, "shop:8080");
    assert!(!format!("{exchange:?}").contains("s3cret"));
}

#[test]
fn requests_beside_calls_stay_requests_of_http() {
    for fields in ["content-type: application/json", "content-type: application/grpcx", "connection: keep-alive"] {
        let exchange = only_exchange(&Talk::new().request(request(fields, b"{}")).response(response(200, b"{}")));
        assert_eq!(line(&exchange), "POST /shop.Cart/Get | 200 | 2 > 2");
    }
}

#[test]
fn a_call_has_the_time_that_its_client_gives_it() {
    for fields in [WEB, UNARY] {
        let exchange = only_exchange(&Talk::new().request(request(fields, b"")).response(response(200, b"")));
        assert_eq!(rpc(&exchange).timeout.map(|timeout| timeout.as_secs()), Some(2), "{fields}");
    }
}

/// What is behind a hole could be anything. A hole within a message hides nothing but its content.
#[rstest]
#[case::within_a_message(7, "grpc shop.Cart/Get | OK | 1 > 2")]
#[case::over_the_next_message(12, "grpc shop.Cart/Get | ? | 1 > ?")]
fn a_hole_in_a_response_leaves_no_wrong_count(#[case] missing: u64, #[case] expected: &str) {
    let body = [message("0123456789"), message("b"), last(0x80, b"grpc-status: 0\r\n")].concat();
    let response = response(200, &body);
    let head = response.len() - body.len();
    let mut parser = Http1::new(true);
    let mut found = Vec::new();
    let at = |run, position| Moment { nanos: u64::from(run), run, position };
    parser.bytes(Direction::ToServer, &request(WEB, &message("id")), at(0, 0), &mut found).unwrap();
    let seen = head + 6;
    parser.bytes(Direction::ToClient, &response[..seen], at(1, 0), &mut found).unwrap();
    parser.gap(Direction::ToClient, missing, at(1, seen as u64), &mut found).unwrap();
    let rest = seen + missing as usize;
    parser.bytes(Direction::ToClient, &response[rest..], at(1, rest as u64), &mut found).unwrap();
    parser.close(Close::Normal, at(2, response.len() as u64), &mut found);
    let Some(Finding::Exchange(exchange)) = found.last() else { panic!("{found:?}") };
    assert_eq!(line(exchange), expected);
}

#[test]
fn a_call_that_is_cut_off_has_no_status() {
    let whole = chunked(&[&message("a"), &last(0x80, b"grpc-status: 13\r\n")]);
    let cut = &whole[..whole.len() - b"3\r\n\r\n0\r\n\r\n".len()];
    let talk = Talk::new().request(request(WEB, &message("id"))).response(cut);
    assert_eq!(line(&only_exchange(&talk)), "grpc shop.Cart/Get | ? | 1 > 1 | Normal");
}

#[test]
fn calls_on_one_connection_are_told_apart() {
    let talk = Talk::new()
        .request(request(WEB, &message("a")))
        .response(response(200, &[message("a"), last(0x80, b"grpc-status: 0\r\n")].concat()))
        .request(request(UNARY, b"{}"))
        .response(response(404, br#"{"code":"not_found"}"#))
        .request(request("x: y", b"abc"))
        .response(response(200, b"ab"));
    for talk in [talk.byte_at_a_time(), talk] {
        let outcome = kit::http1::play(&talk);
        let lines: Vec<_> = outcome.exchanges().into_iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "grpc shop.Cart/Get | OK | 1 > 1",
                "connectrpc shop.Cart/Get | not_found | ? > ?",
                "POST /shop.Cart/Get | 200 | 3 > 2"
            ]
        );
    }
}
