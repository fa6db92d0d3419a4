//! Conversations in HTTP/1: which response answers which request, and how a request without a response ends.

mod chance;
mod kit;

use kit::http1::*;
use kit::{FIRST_NANOS, Talk};
use onlooker_protocols::facts::Http;
use onlooker_protocols::http1::Http1;
use onlooker_protocols::kit::in_order::DEEPEST_PIPELINE;
use onlooker_protocols::{Close, Direction, End, Exchange, Finding, LossReason, Moment};
use proptest::prelude::*;
use rstest::rstest;

#[test]
fn moments_are_those_of_the_pieces_that_hold_the_bytes() {
    let talk = Talk::new()
        .request("\r\n") // passes at 0 ms, begins no request
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
fn an_early_close_is_reported(
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
        talk = talk.end(Direction::ToClient);
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
    let statuses: Vec<_> =
        reported_in_full(&outcome).into_iter().map(|(_, path, status, ..)| (path, status.unwrap())).collect();
    assert_eq!(statuses, [("/1".into(), 200), ("/2".into(), 200), ("/3".into(), 404), ("/4".into(), 200)]);
}

#[test]
fn pipelined_requests_beyond_the_limit_are_counted_and_later_ones_are_reported() {
    let mut talk = Talk::new();
    for _ in 0..DEEPEST_PIPELINE + 6 {
        talk = talk.request(GET);
    }
    for _ in 0..DEEPEST_PIPELINE + 6 {
        talk = talk.response(OK_3);
    }
    let outcome = play(&talk.request("GET /next HTTP/1.1\r\n\r\n").response(OK_3));
    assert_eq!(outcome.lost(), [LossReason::TooManyOpen; 6]);
    assert_eq!(outcome.orphans(), 0);
    assert_eq!(outcome.exchanges().len(), DEEPEST_PIPELINE + 1);
    assert_eq!(http(outcome.exchanges()[DEEPEST_PIPELINE]).path, "/next");
}

#[test]
fn an_early_response_is_reported_at_its_end_and_the_rest_of_the_request_body_is_ignored() {
    let talk = Talk::new()
        .request("POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\n12345")
        .response("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        .request("67890")
        .request(GET)
        .response(OK_3);
    let outcome = play(&talk);
    assert_eq!(outcome, play(&talk.byte_at_a_time()));
    assert_eq!(
        reported_in_full(&outcome),
        [
            ("POST".into(), "/".into(), Some(413), None, Some(0)),
            ("GET".into(), "/".into(), Some(200), Some(0), Some(3)),
        ]
    );
    assert_eq!(outcome.exchanges()[0].end, End::Complete);
}

#[test]
fn the_body_of_a_refused_request_may_be_left_out() {
    let expecting = "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n";
    let refusal = "HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n";
    let left_out = Talk::new().request(expecting).response(refusal).request(GET).response(OK_3);
    assert_eq!(reported_in_full(&play(&left_out)).len(), 2);

    let in_two_writes = Talk::new()
        .request(expecting)
        .response(refusal)
        .request("GET /lo")
        .request("ng HTTP/1.1\r\n\r\n")
        .response(OK_3);
    let outcome = play(&in_two_writes);
    assert_eq!(reported_in_full(&outcome).into_iter().map(|(_, path, ..)| path).collect::<Vec<_>>(), ["/", "/long"]);
    assert_eq!(outcome, play(&in_two_writes.byte_at_a_time()), "differs byte by byte");

    // What looked like a request was the body, and the next request follows it.
    let like_a_request = format!("GET /lo{}", "x".repeat(42)) + "\n";
    let sent_anyway = Talk::new().request(expecting).response(refusal).request("GET /lo");
    let sent_anyway = sent_anyway.request(&like_a_request[7..]).request(GET).response(OK_3);
    let outcome = play(&sent_anyway);
    assert_eq!(reported_in_full(&outcome).len(), 2);
    assert_eq!(outcome, play(&sent_anyway.byte_at_a_time()), "differs byte by byte");

    let sent_anyway =
        Talk::new().request(expecting).response(refusal).request("x".repeat(50)).request(GET).response(OK_3);
    assert_eq!(reported_in_full(&play(&sent_anyway)).len(), 2);
}

#[test]
fn after_100_continue_the_response_follows_the_body() {
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
fn after_a_refused_connect_http_goes_on() {
    let talk = Talk::new()
        .request("CONNECT h:443 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 407 Auth\r\ncontent-length: 3\r\n\r\nabc")
        .request(GET)
        .response(OK_3);
    let outcome = play(&talk);
    assert!(!outcome.switched());
    assert_eq!(reported_in_full(&outcome)[0], ("CONNECT".into(), String::new(), Some(407), Some(0), Some(3)));
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
fn a_response_without_a_request_is_an_orphan_and_the_next_request_is_reported() {
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
fn other_bytes_are_unparsable_at_once(#[case] bytes: &[u8]) {
    let talk = Talk::new().request(bytes);
    let whole = play(&talk);
    assert!(whole.unparsable.is_some());
    assert_eq!(whole.begun(), 0);
    assert_eq!(play(&talk.byte_at_a_time()).unparsable, whole.unparsable);
}

#[test]
fn open_requests_of_an_unparsable_connection_are_counted() {
    let outcome = play(&Talk::new().request(GET).response("HTTQ/1.1 200 OK\r\n\r\n"));
    assert!(outcome.unparsable.is_some());
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
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
fn conversations_of_real_programs_are_reported(#[case] name: &str, #[case] lines: &[&str]) {
    let talk = Talk::recorded("http1", name);
    let outcome = play(&talk);
    assert_eq!(outcome.exchanges().into_iter().map(line).collect::<Vec<_>>(), lines);
    assert_eq!((outcome.orphans(), outcome.lost(), outcome.unparsable), (0, vec![], None));
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

/// Everything together, without pipelining: the truth that cuts and holes are compared with.
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
        .end(Direction::ToClient)
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("http1")))]

    #[test]
    fn every_cut_yields_the_same_findings(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let talk = long_talk();
        let offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(talk.len())).collect();
        prop_assert_eq!(play(&talk.cut(&offsets)), play(&talk));
    }

    #[test]
    fn any_bytes_are_accounted_for(steps in steps(), from_start: bool) {
        talk_of(&steps).play(Box::new(Http1::new(from_start)));
    }

    #[test]
    fn without_holes_cuts_make_no_difference(steps in steps()) {
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
        let direction = if *request { Direction::ToServer } else { Direction::ToClient };
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

/// Pieces of HTTP, so that arbitrary sequences get past the first line.
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
