//! HTTP/1 as RFC 9110 and RFC 9112 have it, in tables and stories.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod chance;
mod kit;

use kit::{FIRST_NANOS, Talk};
use onlooker_protocols::http1::{Http, Http1};
use onlooker_protocols::{Close, Details, Direction, End, Exchange, Finding, LossReason, Moment};
use proptest::prelude::*;
use rstest::rstest;

fn http(exchange: &Exchange) -> &Http {
    let Details::Http1(http) = &exchange.details else { panic!("not HTTP: {exchange:?}") };
    http
}

fn play(talk: &Talk) -> kit::Outcome {
    talk.play(Box::new(Http1::new(true)))
}

/// The only exchange of a talk, which must come out the same whole and byte by byte.
fn only_exchange(talk: &Talk) -> Exchange {
    let outcome = play(talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    let [exchange] = outcome.exchanges()[..] else { panic!("not one exchange: {outcome:?}") };
    exchange.clone()
}

/// Method, path, status, request and response body.
type Told = (String, String, Option<u16>, Option<u64>, Option<u64>);

fn told(outcome: &kit::Outcome) -> Vec<Told> {
    outcome
        .exchanges()
        .into_iter()
        .map(http)
        .map(|h| (h.method.to_string(), h.path.to_string(), h.status, h.request_body, h.response_body))
        .collect()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK_3: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

#[rstest]
#[case::content_length(OK_3, 200, 3)]
#[case::same_length_twice("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nContent-Length: 3, 3\r\n\r\nabc", 200, 3)]
#[case::no_reason("HTTP/1.1 200\r\ncontent-length: 3\r\n\r\nabc", 200, 3)]
#[case::empty_reason("HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\nabc", 200, 3)]
#[case::bare_line_feeds("HTTP/1.1 200 OK\ncontent-length: 3\n\nabc", 200, 3)]
#[case::folded_field("HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length:\r\n 3\r\n\r\nabc", 200, 3)]
#[case::empty_lines_before("\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, 3)]
#[case::http_1_0("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, 3)]
#[case::chunked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, 5)]
#[case::chunked_with_trailers(
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
    200,
    3
)]
#[case::coding_beats_length(
    "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    200,
    1
)]
#[case::no_coding_at_all("HTTP/1.1 200 OK\r\nTransfer-Encoding: Identity\r\ncontent-length: 3\r\n\r\nabc", 200, 3)]
#[case::no_coding_beside_chunked(
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    200,
    1
)]
#[case::continue_is_not_the_answer(
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
    201,
    0
)]
#[case::early_hints(
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
    200,
    1
)]
#[case::several_interim(
    "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 404 N\r\ncontent-length: 0\r\n\r\n",
    404,
    0
)]
#[case::no_content("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, 0)]
#[case::not_modified("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, 0)]
fn a_response_ends_where_rfc_9112_says(#[case] wire: &str, #[case] status: u16, #[case] body: u64) {
    // What comes after must be read as the next response: then the end was found exactly.
    let talk = Talk::new()
        .request(GET)
        .response(wire)
        .request("HEAD /2 HTTP/1.1\r\n\r\n")
        .response(OK_3.split("abc").next().unwrap());
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    assert_eq!(
        told(&outcome),
        [
            ("GET".into(), "/".into(), Some(status), Some(0), Some(body)),
            ("HEAD".into(), "/2".into(), Some(200), Some(0), Some(0)),
        ]
    );
    let first = outcome.exchanges()[0];
    assert_eq!(first.end, End::Complete);
    assert_eq!(first.response_start.unwrap().position, wire.rfind("HTTP/1.").unwrap() as u64);
    assert_eq!(first.response_end.unwrap().position, wire.len() as u64);
}

