//! HTTP/1 messages whose end lies in a hole: when it is recognised, and when it stays unknown.

mod kit;

use kit::Talk;
use kit::http1::*;
use onlooker_protocols::Direction::{ToClient, ToServer};
use onlooker_protocols::http1::Http1;
use onlooker_protocols::{Close, End, Finding, LossReason, Moment, Parser};
use rstest::rstest;

#[rstest]
#[case::in_one_write("\r\n0\r\n\r\n")]
#[case::on_its_own("0\r\n\r\n")]
#[case::bare_line_feeds("\n0\n\n")]
fn a_chunked_body_of_lost_framing_ends_at_a_tail_that_looks_like_an_end(#[case] tail: &str) {
    let talk = Talk::new()
        .request(get("/1"))
        .response(CHUNKED)
        .gap(ToClient, 9000)
        .response("10\r\n\r\n") // the end of a chunk of text, not of the body
        .gap(ToClient, 9000)
        .response(tail)
        .closes(Close::Aged);
    let exchanges = play(&talk);
    let [exchange] = exchanges.exchanges()[..] else { panic!("{exchanges:?}") };
    assert_eq!((exchange.end, http(exchange).response_body), (End::Complete, None));
    let Some(Moment { position, .. }) = exchange.response_end else { panic!("{exchange:?}") };
    assert_eq!(position as usize, CHUNKED.len() + 9000 + "10\r\n\r\n".len() + 9000 + tail.len());
}

#[test]
fn a_supposed_end_is_withdrawn_while_the_run_goes_on() {
    let put = "PUT /1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1000\r\nabc";
    let (looks_like_it, rest) = ("data ends in a line\r\n0\r\n\r\n", "10\r\n0123456789abcdef\r\n0\r\n\r\n");
    let talk = Talk::new()
        .request(put)
        .gap(ToServer, 9000)
        .request(looks_like_it)
        .request(rest)
        .response(CHUNKED)
        .gap(ToClient, 9000)
        .response(looks_like_it)
        .response(rest)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/2", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![]));
    let sent = put.len() + 9000 + looks_like_it.len() + rest.len();
    assert_eq!(outcome.exchanges()[0].request_end.position, sent as u64);
    assert_eq!(play(&talk.byte_at_a_time()), outcome);
}

#[test]
fn a_response_of_lost_framing_ends_at_the_latest_when_the_next_request_begins() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(CHUNKED)
        .gap(ToClient, 9000)
        .request(get("/2"))
        .closes(Close::Error(104));
    let outcome = play(&talk);
    let [first, second] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((first.end, first.response_end.unwrap().position), (End::Complete, CHUNKED.len() as u64 + 9000));
    assert!(matches!(second.end, End::Closed(Close::Error(104), _)));
}

/// Splice out of a socket looks like a lost record: only positions show it. The earliest time is that of the bytes before.
#[test]
fn a_body_that_passed_unseen_ends_at_its_length() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
    let begin = Talk::new().request(get("/1")).response(head).lost(ToClient, [b'x'; 9000]);
    let goes_on = begin.clone().request(get("/2")).response(OK_EMPTY);
    assert_eq!(reported(&play(&goes_on)), [("/1", Some(200)), ("/2", Some(200))]);
    for talk in [goes_on, begin.clone(), begin.clone().end(ToClient), begin.closes(Close::Error(104))] {
        let outcome = play(&talk);
        let exchange = outcome.exchanges()[0];
        let [Some(start), Some(end)] = [exchange.response_start, exchange.response_end] else { panic!("{outcome:?}") };
        assert_eq!((end.position, end.nanos), (head.len() as u64 + 9000, start.nanos));
        assert_eq!((exchange.end, http(exchange).response_body), (End::Unseen, Some(9000)));
        assert_eq!(outcome.lost(), []);
    }
}

#[test]
fn a_body_of_which_too_little_passed_unseen_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
    let talk = Talk::new().request(get("/1")).response(head).lost(ToClient, [b'x'; 8999]).end(ToClient);
    let outcome = play(&talk);
    assert!(outcome.exchanges().iter().all(|exchange| matches!(exchange.end, End::Closed(Close::Normal, _))));
}

#[test]
fn a_body_that_ends_with_the_connection_and_passed_unseen_ends_at_its_last_byte() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let talk = Talk::new().request(get("/1")).response(head).lost(ToClient, [b'x'; 9000]);
    let outcome = play(&talk.clone().end(ToClient));
    let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((exchange.end, http(exchange).response_body), (End::Unseen, Some(9000)));
    assert_eq!(exchange.response_end.unwrap().position, head.len() as u64 + 9000);
    // Without the server's end, the rest may be missing.
    let outcome = play(&talk);
    assert!(outcome.exchanges().iter().all(|exchange| exchange.end != End::Unseen), "{outcome:?}");
}

#[test]
fn a_request_whose_body_passed_unseen_has_its_response() {
    let put = "PUT /1 HTTP/1.1\r\ncontent-length: 9000\r\n\r\n";
    let talk = Talk::new().request(put).lost(ToServer, [b'x'; 9000]).response(OK_EMPTY);
    let talk = talk.request(get("/2")).response(OK_EMPTY);
    assert_eq!(reported(&play(&talk)), [("/1", Some(200)), ("/2", Some(200))]);
}

