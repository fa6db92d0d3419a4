//! HTTP/1 as RFC 9110 and RFC 9112 define it.

mod kit;

use kit::Talk;
use kit::http1::*;
use onlooker_protocols::{Close, Direction, End, Finding};
use rstest::rstest;

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
    // If the next response is parsed, the end of this one was found exactly.
    let talk = Talk::new()
        .request(GET)
        .response(wire)
        .request("HEAD /2 HTTP/1.1\r\n\r\n")
        .response(OK_3.split("abc").next().unwrap());
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()), "differs byte by byte");
    assert_eq!(
        reported_in_full(&outcome),
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
        let talk = if end { talk.end(Direction::ToClient) } else { talk };
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
    let talk = Talk::new().request(GET).response("HTTP/1.0 200 OK\r\n\r\npart").end(Direction::ToServer);
    let exchange = only_exchange(&talk);
    assert!(matches!(exchange.end, End::Closed(Close::Normal, _)), "{exchange:?}");
}

#[test]
fn a_response_without_a_length_ends_at_the_latest_when_the_next_request_is_answered() {
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
fn a_target_is_split(
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
fn a_long_value_is_cut_and_the_cut_is_marked() {
    let path = "/".repeat(60_000);
    let exchange = only_exchange(&Talk::new().request(format!("GET {path} HTTP/1.1\r\n\r\n")).response(OK_3));
    assert_eq!(http(&exchange).path, format!("{}…", "/".repeat(2048)));
}

#[test]
fn fields_that_connect_requests_are_found() {
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
    assert_eq!(http(exchange).user_agent, "curl/8");
}

#[rstest]
#[case::at_the_limit(65_536, true)]
#[case::beyond(65_537, false)]
fn a_head_has_a_limit(#[case] length: usize, #[case] parsed: bool) {
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