#[rstest]
#[case::nothing_said("HTTP/1.1 200 OK\r\n\r\nabc")]
#[case::http_1_0("HTTP/1.0 200 OK\r\n\r\nabc")]
#[case::other_coding("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc")]
#[case::chunked_is_not_last("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\ncontent-length: 1\r\n\r\nabc")]
#[case::chunked_before_1_1("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\nabc")]
#[case::different_lengths("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nabc")]
#[case::negative_length("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nabc")]
#[case::length_beyond_64_bits("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nabc")]
fn a_response_without_a_length_ends_with_the_connection(#[case] wire: &str) {
    let at_end = |end, closed| {
        let talk = Talk::new().request(GET).response(wire);
        let talk = if end { talk.end(Direction::Response) } else { talk };
        let exchange = only_exchange(&talk.closes(closed));
        assert_eq!(http(&exchange).response_body, Some(3));
        assert_eq!(exchange.response_end.unwrap().position, wire.len() as u64);
        exchange.end
    };
    for why in [Close::Normal, Close::Error(104), Close::ProcessExit, Close::Aged, Close::Shutdown] {
        assert_eq!(at_end(true, why), End::Complete, "the FIN came first");
        assert!(matches!(at_end(false, why), End::Closed(said, _) if said == why), "the client went away first");
    }
}

#[test]
fn a_response_without_a_length_is_not_complete_if_the_client_goes_away_first() {
    let talk = Talk::new().request(GET).response("HTTP/1.0 200 OK\r\n\r\npart").end(Direction::Request);
    let exchange = only_exchange(&talk);
    assert!(matches!(exchange.end, End::Closed(Close::Normal, _)), "{exchange:?}");
}

#[test]
fn a_response_that_nothing_ends_ends_at_the_latest_when_the_next_request_is_answered() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na";
    let talk = Talk::new().request(GET).response(broken).request("GET /2 HTTP/1.1\r\n\r\n").response(OK_3);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    let [first, second] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((first.end, first.response_end.unwrap().position), (End::Complete, broken.len() as u64));
    assert_eq!((http(second).status, http(second).response_body), (Some(200), Some(3)));
}

#[rstest]
#[case::none("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Some(0))]
#[case::length("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", Some(5))]
#[case::length_of_a_delete("DELETE / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi", Some(2))]
#[case::chunked("PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n", Some(5))]
#[case::empty_lines_before("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n", Some(0))]
#[case::bare_line_feeds("POST / HTTP/1.1\ncontent-length: 2\n\nhi", Some(2))]
#[case::a_method_nobody_knows("m-x! / HTTP/1.1\r\n\r\n", Some(0))]
#[case::later_minor_version("GET / HTTP/1.7\r\n\r\n", Some(0))]
#[case::blank_before_the_colon("POST / HTTP/1.1\r\ncontent-length : 2\r\n\r\nhi", Some(2))]
#[case::line_without_colon("GET / HTTP/1.1\r\nnonsense\r\n\r\n", Some(0))]
fn a_request_ends_where_rfc_9112_says(#[case] wire: &str, #[case] body: Option<u64>) {
    let talk = Talk::new().request(format!("{wire}{GET}")).response(OK_3).response(OK_3);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    let exchanges = outcome.exchanges();
    assert_eq!(exchanges.len(), 2, "{outcome:?}");
    assert_eq!(http(exchanges[0]).request_body, body);
    assert_eq!(exchanges[0].request_start.position, wire.find(|c| !matches!(c, '\r' | '\n')).unwrap() as u64);
    assert_eq!(exchanges[0].request_end.position, wire.len() as u64);
    assert_eq!(exchanges[1].request_start.position, wire.len() as u64);
}

