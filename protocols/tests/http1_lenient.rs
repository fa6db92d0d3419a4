//! HTTP/1 that servers accept although the specification does not, and what takes over a connection.

mod kit;

use kit::http1::*;
use kit::{Talk, parser};
use onlooker_protocols::detect::{Guess, Sample};
use onlooker_protocols::{Close, Direction, End, PROTOCOLS, Transport, detect, http1};
use rstest::rstest;

const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[rstest]
#[case::json("{\"query\":1}")]
#[case::binary("\0\u{1}\u{2}\r\n\r\n")]
#[case::line("one two three\r\n\r\n")]
#[case::field("host: b\r\n\r\n")]
#[case::status_line("HTTP/1.1 200 OK\r\n\r\n")]
fn bytes_after_a_request_that_are_no_request_do_not_lose_it(#[case] rest: &str, #[values(false, true)] apart: bool) {
    let talk = if apart { Talk::new().request(get("/a")).request(rest) } else { Talk::new().request(get("/a") + rest) };
    let talk = talk.response(OK_3);

    let ignored = talk.clone().request(get("/b")).response(OK_EMPTY);
    let outcome = play(&ignored);
    assert_eq!(reported(&outcome), [("/a", Some(200)), ("/b", Some(200))]);
    assert_eq!((outcome.unparsable, outcome.orphans()), (None, 0));
    assert_eq!(outcome.exchanges()[0].request_end.position, get("/a").len() as u64);
    assert_eq!(outcome, play(&ignored.byte_at_a_time()), "differs byte by byte");

    let refused = talk.response(BAD_REQUEST).end(Direction::ToClient);
    let outcome = play(&refused);
    assert_eq!(reported(&outcome), [("/a", Some(200))]);
    assert_eq!(outcome.orphans(), 1, "nothing of what was refused is a request");
}

#[test]
fn bytes_after_a_request_longer_than_any_head_do_not_lose_it() {
    let talk = Talk::new().request(get("/a")).request("GET /".to_owned() + &"x".repeat(100_000)).response(OK_3);
    assert_eq!(reported(&play(&talk)), [("/a", Some(200))]);
}

#[test]
fn a_request_whose_chunks_are_invalid_has_its_response() {
    let talk =
        Talk::new().request("POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnonsense").response(BAD_REQUEST);
    let exchange = only_exchange(&talk);
    assert_eq!((http(&exchange).status, http(&exchange).request_body), (Some(400), None));
}

/// Detects the protocol, and parses the requests and a response for each.
#[rstest]
#[case::empty_line_before("\r\nGET /a HTTP/1.1\r\n\r\n", "GET", "/a")]
#[case::empty_lines_before("\n\r\n\r\nGET /a HTTP/1.1\r\n\r\n", "GET", "/a")]
#[case::lower_case("get /a HTTP/1.1\r\n\r\n", "get", "/a")]
#[case::mixed_case("PoSt /a HTTP/1.1\r\n\r\n", "PoSt", "/a")]
#[case::odd_method("m-x! /a HTTP/1.1\r\n\r\n", "m-x!", "/a")]
#[case::blank_in_the_target("GET /a b HTTP/1.1\r\n\r\n", "GET", "/a b")]
#[case::blanks_in_the_target("GET /a  b c HTTP/1.1\r\n\r\n", "GET", "/a  b c")]
#[case::control_character("GET /a\u{1}b HTTP/1.1\r\n\r\n", "GET", "/a\u{fffd}b")]
#[case::nul("GET /a\0 HTTP/1.1\r\n\r\n", "GET", "/a\u{fffd}")]
#[case::tab_in_the_target("GET /a\tb HTTP/1.1\r\n\r\n", "GET", "/a b")]
#[case::delete("GET /a\u{7f} HTTP/1.1\r\n\r\n", "GET", "/a\u{fffd}")]
#[case::several_blanks("GET   /a   HTTP/1.1\r\n\r\n", "GET", "/a")]
#[case::tabs("GET\t/a\tHTTP/1.1\r\n\r\n", "GET", "/a")]
#[case::blank_at_the_end("GET /a HTTP/1.1 \r\n\r\n", "GET", "/a")]
#[case::target_of_odd_letters("GET \"/a\" HTTP/1.1\r\n\r\n", "GET", "\"/a\"")]
#[case::later_minor_version("GET /a HTTP/1.2\r\n\r\n", "GET", "/a")]
#[case::version_in_the_target("GET /aHTTP/1.1 HTTP/1.1\r\n\r\n", "GET", "/aHTTP/1.1")]
fn requests_that_servers_accept_are_detected_and_parsed(
    #[case] wire: &str,
    #[case] method: &str,
    #[case] path: &str,
    #[values(false, true)] from_start: bool,
) {
    let empty_lines = wire.len() - wire.trim_start().len();
    let line_end = empty_lines + wire.trim_start().find('\n').unwrap();
    // In the middle of a connection, the whole line must be there.
    for length in if from_start { 1 } else { line_end + 1 }..=wire.len() {
        let bytes = &wire.as_bytes()[..length];
        for direction in [None, Some(Direction::ToServer)] {
            let sample = Sample { transport: Transport::Stream, direction, from_start, bytes };
            let guess = detect::detect(PROTOCOLS, &sample);
            let is_right = guess == Guess::Protocol(&http1::SPEC, Direction::ToServer);
            assert!(is_right || (guess == Guess::NeedMore && length <= line_end), "{guess:?} of {length} bytes");
        }
    }
    let talk = Talk::new().request(wire).response(OK_3).request(wire).response(OK_3);
    let outcome = talk.play(parser(&http1::SPEC, from_start));
    assert_eq!(outcome.exchanges().len(), 2, "{outcome:?}");
    for exchange in outcome.exchanges() {
        assert_eq!((&*http(exchange).method, &*http(exchange).path, http(exchange).status), (method, path, Some(200)));
    }
    let whole = talk.play(parser(&http1::SPEC, true));
    assert_eq!(whole, talk.byte_at_a_time().play(parser(&http1::SPEC, true)), "differs byte by byte");
}

