//! HTTP/1 with holes: what is told is the truth, and what is not told is counted.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::{Outcome, Talk};
use onlooker_protocols::http1::{Http, Http1};
use onlooker_protocols::{Close, Details, Direction, End, Exchange, LossReason, Moment};
use rstest::rstest;

use Direction::{Request, Response};

fn play(talk: &Talk) -> Outcome {
    talk.play(Box::new(Http1::new(true)))
}

fn http(exchange: &Exchange) -> &Http {
    let Details::Http1(http) = &exchange.details else { panic!("not HTTP: {exchange:?}") };
    http
}

/// Path and status of every exchange.
fn told(outcome: &Outcome) -> Vec<(&str, Option<u16>)> {
    outcome.exchanges().into_iter().map(http).map(|http| (&*http.path, http.status)).collect()
}

/// A chunk begins, and what follows hides how it goes on.
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\nabc";
const OK_EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Every way of framing, without pipelining: the truth that holes are measured against.
fn conversation() -> Talk {
    Talk::new()
        .request(get("/1"))
        .response("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n01234567890123456789")
        .request("POST /2 HTTP/1.1\r\ncontent-length: 30\r\nexpect: 100-continue\r\n\r\n")
        .response("HTTP/1.1 100 Continue\r\n\r\n")
        .request("012345678901234567890123456789")
        .response("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        .request("HEAD /3 HTTP/1.1\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
        .request("PUT /4 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n0\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n")
        .response("14\r\n01234567890123456789\r\n")
        .response("0\r\n\r\n")
        .request(get("/5"))
        .response("HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n")
        .request(get("/6"))
        .response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nab\r\n")
        .response("1\r\nc\r\n0\r\nx-sum: 0123456789\r\n\r\n")
        .request(get("/7"))
        .response("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found")
}
const REQUESTS: usize = 7;

/// What a hole may take from an exchange without making it untrue: how much passed, and that more of the request was
/// still to come.
fn without_sizes(exchange: &Exchange) -> Exchange {
    let mut exchange = exchange.clone();
    exchange.request_end = exchange.request_start;
    let Details::Http1(http) = &mut exchange.details else { panic!("not HTTP: {exchange:?}") };
    (http.request_body, http.response_body) = (None, None);
    exchange
}

/// Whatever is told of the conversation is as it was, and how many of its requests are told or counted.
fn assert_true(what: &str, holed: &Outcome, truth: &Outcome) -> usize {
    assert_eq!(holed.unparsable, None, "{what}");
    for exchange in holed.exchanges() {
        let true_one = truth.exchanges().into_iter().find(|whole| whole.request_start == exchange.request_start);
        let true_one = true_one.unwrap_or_else(|| panic!("{what}: nobody asked {exchange:#?}"));
        assert_eq!(without_sizes(exchange), without_sizes(true_one), "{what}");
        assert!(exchange.request_end.position <= true_one.request_end.position, "{what}");
        assert!(exchange.request_end.nanos <= true_one.request_end.nanos, "{what}");
        let (sizes, true_sizes) = (http(exchange), http(true_one));
        assert!(sizes.request_body.is_none_or(|_| sizes.request_body == true_sizes.request_body), "{what}");
        assert!(sizes.response_body.is_none_or(|_| sizes.response_body == true_sizes.response_body), "{what}");
    }
    holed.exchanges().len() + holed.lost().len() + holed.orphans()
}

#[test]
fn with_a_hole_anywhere_all_requests_are_told_truly_or_counted() {
    let truth = play(&conversation());
    assert_eq!(truth.exchanges().len(), REQUESTS);
    for (what, talk) in conversation().gap_everywhere(&[1, 2, 3, 5, 7, 16, 40, 1000]) {
        let holed = play(&talk);
        assert_eq!(assert_true(&what, &holed, &truth), REQUESTS, "{what}: {holed:#?}");
        assert!(
            holed.lost().len() <= 1 && holed.orphans() == 0,
            "{what}: one hole costs one exchange at most: {holed:#?}"
        );
    }
}

#[test]
fn with_a_hole_anywhere_and_byte_by_byte_it_is_the_same() {
    for (what, talk) in conversation().gap_everywhere(&[1, 9]) {
        assert_eq!(play(&talk.byte_at_a_time()), play(&talk), "{what}");
    }
}

#[test]
fn with_two_holes_anywhere_what_is_told_is_true() {
    let (talk, truth) = (conversation(), play(&conversation()));
    for first in (0..talk.len()).step_by(3) {
        let once = talk.with_gap(first, 6);
        for second in (first..once.len()).step_by(5) {
            let what = format!("6 missing at {first}, then 11 at {second}");
            let holed = play(&once.with_gap(second, 11));
            assert_eq!(assert_true(&what, &holed, &truth), REQUESTS, "{what}: {holed:#?}");
        }
    }
}

#[test]
fn captured_as_the_kernel_does_nothing_is_lost_whose_head_was_seen() {
    let truth = play(&conversation());
    for prefix in 0..80 {
        let what = format!("{prefix} captured");
        let holed = play(&conversation().captured(prefix, 16));
        let counted = assert_true(&what, &holed, &truth);
        if prefix >= 60 {
            assert_eq!((counted, holed.lost().len(), holed.orphans()), (REQUESTS, 0, 0), "{what}");
        }
    }
}

/// Whatever part of it the kernel captures, and whichever event is lost.
#[test]
fn of_real_programs_nothing_untrue_is_told() {
    for name in Talk::all_recorded("http1") {
        let talk = Talk::recorded("http1", &name);
        let truth = play(&talk);
        for prefix in [0, 16, 100, 200, 300, 1000] {
            let what = format!("{name}, {prefix} captured");
            assert_true(&what, &play(&talk.captured(prefix, 16)), &truth);
        }
        for (what, talk) in talk.loss_everywhere() {
            assert_true(&format!("{name}, {what}"), &play(&talk), &truth);
        }
    }
}

#[test]
fn a_body_of_any_size_is_stepped_over() {
    const SIZE: u64 = 1 << 40;
    let talk = Talk::new()
        .request(format!("PUT / HTTP/1.1\r\ncontent-length: {SIZE}\r\n\r\n"))
        .gap(Request, SIZE)
        .response(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
        .gap(Response, SIZE - 5)
        .gap(Response, 5)
        .request(get("/next"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    let [big, next] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((http(big).request_body, http(big).response_body), (Some(SIZE), Some(SIZE)));
    assert_eq!(http(next).path, "/next");
}

#[test]
fn a_hole_over_the_end_of_a_body_ends_it_exactly_where_it_ends() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let talk = Talk::new().request(get("/1")).response(head).gap(Response, 130).request(get("/2")).response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/2", Some(200))]);
    assert_eq!(outcome.exchanges()[0].response_end.unwrap().position, head.len() as u64 + 100);
}

#[rstest]
#[case::in_one_write("\r\n0\r\n\r\n")]
#[case::on_its_own("0\r\n\r\n")]
#[case::bare_line_feeds("\n0\n\n")]
fn a_chunked_body_of_lost_framing_ends_at_the_tail_that_shows_it(#[case] tail: &str) {
    let talk = Talk::new()
        .request(get("/1"))
        .response(CHUNKED)
        .gap(Response, 9000)
        .response("10\r\n\r\n") // the end of a chunk of text, not of the body
        .gap(Response, 9000)
        .response(tail)
        .closes(Close::Aged);
    let exchanges = play(&talk);
    let [exchange] = exchanges.exchanges()[..] else { panic!("{exchanges:?}") };
    assert_eq!((exchange.end, http(exchange).response_body), (End::Complete, None));
    let Some(Moment { position, .. }) = exchange.response_end else { panic!("{exchange:?}") };
    assert_eq!(position as usize, CHUNKED.len() + 9000 + "10\r\n\r\n".len() + 9000 + tail.len());
}

#[test]
fn an_end_that_was_none_is_taken_back_while_the_run_goes_on() {
    let put = "PUT /1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1000\r\nabc";
    let (looks_like_it, rest) = ("data ends in a line\r\n0\r\n\r\n", "10\r\n0123456789abcdef\r\n0\r\n\r\n");
    let talk = Talk::new()
        .request(put)
        .gap(Request, 9000)
        .request(looks_like_it)
        .request(rest)
        .response(CHUNKED)
        .gap(Response, 9000)
        .response(looks_like_it)
        .response(rest)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/2", Some(200))]);
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
        .gap(Response, 9000)
        .request(get("/2"))
        .closes(Close::Error(104));
    let outcome = play(&talk);
    let [first, second] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((first.end, first.response_end.unwrap().position), (End::Complete, CHUNKED.len() as u64 + 9000));
    assert!(matches!(second.end, End::Closed(Close::Error(104), _)));
}

#[test]
fn an_end_that_would_have_been_seen_and_was_not_passed_at_a_time_unknown() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(CHUNKED)
        .gap(Response, 9000)
        .response("not the end")
        .lost(Response, "0\r\n\r\n")
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/2", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[test]
fn a_pipelining_client_proves_no_end_by_going_on() {
    let talk = Talk::new()
        .request(format!("{}{}", get("/1"), get("/2")))
        .response(format!("{OK_EMPTY}{CHUNKED}"))
        .gap(Response, 9000)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[rstest]
#[case::hole_last("", Some(LossReason::ResponseMissing))]
#[case::more_seen("and more of it", None)]
fn at_a_close_a_hidden_end_is_not_guessed(#[case] last: &str, #[case] lost: Option<LossReason>) {
    let talk = Talk::new().request(get("/1")).response(CHUNKED).gap(Response, 9000).response(last);
    let outcome = play(&talk);
    assert_eq!(outcome.lost(), Vec::from_iter(lost));
    assert_eq!(
        outcome.exchanges().first().map(|e| matches!(e.end, End::Closed(Close::Normal, _))),
        lost.is_none().then_some(true)
    );
}

#[test]
fn a_response_head_that_is_cut_off_after_its_status_is_told() {
    let talk = Talk::new()
        .request(get("/1"))
        .response("HTTP/1.1 503 Busy\r\nset-cookie: abc")
        .gap(Response, 4000)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(503)), ("/2", Some(200))]);
    assert_eq!(http(outcome.exchanges()[0]).response_body, None);
}

#[rstest]
#[case::all_of_its_length(8000, true)]
#[case::less_than_its_length(4999, false)]
fn a_response_head_that_is_cut_off_after_its_length_is_told_when_all_of_it_passed(
    #[case] missing: u64,
    #[case] is_told: bool,
) {
    let talk = Talk::new()
        .request(get("/1"))
        .response("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\nset-cookie: abc")
        .gap(Response, missing)
        .request(get("/2"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    let sizes: Vec<_> = outcome.exchanges().into_iter().map(|exchange| http(exchange).response_body).collect();
    assert_eq!(sizes, if is_told { vec![Some(5000), Some(0)] } else { vec![Some(0)] });
}

/// A head longer than what is captured, and the end of the connection.
#[rstest]
#[case::all_of_its_length("content-length: 5000\r\n", 8000, Ok((true, Some(5000))))]
#[case::less_than_its_length("content-length: 5000\r\n", 4999, Ok((false, None)))]
#[case::no_length("x: y\r\n", 8000, Ok((true, None)))]
#[case::lengths_that_differ("content-length: 1\r\ncontent-length: 2\r\n", 8000, Ok((true, None)))]
// Where chunks end, a server that fails closes the connection in order.
#[case::chunked("transfer-encoding: chunked\r\n", 8000, Err(LossReason::ResponseMissing))]
fn a_response_head_that_is_cut_off_ends_with_the_connection(
    #[case] field: &str,
    #[case] missing: u64,
    #[case] told: Result<(bool, Option<u64>), LossReason>,
) {
    let seen = format!("HTTP/1.1 200 OK\r\n{field}set-cookie: abc");
    let talk = Talk::new().request(get("/1")).response(&seen).gap(Response, missing);
    let outcome = play(&talk.clone().end(Response));
    let exchange = outcome.exchanges().first().map(|exchange| {
        assert_eq!(exchange.response_end.unwrap().position, seen.len() as u64 + missing);
        (exchange.end == End::Complete, http(exchange).response_body)
    });
    assert_eq!(exchange.ok_or_else(|| outcome.lost()[0]), told);
    // Without its end in order, a response that may have come to its end is not guessed about.
    let outcome = play(&talk);
    let cut_off = outcome.exchanges().first().map(|exchange| exchange.end != End::Complete);
    assert_eq!(cut_off, (told == Ok((false, None))).then_some(true), "{outcome:?}");
}

#[test]
fn where_another_request_is_open_a_head_that_is_cut_off_does_not_end_with_the_connection() {
    let talk = Talk::new()
        .request([get("/1"), get("/2")].concat())
        .response("HTTP/1.1 200 OK\r\ncontent-length: 50\r\nset-cookie: abc")
        .gap(Response, 8000)
        .end(Response);
    assert_eq!(play(&talk).lost(), [LossReason::ResponseMissing; 2]);
}

#[test]
fn a_switch_is_seen_in_a_head_that_is_cut_off() {
    let talk = Talk::new()
        .request("GET /ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n")
        .response("HTTP/1.1 101 Switching Protocols\r\nconn")
        .gap(Response, 100)
        .response("\u{1}");
    let outcome = play(&talk);
    assert!(outcome.switched());
    assert_eq!(told(&outcome), [("/ws", Some(101))]);
}

#[test]
fn with_the_event_of_any_operation_lost_what_is_told_is_true() {
    let truth = play(&conversation());
    for (what, talk) in conversation().loss_everywhere() {
        let holed = play(&talk);
        assert_eq!(assert_true(&what, &holed, &truth), REQUESTS, "{what}: {holed:#?}");
    }
}

#[test]
fn a_lost_request_may_be_of_the_same_run_as_the_one_behind_it() {
    let of_length =
        |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
    let talk = Talk::new()
        .request(get("/1"))
        .response(of_length(1))
        .request(get("/2"))
        .request(get("/3"))
        .request(get("/4"))
        .response(of_length(2))
        .response([of_length(3), of_length(4)].concat())
        .request(get("/5"))
        .request(get("/6"))
        .response([of_length(5), of_length(6)].concat())
        .request(get("/7"))
        .response(of_length(7));
    let truth = play(&talk);
    assert_eq!(truth.exchanges().len(), 7);
    for (what, talk) in talk.loss_everywhere() {
        let holed = play(&talk);
        assert_true(&what, &holed, &truth);
        assert!(!holed.exchanges().is_empty(), "{what}: {holed:#?}");
    }
}

/// One thread writes, another reads: what it read may be recorded before the send has returned.
#[test]
fn an_answer_that_was_recorded_before_its_request_answers_it_and_a_hole_makes_nothing_untrue() {
    let talk = Talk::new()
        .request(get("/1"))
        .overtaking_response("HTTP/1.1 201 Created\r\ncontent-length: 20\r\n\r\n01234567890123456789")
        .request(get("/2"))
        .overtaking_response("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
        .request([get("/3"), get("/4")].concat())
        .overtaking_response("HTTP/1.1 203 Other\r\ncontent-length: 3\r\n\r\nabc")
        .response("HTTP/1.1 204 No Content\r\n\r\n")
        .request(get("/5"))
        .response("HTTP/1.1 205 Reset\r\ncontent-length: 0\r\n\r\n");
    let truth = play(&talk);
    let statuses: Vec<_> = told(&truth).into_iter().map(|(_, status)| status.unwrap()).collect();
    assert_eq!((statuses, truth.orphans()), (vec![201, 202, 203, 204, 205], 0));
    assert_eq!(play(&talk.byte_at_a_time()), truth);
    for prefix in [16, 20, 60] {
        assert_true(&format!("{prefix} captured"), &play(&talk.captured(prefix, 16)), &truth);
    }
    for (what, talk) in talk.gap_everywhere(&[1, 5, 16, 40, 1000]).chain(talk.loss_everywhere()) {
        assert_true(&what, &play(&talk), &truth);
    }
}

#[test]
fn a_lost_response_loses_its_request_only() {
    let talk = Talk::new().request(get("/1")).lost(Response, OK_EMPTY).request(get("/2")).response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/2", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[test]
fn a_lost_request_is_counted_once_if_its_response_is_seen() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(OK_EMPTY)
        .lost(Request, get("/2"))
        .response(OK_EMPTY)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost().len()), (1, 0));
}

#[test]
fn a_lost_exchange_is_counted_once() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(OK_EMPTY)
        .lost(Request, get("/2"))
        .lost(Response, OK_EMPTY)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![LossReason::RequestHeadMissing]));
}