#[rstest]
#[case::origin(
    "GET /a/b?x=1&token=s HTTP/1.1\r\nHost: h:8080\r\n\r\n",
    "/a/b",
    "x=REDACTED&token=REDACTED",
    "",
    "h:8080"
)]
#[case::empty_query("GET /a? HTTP/1.1\r\nHost: h\r\n\r\n", "/a", "", "", "h")]
#[case::absolute(
    "GET http://user:pw@h.example:81/p?q=1 HTTP/1.1\r\nHost: other\r\n\r\n",
    "/p",
    "q=REDACTED",
    "http",
    "h.example:81"
)]
#[case::absolute_without_path("GET https://h?q=1 HTTP/1.1\r\n\r\n", "/", "q=REDACTED", "https", "h")]
#[case::absolute_with_a_url_in_it(
    "GET /login?next=http://x/y HTTP/1.1\r\nhost: h\r\n\r\n",
    "/login",
    "next=REDACTED",
    "",
    "h"
)]
#[case::query_with_a_url_in_it(
    "GET ?token=SECRET&next=https://foo/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "/",
    "token=REDACTED&next=REDACTED",
    "",
    "h"
)]
#[case::no_scheme("GET 1x+y://u:pw@foo/p?q=1 HTTP/1.1\r\nHost: h\r\n\r\n", "1x+y://u:pw@foo/p", "q=REDACTED", "", "h")]
#[case::scheme_of_every_letter("GET a+b-c.1://foo/p HTTP/1.1\r\nHost: h\r\n\r\n", "/p", "", "a+b-c.1", "foo")]
#[case::query_without_its_mark(
    "GET token=SECRET&x HTTP/1.1\r\nHost: h\r\n\r\n",
    "token=REDACTED&REDACTED",
    "",
    "",
    "h"
)]
#[case::query_without_its_mark_before_a_query(
    "GET a=1?b=2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a=REDACTED",
    "b=REDACTED",
    "",
    "h"
)]
#[case::word("GET nonsense HTTP/1.1\r\nHost: h\r\n\r\n", "nonsense", "", "", "h")]
#[case::connect_with_more("CONNECT u:pw@h:443/p?token=SECRET HTTP/1.1\r\n\r\n", "", "", "", "h:443")]
#[case::host_with_more("GET / HTTP/1.1\r\nHost: h:80?token=SECRET#x\r\n\r\n", "/", "", "", "h:80")]
#[case::host_with_a_password("GET / HTTP/1.1\r\nHost: u:SECRET\r\n\r\n", "/", "", "", "u")]
#[case::asterisk("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "*", "", "", "h")]
#[case::no_host("GET / HTTP/1.0\r\n\r\n", "/", "", "", "")]
#[case::first_host_counts("GET / HTTP/1.1\r\nHOST:  h1 \r\nhost: h2\r\n\r\n", "/", "", "", "h1")]
#[case::fragment("GET /a#secret HTTP/1.1\r\nhost: h\r\n\r\n", "/a", "", "", "h")]
#[case::matrix_parameter("GET /a;jsessionid=5 HTTP/1.1\r\nhost: h\r\n\r\n", "/a;jsessionid=REDACTED", "", "", "h")]
#[case::terminal_escape("GET /\x1b[2J HTTP/1.1\r\nhost: h\r\n\r\n", "/\u{fffd}[2J", "", "", "h")]
#[case::blanks_in_the_target("GET /a b HTTP/1.1\r\nhost: h\r\n\r\n", "/a b", "", "", "h")]
fn a_target_is_taken_apart(
    #[case] wire: &str,
    #[case] path: &str,
    #[case] query: &str,
    #[case] scheme: &str,
    #[case] host: &str,
) {
    let exchange = only_exchange(&Talk::new().request(wire).response("HTTP/1.1 400 B\r\ncontent-length: 0\r\n\r\n"));
    let http = http(&exchange);
    assert_eq!((&*http.path, &*http.query, &*http.scheme, &*http.host), (path, query, scheme, host));
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let path = "/".repeat(60_000);
    let exchange = only_exchange(&Talk::new().request(format!("GET {path} HTTP/1.1\r\n\r\n")).response(OK_3));
    assert_eq!(http(&exchange).path, format!("{}…", "/".repeat(2048)));
}

#[test]
fn fields_that_tie_requests_together_are_found() {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let wire = format!(
        "GET / HTTP/1.1\r\nuser-agent: curl/8\r\nTraceParent: {traceparent}\r\nTRACESTATE: a=1\r\ntracestate: b=2\r\n\
         X-Correlation-ID: two\r\nX-Request-Id:one\r\n\r\n"
    );
    let outcome = play(&Talk::new().request(wire).response(OK_3));
    let Finding::Begun(begun) = &outcome.findings[0] else { panic!("{outcome:?}") };
    assert_eq!(begun.correlation.as_deref(), Some("one"));
    let context = begun.context.as_ref().unwrap();
    assert_eq!((context.span_id[0], context.flags, &*context.tracestate), (0xb7, 1, "a=1,b=2"));
    let exchange = outcome.exchanges()[0];
    assert!(http(exchange).has_context);
    assert_eq!(http(exchange).user_agent, "curl/8");
}

