//! HTTP/1 with holes: whatever is reported is true, and everything else is counted.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::http1::*;
use kit::{Outcome, Talk};
use onlooker_protocols::Direction::{ToClient, ToServer};
use onlooker_protocols::http1::Http1;
use onlooker_protocols::{Close, End, Exchange, Facts, LossReason};
use rstest::rstest;

/// Every way of framing, without pipelining: the truth that conversations with holes are compared with.
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

/// Removes what a hole may hide without making the exchange untrue: sizes, and a later end of the request. The end of the
/// response is compared apart.
fn without_sizes(exchange: &Exchange) -> Exchange {
    let mut exchange = exchange.clone();
    exchange.request_end = exchange.request_start;
    (exchange.response_end, exchange.end) = (None, End::Complete);
    let Facts::Http(http) = &mut exchange.facts else { panic!("not HTTP: {exchange:?}") };
    (http.request_body, http.response_body) = (None, None);
    exchange
}

/// Asserts that every reported exchange is true. Returns the number of requests that were reported or counted.
fn assert_true(what: &str, holed: &Outcome, truth: &Outcome) -> usize {
    assert_eq!(holed.unparsable, None, "{what}");
    for exchange in holed.exchanges() {
        let true_one = truth.exchanges().into_iter().find(|whole| whole.request_start == exchange.request_start);
        let true_one = true_one.unwrap_or_else(|| panic!("{what}: no such request: {exchange:#?}"));
        assert_eq!(without_sizes(exchange), without_sizes(true_one), "{what}");
        kit::assert_same_end(what, exchange, true_one);
        assert!(exchange.request_end.position <= true_one.request_end.position, "{what}");
        assert!(exchange.request_end.nanos <= true_one.request_end.nanos, "{what}");
        let (sizes, true_sizes) = (http(exchange), http(true_one));
        assert!(sizes.request_body.is_none_or(|_| sizes.request_body == true_sizes.request_body), "{what}");
        assert!(sizes.response_body.is_none_or(|_| sizes.response_body == true_sizes.response_body), "{what}");
    }
    holed.exchanges().len() + holed.lost().len() + holed.orphans()
}