#[test]
fn of_pipelined_requests_none_is_guessed_after_a_lost_response() {
    let talk = Talk::new()
        .request([get("/1"), get("/2"), get("/3")].concat())
        .response(OK_EMPTY)
        .lost(Response, OK_EMPTY)
        .response(OK_EMPTY)
        .request(get("/4"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(told(&outcome), [("/1", Some(200)), ("/4", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

/// The agent came when the connection was in use already.
mod from_the_middle {
    use super::*;

    fn play(talk: &Talk) -> Outcome {
        talk.play(Box::new(Http1::new(false)))
    }

    const BOTH: &[&str] = &["/1", "/2"];

    #[rstest]
    #[case::before_a_request(Talk::new(), 0, BOTH)]
    #[case::before_a_response(Talk::new().response(OK_EMPTY), 1, BOTH)]
    #[case::within_a_response_body(Talk::new().response("rest").gap(Response, 5000).response("end"), 0, BOTH)]
    #[case::within_a_response_head(Talk::new().response("TTP/1.1 200 OK\r\n\r\n"), 0, BOTH)]
    #[case::within_a_request_body(Talk::new().request("rest GET / HTTP/1.1\r\n\r\n").response(OK_EMPTY), 1, BOTH)]
    // That the request begins there can't be known: it could be text in a body.
    #[case::within_a_run(Talk::new().gap(Request, 70), 1, &["/2"])]
    fn what_begins_later_is_told(#[case] before: Talk, #[case] orphans: usize, #[case] paths: &[&str]) {
        let talk = before.request(get("/1")).response(OK_EMPTY).request(get("/2")).response(OK_EMPTY);
        for talk in [talk.clone(), talk.byte_at_a_time()] {
            let outcome = play(&talk);
            assert_eq!((outcome.orphans(), outcome.lost().len()), (orphans, 0), "{outcome:?}");
            assert_eq!(told(&outcome), paths.iter().map(|&path| (path, Some(200))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_orphans_body_is_not_taken_for_more_than_it_is() {
        // It answered a HEAD request: its length is not that of a body.
        let talk = Talk::new()
            .response("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
            .request(get("/1"))
            .response(OK_EMPTY);
        let outcome = play(&talk);
        assert_eq!(told(&outcome), [("/1", Some(200))]);
        assert_eq!(outcome.orphans(), 1);
    }

    #[test]
    fn a_request_that_is_not_answered_is_told_as_closed() {
        let outcome = play(&Talk::new().request(get("/1")).closes(Close::Error(104)));
        let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
        assert!(matches!(exchange.end, End::Closed(Close::Error(104), _)));
    }

    #[test]
    fn what_is_heard_unread_may_have_been_the_answer() {
        let outcome = play(&Talk::new().request(get("/1")).gap(Response, 100).closes(Close::Error(104)));
        assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
    }
}