#[test]
fn moments_are_those_of_the_pieces_that_hold_the_bytes() {
    let talk = Talk::new()
        .request("\r\n") // passes at 0 ms, begins nothing
        .request("POST / HTTP/1.1\r\ncont") // 1
        .request("ent-length: 4\r\n\r\nab") // 2
        .response("HTTP/1.1 100 Continue\r\n\r\n") // 3
        .request("cd") // 4
        .response("HT") // 5
        .response("TP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n") // 6
        .response("x") // 7
        .response("y"); // 8
    let outcome = play(&talk);
    let moment = |ms: u64, position, run| Moment { nanos: FIRST_NANOS + ms * 1_000_000, position, run };
    let exchange = outcome.exchanges()[0];
    assert_eq!(exchange.request_start, moment(1, 2, 0));
    assert_eq!(exchange.request_end, moment(4, 44, 2));
    assert_eq!(exchange.response_start, Some(moment(5, 25, 3)));
    assert_eq!(exchange.response_end, Some(moment(8, 65, 3)));
    let Finding::Begun(begun) = &outcome.findings[0] else { panic!("{outcome:?}") };
    assert_eq!(begun.start, exchange.request_start);
}

#[test]
fn begun_comes_as_soon_as_the_head_is_complete() {
    let outcome = play(&Talk::new().request("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r").closes(Close::Error(104)));
    assert_eq!(outcome.findings, [], "not a request yet");
    let outcome = play(&Talk::new().request("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n").closes(Close::Error(104)));
    assert_eq!(outcome.begun(), 1);
    let exchange = outcome.exchanges()[0];
    assert!(matches!(exchange.end, End::Closed(Close::Error(104), _)));
    assert_eq!((exchange.response_start, exchange.response_end), (None, None));
}

#[rstest]
#[case::no_response("", None, None)]
#[case::within_the_head("HTTP/1.1 200 OK\r\nconte", None, None)]
#[case::after_the_head("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Some(200), Some(0))]
#[case::within_the_body("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcd", Some(200), Some(4))]
#[case::within_a_chunk("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabcd", Some(200), Some(4))]
#[case::before_the_last_chunk("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", Some(200), Some(1))]
fn a_connection_closed_early_is_told_as_it_was(
    #[case] response: &str,
    #[case] status: Option<u16>,
    #[case] body: Option<u64>,
    #[values(Close::Normal, Close::Error(32), Close::ProcessExit, Close::Aged, Close::Shutdown)] why: Close,
    #[values(false, true)] ends_first: bool,
) {
    let mut talk = Talk::new().request(GET);
    if !response.is_empty() {
        talk = talk.response(response);
    }
    if ends_first {
        talk = talk.end(Direction::Response);
    }
    let exchange = only_exchange(&talk.closes(why));
    let said = if ends_first { Close::Normal } else { why };
    assert!(matches!(exchange.end, End::Closed(why, _) if why == said), "{exchange:?}");
    assert_eq!((http(&exchange).status, http(&exchange).response_body), (status, body));
    assert_eq!(exchange.response_start.is_some(), status.is_some());
    assert_eq!(exchange.response_end.map(|end| end.position), status.map(|_| response.len() as u64));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let talk = Talk::new()
        .request("GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nPOST /3 HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi")
        .response(OK_3)
        .request("GET /4 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nHTTP/1.1 404 N\r\ncontent-length: 1\r\n\r\nx")
        .response(OK_3);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()));
    let statuses: Vec<_> = told(&outcome).into_iter().map(|(_, path, status, ..)| (path, status.unwrap())).collect();
    assert_eq!(statuses, [("/1".into(), 200), ("/2".into(), 200), ("/3".into(), 404), ("/4".into(), 200)]);
}