#[test]
fn with_any_hole_every_request_is_reported_truly_or_counted() {
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
fn with_any_hole_the_result_is_the_same_byte_by_byte() {
    for (what, talk) in conversation().gap_everywhere(&[1, 9]) {
        assert_eq!(play(&talk.byte_at_a_time()), play(&talk), "{what}");
    }
}

#[test]
fn with_any_two_holes_every_report_is_true() {
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
fn no_request_with_a_captured_head_is_lost() {
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

/// With any part captured by the kernel, and any record lost.
#[test]
fn every_report_about_real_programs_is_true() {
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
        .gap(ToServer, SIZE)
        .response(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
        .gap(ToClient, SIZE - 5)
        .gap(ToClient, 5)
        .request(get("/next"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    let [big, next] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    assert_eq!((http(big).request_body, http(big).response_body), (Some(SIZE), Some(SIZE)));
    assert_eq!(http(next).path, "/next");
}

#[test]
fn a_hole_over_the_end_of_a_body_ends_it_exactly() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let talk = Talk::new().request(get("/1")).response(head).gap(ToClient, 130).request(get("/2")).response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/2", Some(200))]);
    assert_eq!(outcome.exchanges()[0].response_end.unwrap().position, head.len() as u64 + 100);
}

#[test]
fn with_any_record_lost_every_report_is_true() {
    let truth = play(&conversation());
    for (what, talk) in conversation().loss_everywhere() {
        let holed = play(&talk);
        assert_eq!(assert_true(&what, &holed, &truth), REQUESTS, "{what}: {holed:#?}");
    }
}

#[rstest]
fn adjacent_events_that_are_lost_make_nothing_untrue(#[values(2, 3, 4, 5)] count: usize) {
    let recorded = Talk::all_recorded("http1").into_iter().map(|name| (Talk::recorded("http1", &name), name));
    for (talk, name) in recorded.chain([(conversation(), "conversation".to_owned())]) {
        let truth = play(&talk);
        for (what, talk) in talk.losses_everywhere(count) {
            assert_true(&format!("{name}, {what}"), &play(&talk), &truth);
        }
    }
}

#[test]
fn events_that_are_lost_at_random_make_nothing_untrue() {
    for name in Talk::all_recorded("http1") {
        let talk = Talk::recorded("http1", &name);
        let truth = play(&talk);
        for (what, talk) in talk.losses_at_random(12, 100).chain(talk.losses_at_random(4, 100)) {
            assert_true(&format!("{name}, {what}"), &play(&talk), &truth);
        }
    }
}

#[test]
fn a_response_two_runs_later_answers_a_request_that_was_not_seen() {
    let talk = Talk::new()
        .request(get("/1"))
        .lost(ToClient, OK_EMPTY)
        .lost(ToServer, get("/2"))
        .response("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n")
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/3", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost()), (1, vec![LossReason::ResponseMissing]));
}

#[test]
fn a_lost_request_may_share_a_run_with_the_next() {
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

/// One thread writes and another reads: the response may be recorded before the send of its request returns.
#[test]
fn a_response_recorded_before_its_request_answers_it_with_and_without_holes() {
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
    let statuses: Vec<_> = reported(&truth).into_iter().map(|(_, status)| status.unwrap()).collect();
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
fn a_lost_response_loses_only_its_request() {
    let talk = Talk::new().request(get("/1")).lost(ToClient, OK_EMPTY).request(get("/2")).response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/2", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
}

#[test]
fn a_lost_request_is_counted_once_if_its_response_is_seen() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(OK_EMPTY)
        .lost(ToServer, get("/2"))
        .response(OK_EMPTY)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost().len()), (1, 0));
}

#[test]
fn a_lost_exchange_is_counted_once() {
    let talk = Talk::new()
        .request(get("/1"))
        .response(OK_EMPTY)
        .lost(ToServer, get("/2"))
        .lost(ToClient, OK_EMPTY)
        .request(get("/3"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/3", Some(200))]);
    assert_eq!((outcome.orphans(), outcome.lost()), (0, vec![LossReason::RequestHeadMissing]));
}

#[test]
fn after_a_lost_response_no_pipelined_request_is_reported() {
    let talk = Talk::new()
        .request([get("/1"), get("/2"), get("/3")].concat())
        .response(OK_EMPTY)
        .lost(ToClient, OK_EMPTY)
        .response(OK_EMPTY)
        .request(get("/4"))
        .response(OK_EMPTY);
    let outcome = play(&talk);
    assert_eq!(reported(&outcome), [("/1", Some(200)), ("/4", Some(200))]);
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
}

/// The agent came when the connection was already in use.
mod from_the_middle {
    use super::*;

    fn play(talk: &Talk) -> Outcome {
        talk.play(Box::new(Http1::new(false)))
    }

    const BOTH: &[&str] = &["/1", "/2"];

    #[rstest]
    #[case::before_a_request(Talk::new(), 0, BOTH)]
    #[case::before_a_response(Talk::new().response(OK_EMPTY), 1, BOTH)]
    #[case::within_a_response_body(Talk::new().response("rest").gap(ToClient, 5000).response("end"), 0, BOTH)]
    #[case::within_a_response_head(Talk::new().response("TTP/1.1 200 OK\r\n\r\n"), 0, BOTH)]
    #[case::within_a_request_body(Talk::new().request("rest GET / HTTP/1.1\r\n\r\n").response(OK_EMPTY), 1, BOTH)]
    // Whether a request begins there is unknown: the text could be part of a body.
    #[case::within_a_run(Talk::new().gap(ToServer, 70), 1, &["/2"])]
    fn later_requests_are_reported(#[case] before: Talk, #[case] orphans: usize, #[case] paths: &[&str]) {
        let talk = before.request(get("/1")).response(OK_EMPTY).request(get("/2")).response(OK_EMPTY);
        for talk in [talk.clone(), talk.byte_at_a_time()] {
            let outcome = play(&talk);
            assert_eq!((outcome.orphans(), outcome.lost().len()), (orphans, 0), "{outcome:?}");
            assert_eq!(reported(&outcome), paths.iter().map(|&path| (path, Some(200))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_orphans_length_is_not_trusted() {
        // It answers a HEAD request, so that no body follows.
        let talk = Talk::new()
            .response("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
            .request(get("/1"))
            .response(OK_EMPTY);
        let outcome = play(&talk);
        assert_eq!(reported(&outcome), [("/1", Some(200))]);
        assert_eq!(outcome.orphans(), 1);
    }

    #[test]
    fn an_unanswered_request_is_reported_as_closed() {
        let outcome = play(&Talk::new().request(get("/1")).closes(Close::Error(104)));
        let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
        assert!(matches!(exchange.end, End::Closed(Close::Error(104), _)));
    }

    #[test]
    fn bytes_that_were_not_captured_may_have_been_the_response() {
        let outcome = play(&Talk::new().request(get("/1")).gap(ToClient, 100).closes(Close::Error(104)));
        assert_eq!(outcome.lost(), [LossReason::ResponseMissing]);
    }
}

/// The response was under way when its request was given up. Another request is first when more of it comes.
#[test]
fn the_rest_of_a_response_to_an_aged_request_belongs_to_no_other() {
    let talk = Talk::new()
        .request("GET /a.txt HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .response("HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 12")
        .gap(ToClient, 158)
        .response("es: bytes\r\n\r\nhi\n")
        .request("HEAD /a.txt HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: curl")
        .age()
        .request("\nAccept: */*\r\n\r\n")
        .response("HTTP/1.1 2&0 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21=Nov 2026 12")
        .gap(ToClient, 155)
        .response("anges: bytes\r\n\r\n")
        .request("GET /echo?token=secret&x=1 HTTP/1.1\r\nHost: shop.te: Sat, ")
        .lost(ToServer, [0; 1000])
        .lost(ToClient, [0; 1000])
        .gap(ToClient, 30)
        .response(": keep-alive\r\n\r\n")
        .request("GET /missing HTTP/1.1\r\nHost: shop.td Permanently\r\nServer: nginx/1.")
        .lost(ToServer, [0; 1000])
        .gap(ToServer, 1000)
        .response("e: Sat,</body>\r\n</html>\r\n");
    // Playing it checks that no response ends that never began.
    talk.play(Box::new(Http1::new(true)));
}