#[rstest]
#[case::no_blank_before_the_version("GET /HTTP/1.1\r\n\r\n")]
#[case::another_protocol("OPTIONS rtsp://a RTSP/1.0\r\n\r\n")]
#[case::no_target("GET HTTP/1.1\r\n\r\n")]
#[case::version_2("GET / HTTP/2.0\r\n\r\n")]
#[case::empty_lines_alone("\r\n\r\n\r\n")]
#[case::text_about_http("this is a line about HTTP/1.1, and more\r\n")]
fn other_lines_are_not_detected_as_requests(#[case] wire: &str) {
    for direction in [None, Some(Direction::ToServer)] {
        let sample = Sample { transport: Transport::Stream, direction, from_start: true, bytes: wire.as_bytes() };
        let guess = detect::detect(PROTOCOLS, &sample);
        assert!(!matches!(guess, Guess::Protocol(protocol, _) if *protocol == http1::SPEC), "{guess:?}");
    }
}

#[rstest]
#[case::control_character_before_the_query("/a\u{1}?token=SECRET", "/a\u{fffd}", "token=REDACTED")]
#[case::control_character_in_a_name("/a?to\u{1}ken=SECRET", "/a", "REDACTED")]
#[case::control_character_in_a_value("/a?token=SEC\u{1}RET&x=1", "/a", "token=REDACTED&x=REDACTED")]
#[case::nul_in_a_value("/a?token=SEC\0RET", "/a", "token=REDACTED")]
#[case::blank_in_a_value("/a?token=my SECRET", "/a", "token=REDACTED")]
#[case::blank_in_a_name("/a?my token=SECRET", "/a", "REDACTED")]
#[case::tab_in_a_value("/a?token=my\tSECRET", "/a", "token=REDACTED")]
#[case::query_without_its_mark("/a token=SECRET", "/a token=REDACTED", "")]
#[case::several_without_a_mark("/a\ttoken=SECRET&b=SECRET", "/a token=REDACTED&b=REDACTED", "")]
#[case::words_without_a_mark("/a b token=SECRET", "/a REDACTED", "")]
#[case::matrix_parameter("/a b;token=SECRET", "/a REDACTED", "")]
#[case::no_path("token=SECRET b", "token=REDACTED", "")]
#[case::no_path_with_a_blank("a token=SECRET", "REDACTED", "")]
fn an_odd_target_leaks_no_value(#[case] target: &str, #[case] path: &str, #[case] query: &str) {
    let talk = Talk::new().request(format!("GET {target} HTTP/1.1\r\n\r\n")).response(OK_3);
    let exchange = only_exchange(&talk);
    assert_eq!((&*http(&exchange).path, &*http(&exchange).query), (path, query));
}