#[test]
fn more_pipelined_requests_than_are_kept_are_counted_and_the_next_are_told() {
    let mut talk = Talk::new();
    for _ in 0..262 {
        talk = talk.request(GET);
    }
    for _ in 0..262 {
        talk = talk.response(OK_3);
    }
    let outcome = play(&talk.request("GET /next HTTP/1.1\r\n\r\n").response(OK_3));
    assert_eq!(outcome.lost(), [LossReason::TooManyOpen; 6]);
    assert_eq!(outcome.orphans(), 0);
    assert_eq!(outcome.exchanges().len(), 257);
    assert_eq!(http(outcome.exchanges()[256]).path, "/next");
}

#[test]
fn an_early_response_is_told_at_its_end_and_the_rest_of_the_body_belongs_to_nobody() {
    let talk = Talk::new()
        .request("POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\n12345")
        .response("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        .request("67890")
        .request(GET)
        .response(OK_3);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()));
    assert_eq!(
        told(&outcome),
        [
            ("POST".into(), "/".into(), Some(413), None, Some(0)),
            ("GET".into(), "/".into(), Some(200), Some(0), Some(3)),
        ]
    );
    assert_eq!(outcome.exchanges()[0].end, End::Complete);
}

#[test]
fn a_body_that_nobody_wanted_may_be_left_out() {
    let expecting = "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n";
    let refusal = "HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n";
    let left_out = Talk::new().request(expecting).response(refusal).request(GET).response(OK_3);
    assert_eq!(told(&play(&left_out)).len(), 2);

    let in_two_writes = Talk::new()
        .request(expecting)
        .response(refusal)
        .request("GET /lo")
        .request("ng HTTP/1.1\r\n\r\n")
        .response(OK_3);
    let outcome = play(&in_two_writes);
    assert_eq!(told(&outcome).into_iter().map(|(_, path, ..)| path).collect::<Vec<_>>(), ["/", "/long"]);
    assert_eq!(outcome, play(&in_two_writes.byte_at_a_time()), "differs byte by byte");

    // What looked like a request so far was the body after all, and the next request follows it.
    let like_a_request = format!("GET /lo{}", "x".repeat(42)) + "\n";
    let sent_anyway = Talk::new().request(expecting).response(refusal).request("GET /lo");
    let sent_anyway = sent_anyway.request(&like_a_request[7..]).request(GET).response(OK_3);
    let outcome = play(&sent_anyway);
    assert_eq!(told(&outcome).len(), 2);
    assert_eq!(outcome, play(&sent_anyway.byte_at_a_time()), "differs byte by byte");

    let sent_anyway =
        Talk::new().request(expecting).response(refusal).request("x".repeat(50)).request(GET).response(OK_3);
    assert_eq!(told(&play(&sent_anyway)).len(), 2);
}

#[test]
fn with_100_continue_the_response_is_the_one_after_the_body() {
    let talk = Talk::new()
        .request("PUT / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n")
        .response("HTTP/1.1 100 Continue\r\n\r\n")
        .request("hello")
        .response(OK_3);
    let exchange = only_exchange(&talk);
    assert_eq!((http(&exchange).status, http(&exchange).request_body), (Some(200), Some(5)));
    assert_eq!(exchange.response_start.unwrap().run, 3);
}

#[rstest]
#[case::websocket("GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n")]
#[case::connect("CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n", "HTTP/1.1 200 Connection established\r\n\r\n")]
fn a_switched_protocol_ends_the_exchange_and_the_parser(#[case] request: &str, #[case] response: &str) {
    let talk = Talk::new().request(request).response(format!("{response}\u{1}\u{5}hello")).request("\x00\x01");
    let outcome = play(&talk);
    assert!(outcome.switched());
    let exchange = outcome.exchanges()[0];
    assert_eq!(exchange.end, End::Complete);
    assert_eq!(exchange.response_end.unwrap().position, response.len() as u64);
    assert_eq!(outcome.lost(), []);
}