#[test]
fn an_end_that_was_not_seen_has_no_time() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(CHUNKED)
        .gap(ToClient, 9000)
        .response("not the end")
        .lost(ToClient, "0\r\n\r\n")
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/2", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[test]
fn a_pipelining_clients_next_request_proves_no_end() {
    let talk = Talk::new()
        .request(format!("{}{}", get("/1"), get("/2")))
        .response(format!("{OK_EMPTY}{CHUNKED}"))
        .gap(ToClient, 9000)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[rstest]
#[case::hole_last("", Some(LossReason::ResponseMissing))]
#[case::more_seen("and more of it", None)]
fn a_close_does_not_prove_a_hidden_end(#[case] last: &str, #[case] lost: Option<LossReason>) {
    let talk = Talk::new().request(get("/1")).response(CHUNKED).gap(ToClient, 9000).response(last);
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), Vec::from_iter(lost));
    assert_eq!(
        outcome.exchanges().first().map(|e| matches!(e.end, End::Closed(Close::Normal, _))),
        lost.is_none().then_some(true)
    );
}

#[test]
fn a_response_head_that_is_cut_after_its_status_is_reported() {
    let talk = Talk::new()
        .request(get("/1"))
        .response("HTTP/1.1 503 Busy\r\nset-cookie: abc")
        .gap(ToClient, 4000)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(503)), ("/2", Some(200))]);
    assert_eq!(http(outcome.exchanges()[0]).response_body, None);
}

#[rstest]
#[case::all_of_its_length(8000, true)]
#[case::less_than_its_length(4999, false)]
fn a_response_head_that_is_cut_after_its_length_is_reported_when_the_whole_response_has_passed(
    #[case] missing: u64,
    #[case] is_told: bool,
) {
    let talk = Talk::new()
        .request(get("/1"))
        .response("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\nset-cookie: abc")
        .gap(ToClient, missing)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    let sizes: Vec<_> = outcome.exchanges().into_iter().map(|exchange| http(exchange).response_body).collect();
    assert_eq!(sizes, if is_told { vec![Some(5000), Some(0)] } else { vec![Some(0)] });
}

/// A head that is longer than the capture, followed by the end of the connection.
#[rstest]
#[case::all_of_its_length("content-length: 5000\r\n", 8000, Ok((true, Some(5000))))]
#[case::less_than_its_length("content-length: 5000\r\n", 4999, Ok((false, None)))]
#[case::no_length("x: y\r\n", 8000, Ok((true, None)))]
#[case::lengths_that_differ("content-length: 1\r\ncontent-length: 2\r\n", 8000, Ok((true, None)))]
// A server that fails within a chunked body closes the connection in order, too.
#[case::chunked("transfer-encoding: chunked\r\n", 8000, Err(LossReason::ResponseMissing))]
fn a_response_whose_head_is_cut_ends_with_the_connection(
    #[case] field: &str,
    #[case] missing: u64,
    #[case] reported: Result<(bool, Option<u64>), LossReason>,
) {
    let seen = format!("HTTP/1.1 200 OK\r\n{field}set-cookie: abc");
    let talk = Talk::new().request(get("/1")).response(&seen).gap(ToClient, missing);
    let outcome = play(&talk.clone().end(ToClient));
    let exchange = outcome.exchanges().first().map(|exchange| {
        assert_eq!(exchange.response_end.unwrap().position, seen.len() as u64 + missing);
        (exchange.end == End::Complete, http(exchange).response_body)
    });
    assert_eq!(exchange.ok_or_else(|| outcome.lost()[0]), reported);
    // Unless the direction ended in order, the response may or may not be complete.
    let outcome = play(&talk);
    let cut_off = outcome.exchanges().first().map(|exchange| exchange.end != End::Complete);
    assert_eq!(cut_off, (reported == Ok((false, None))).then_some(true), "{outcome:?}");
}

#[test]
fn a_response_whose_head_is_cut_does_not_end_with_the_connection_if_another_request_is_open() {
    let talk = Talk::new()
        .request([get("/1"), get("/2")].concat())
        .response("HTTP/1.1 200 OK\r\ncontent-length: 50\r\nset-cookie: abc")
        .gap(ToClient, 8000)
        .end(ToClient);
    assert_eq!(play(&talk).lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn a_switch_is_recognised_in_a_cut_head() {
    let talk = Talk::new()
        .request("GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n")
        .response("HTTP/1.1 101 Switching Protocols\r\nconn")
        .gap(ToClient, 100)
        .response("\u{1}");
    let outcome = play(&talk);
    assert!(outcome.switched());
    assert_eq!(reported(&outcome), [("/ws", Some(101))]);
}

#[test]
fn a_response_whose_end_was_not_captured_is_reported_when_nothing_follows_it() {
    let mut parser = Http1::new(true);
    let mut found = Vec::new();
    let asked = Moment { nanos: 1, position: 0, run: 0 };
    let answered = Moment { nanos: 5, position: 0, run: 1 };
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    parser.bytes(ToServer, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", asked, &mut found).unwrap();
    parser.bytes(ToClient, head, answered, &mut found).unwrap();
    // The hole may be the end of the operation, or what a lost record hides.
    parser.gap(ToClient, 100, answered.advanced(head.len() as u64), &mut found).unwrap();
    assert_eq!(parser.open(), 1);

    parser.pass_time(u64::MAX, &mut found);
    let Some(Finding::Exchange(exchange)) = found.last() else { panic!("no exchange: {found:?}") };
    assert_eq!((exchange.response_end.map(|end| end.nanos), exchange.end), (Some(5), End::Complete));
    assert_eq!(parser.open(), 0);
}