const ATTACH: &str = "POST /v1.43/containers/c/attach?stream=1 HTTP/1.1\r\nhost: docker\r\ncontent-length: 0\r\n\r\n";
const RAW_STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
const MULTIPLEXED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.docker.multiplexed-stream\r\n\r\n";
const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
    Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

#[rstest]
#[case::raw_stream(RAW_STREAM, 200)]
#[case::multiplexed(MULTIPLEXED, 200)]
#[case::upgraded(UPGRADED, 101)]
fn a_response_that_hands_the_connection_over_ends_with_its_head(#[case] head: &str, #[case] status: u16) {
    for (input, output) in [("", ""), ("ls\n", "\u{1}\0\0\0\0\0\0\u{2}a\n"), ("GET / HTTP/1.1\r\n\r\n", "x")] {
        let talk = Talk::new().request(ATTACH).response(head.to_owned() + output).request(input);
        let outcome = play(&talk);
        assert!(outcome.switched(), "{outcome:?}");
        let exchange = only_exchange(&talk);
        assert_eq!((http(&exchange).status, exchange.end), (Some(status), End::Complete));
        assert_eq!(exchange.response_end.unwrap().position, head.len() as u64);
    }
}

#[test]
fn a_raw_stream_of_known_framing_is_a_body() {
    let logs = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.docker.raw-stream\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\n";
    let talk = Talk::new().request(get("/logs")).response(logs).request(get("/b")).response(OK_EMPTY);
    let outcome = play(&talk);
    assert!(!outcome.switched());
    assert_eq!(reported(&outcome), [("/logs", Some(200)), ("/b", Some(200))]);
}

#[test]
fn input_after_a_response_of_unknown_length_does_not_lose_the_exchange() {
    let hijacked = "HTTP/1.1 200 OK\r\ncontent-type: text/x-terminal\r\n\r\n$ ";
    let talk = Talk::new().request(ATTACH).response(hijacked).request("ls -l\n").response("a b c\n$ ");
    let exchange = only_exchange(&talk.end(Direction::ToClient).closes(Close::Normal));
    assert_eq!((http(&exchange).status, exchange.end), (Some(200), End::Complete));
    assert_eq!(http(&exchange).response_body, Some(10));
}

/// What RFC 9112 6.3 says of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Rules 6 and 7: with the given number of bytes.
    Length,
    /// Rule 4.1
    Chunked,
    /// Rules 4.2 and 8: with the connection.
    Connection,
    /// Rules 4.3 and 5: unknown. The server answers and closes the connection.
    Unknown,
}

const CHUNK: &str = "3\r\nabc\r\n0\r\n\r\n";