#[test]
fn a_refused_connect_leaves_http() {
    let talk = Talk::new()
        .request("CONNECT h:443 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 407 Auth\r\ncontent-length: 3\r\n\r\nabc")
        .request(GET)
        .response(OK_3);
    let outcome = play(&talk);
    assert!(!outcome.switched());
    assert_eq!(told(&outcome)[0], ("CONNECT".into(), String::new(), Some(407), Some(0), Some(3)));
    assert_eq!(http(outcome.exchanges()[0]).host, "h:443");
    assert_eq!(outcome.exchanges().len(), 2);
}

#[test]
fn requests_behind_a_switch_are_counted() {
    let talk = Talk::new().request(format!("{GET}{GET}")).response("HTTP/1.1 101 S\r\n\r\n");
    let outcome = play(&talk);
    assert_eq!(outcome.exchanges().len(), 1);
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
}

#[test]
fn a_response_that_nobody_asked_for_is_an_orphan_and_the_next_request_is_told() {
    let talk = Talk::new()
        .request(GET)
        .response(OK_3)
        .response("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        .request(GET)
        .response(OK_3);
    let outcome = play(&talk);
    assert_eq!((outcome.orphans(), outcome.exchanges().len(), outcome.lost().len()), (1, 2, 0));
}

#[rstest]
#[case::binary(b"\x16\x03\x01\x02\x00\x01".as_slice())]
#[case::http_2(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
#[case::ssh(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")]
#[case::redis(b"*1\r\n$4\r\nPING\r\n")]
#[case::word_without_end(&[b'x'; 40])]
#[case::http_0_9(b"GET /\r\n")]
fn what_is_not_http_1_is_unparsable_at_once(#[case] bytes: &[u8]) {
    let talk = Talk::new().request(bytes);
    let whole = play(&talk);
    assert!(whole.unparsable.is_some());
    assert_eq!(whole.begun(), 0);
    assert_eq!(play(&talk.byte_at_a_time()).unparsable, whole.unparsable);
}

#[test]
fn what_was_open_when_it_stopped_making_sense_is_counted() {
    let outcome = play(&Talk::new().request(GET).response("HTTQ/1.1 200 OK\r\n\r\n"));
    assert!(outcome.unparsable.is_some());
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
}

#[rstest]
#[case::at_the_limit(65_536, true)]
#[case::beyond(65_537, false)]
fn a_head_has_its_limit(#[case] length: usize, #[case] parsed: bool) {
    let rest = "GET / HTTP/1.1\r\nx: \r\n\r\n";
    let wire = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(length - rest.len()));
    for talk in [
        Talk::new().request(&wire),
        Talk::new().request(&wire).cut(&[30_000]),
        Talk::new().request(&wire).cut(&[65_534]),
    ] {
        let outcome = play(&talk);
        assert_eq!((outcome.begun() == 1, outcome.unparsable.is_none()), (parsed, parsed));
    }
}

/// One line for one exchange.
fn line(exchange: &Exchange) -> String {
    let Http { method, path, query, status, request_body, response_body, .. } = http(exchange);
    let question = if query.is_empty() { "" } else { "?" };
    let size = |size: &Option<u64>| size.map_or("unknown".to_owned(), |size| size.to_string());
    let (status, sent, received) = (status.unwrap_or(0), size(request_body), size(response_body));
    format!("{method} {path}{question}{query} {status} {sent} {received} {:?}", exchange.end)
}