/// Each row: the version, the fields, how a request with them ends, and how a response does.
#[rstest]
#[case::chunked("1.1", "Transfer-Encoding: chunked", Ends::Chunked, Ends::Chunked)]
#[case::chunked_in_any_case("1.1", "transfer-encoding: CHUNKED", Ends::Chunked, Ends::Chunked)]
#[case::both("1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked", Ends::Chunked, Ends::Chunked)]
#[case::both_in_the_other_order("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 3", Ends::Chunked, Ends::Chunked)]
#[case::both_and_the_length_is_invalid(
    "1.1",
    "Content-Length: x\r\nTransfer-Encoding: chunked",
    Ends::Chunked,
    Ends::Chunked
)]
#[case::chunked_after_another("1.1", "Transfer-Encoding: gzip, chunked", Ends::Chunked, Ends::Chunked)]
#[case::chunked_in_the_last_field(
    "1.1",
    "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    Ends::Chunked,
    Ends::Chunked
)]
#[case::empty_elements("1.1", "Transfer-Encoding: , chunked ,", Ends::Chunked, Ends::Chunked)]
#[case::chunked_is_not_last("1.1", "Transfer-Encoding: chunked, gzip", Ends::Unknown, Ends::Connection)]
#[case::chunked_is_not_in_the_last_field(
    "1.1",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
    Ends::Unknown,
    Ends::Connection
)]
#[case::chunked_is_not_last_and_a_length(
    "1.1",
    "Transfer-Encoding: chunked, gzip\r\nContent-Length: 3",
    Ends::Unknown,
    Ends::Connection
)]
#[case::other_coding("1.1", "Transfer-Encoding: gzip", Ends::Unknown, Ends::Connection)]
#[case::other_coding_and_a_length(
    "1.1",
    "Content-Length: 3\r\nTransfer-Encoding: gzip",
    Ends::Unknown,
    Ends::Connection
)]
#[case::chunked_with_a_parameter("1.1", "Transfer-Encoding: chunked;a=b", Ends::Unknown, Ends::Connection)]
#[case::coding_that_begins_like_chunked("1.1", "Transfer-Encoding: chunkedx", Ends::Unknown, Ends::Connection)]
#[case::coding_before_1_1("1.0", "Transfer-Encoding: chunked", Ends::Unknown, Ends::Connection)]
#[case::coding_and_length_before_1_1(
    "1.0",
    "Transfer-Encoding: chunked\r\nContent-Length: 3",
    Ends::Unknown,
    Ends::Connection
)]
#[case::length("1.1", "Content-Length: 3", Ends::Length, Ends::Length)]
#[case::length_before_1_1("1.0", "Content-Length: 3", Ends::Length, Ends::Length)]
#[case::equal_lengths("1.1", "Content-Length: 3\r\nContent-Length: 3", Ends::Length, Ends::Length)]
#[case::equal_lengths_in_a_list("1.1", "Content-Length: 3, 3", Ends::Length, Ends::Length)]
#[case::differing_lengths("1.1", "Content-Length: 3\r\nContent-Length: 4", Ends::Unknown, Ends::Unknown)]
#[case::differing_lengths_in_a_list("1.1", "Content-Length: 3, 4", Ends::Unknown, Ends::Unknown)]
#[case::a_length_that_is_no_number("1.1", "Content-Length: three", Ends::Unknown, Ends::Unknown)]
#[case::a_length_with_a_sign("1.1", "Content-Length: +3", Ends::Unknown, Ends::Unknown)]
#[case::an_empty_length("1.1", "Content-Length:", Ends::Unknown, Ends::Unknown)]
fn framing_is_that_of_rfc_9112_6_3(
    #[case] version: &str,
    #[case] fields: &str,
    #[case] request: Ends,
    #[case] response: Ends,
) {
    // The next message is found if, and only if, the end of the one before is known.
    let body = |ends| if ends == Ends::Chunked { CHUNK } else { "abc" };
    let wire = format!("POST /1 HTTP/{version}\r\n{fields}\r\n\r\n{}{}", body(request), get("/2"));
    let talk = Talk::new().request(&wire).response(OK_EMPTY).response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    let first = http(outcome.exchanges()[0]);
    if matches!(request, Ends::Length | Ends::Chunked) {
        assert_eq!(reported(&outcome), [("/1", Some(200)), ("/2", Some(200))]);
        assert_eq!(first.request_body, Some(3));
    } else {
        assert_eq!((reported(&outcome), first.request_body), (vec![("/1", Some(200))], None));
    }

    let wire = format!("HTTP/{version} 200 OK\r\n{fields}\r\n\r\n{}", body(response));
    let closed = |end: bool| {
        let talk = Talk::new().request(get("/1")).response(&wire);
        only_exchange(&if end { talk.end(Direction::ToClient) } else { talk })
    };
    for (exchange, ends_in_order) in [(closed(true), true), (closed(false), false)] {
        let is_complete = ends_in_order || matches!(response, Ends::Length | Ends::Chunked);
        assert_eq!(exchange.end == End::Complete, is_complete, "{exchange:?}");
        assert_eq!(http(&exchange).response_body, Some(3));
        assert_eq!(exchange.response_end.unwrap().position, wire.len() as u64);
    }
}

/// RFC 9112 6.3, 1: whatever the fields say.
#[rstest]
#[case::head("HEAD", 200)]
#[case::no_content("GET", 204)]
#[case::not_modified("GET", 304)]
fn some_responses_have_no_body(
    #[case] method: &str,
    #[case] status: u16,
    #[values("Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Length: 9", "Content-Length: 1, 2")]
    fields: &str,
) {
    let talk = Talk::new()
        .request(format!("{method} /1 HTTP/1.1\r\n\r\n"))
        .response(format!("HTTP/1.1 {status} X\r\n{fields}\r\n\r\n"))
        .request(get("/2"))
        .response(OK_EMPTY);
    assert_eq!(reported(&play(&talk)), [("/1", Some(status)), ("/2", Some(200))]);
}