#[rstest]
#[case::nginx_static("nginx_static", &[
    "GET /a.txt 200 0 3 Complete",
    "HEAD /a.txt 200 0 0 Complete",
    "GET /echo?token=REDACTED&x=REDACTED 200 0 2 Complete",
    "GET /empty 204 0 0 Complete",
    "GET /missing 404 0 153 Complete",
    "GET /a.txt 200 0 3 Complete",
    "GET /gone 301 0 169 Complete",
])]
#[case::nginx_gzip("nginx_gzip", &[
    "GET /page.html 200 0 3116 Complete",
    "GET /page.html 200 0 4053 Complete",
    "GET /a.txt 200 0 23 Complete",
])]
#[case::nginx_pipelined("nginx_pipelined", &[
    "GET /a.txt 200 0 3 Complete",
    "GET /missing 404 0 153 Complete",
    "GET /echo 200 0 2 Complete",
    "GET /empty 204 0 0 Complete",
    "HEAD /a.txt 200 0 0 Complete",
])]
#[case::nginx_until_close("nginx_until_close", &[
    "GET /page.html 200 0 4053 Complete",
])]
#[case::node_stream("node_stream", &[
    "GET /stream 200 0 35 Complete",
    "GET /hints 200 0 6 Complete",
    "POST /x 200 11 6 Complete",
])]
#[case::node_upgrade("node_upgrade", &[
    "GET /ws 101 0 0 Complete",
])]
#[case::node_upload("node_upload", &[
    "PUT /up 200 5407 8 Complete",
    "POST /up2 200 5407 8 Complete",
    "PUT /up3 200 0 5 Complete",
])]
fn real_programs_are_told_as_they_were(#[case] name: &str, #[case] lines: &[&str]) {
    let talk = Talk::recorded("http1", name);
    let outcome = play(&talk);
    assert_eq!(outcome.exchanges().into_iter().map(line).collect::<Vec<_>>(), lines);
    assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

/// Everything at once, without pipelining: the truth that cuts and holes are measured against.
pub fn long_talk() -> Talk {
    Talk::new()
        .request("GET /1?a=b HTTP/1.1\r\nhost: a\r\nuser-agent: t\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n01234567890123456789")
        .request("POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\nexpect: 100-continue\r\n\r\n")
        .response("HTTP/1.1 100 Continue\r\n\r\n")
        .request("012345678901234567890123456789")
        .response("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        .request("HEAD /3 HTTP/1.1\r\nhost: a\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
        .request(
            "PUT /4 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n0\r\n\r\n",
        )
        .response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n")
        .response("14\r\n01234567890123456789\r\n")
        .response("0\r\n\r\n")
        .request("GET /5 HTTP/1.1\r\nhost: a\r\n\r\n")
        .response("HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n")
        .request("GET /6 HTTP/1.1\r\nhost: a\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\n\r\nuntil the end")
        .end(Direction::Response)
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("http1")))]

    #[test]
    fn however_it_is_cut_it_comes_out_the_same(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let talk = long_talk();
        let offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(talk.len())).collect();
        prop_assert_eq!(play(&talk.cut(&offsets)), play(&talk));
    }

    #[test]
    fn any_bytes_keep_the_books(steps in steps(), from_start: bool) {
        talk_of(&steps).play(Box::new(Http1::new(from_start)));
    }

    #[test]
    fn without_holes_the_cuts_make_no_difference(steps in steps()) {
        let heard: Vec<_> = steps.into_iter().filter(|(_, step)| matches!(step, Fragment::Bytes(_))).collect();
        let talk = talk_of(&heard);
        prop_assert_eq!(play(&talk.byte_at_a_time()), play(&talk));
    }
}

fn steps() -> impl Strategy<Value = Vec<(bool, Fragment)>> {
    prop::collection::vec((any::<bool>(), fragment()), 0..30)
}

fn talk_of(steps: &[(bool, Fragment)]) -> Talk {
    steps.iter().fold(Talk::new(), |talk, (request, fragment)| {
        let direction = if *request { Direction::Request } else { Direction::Response };
        match fragment {
            Fragment::Bytes(bytes) => talk.says(direction, bytes),
            Fragment::Gap(missing) => talk.gap(direction, *missing),
            Fragment::End => talk.end(direction),
        }
    })
}

#[derive(Debug, Clone)]
enum Fragment {
    Bytes(Vec<u8>),
    Gap(u64),
    End,
}

/// Pieces of the language, so that arbitrary sequences get past the first line.
fn fragment() -> impl Strategy<Value = Fragment> {
    const WORDS: [&str; 16] = [
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 7\r\n\r\n",
        "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "\r\n",
        "GET / HT",
    ];
    prop_oneof![
        12 => prop::sample::select(WORDS.as_slice()).prop_map(|word| Fragment::Bytes(word.into())),
        2 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Fragment::Bytes),
        4 => (1..60_u64).prop_map(Fragment::Gap),
        1 => (1..1_u64 << 48).prop_map(Fragment::Gap),
        1 => Just(Fragment::End),
    ]
}
