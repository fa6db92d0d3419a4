//! What the model allows, shown with a protocol that exists only for tests: concurrent requests, requests of either end,
//! datagrams.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod chance;
mod kit;

use kit::{Outcome, Talk, parser};
use onlooker_protocols::detect::{Guess, Sample, detect};
use onlooker_protocols::testing::{DATAGRAM, STREAM, message};
use onlooker_protocols::{Close, Direction, End, Exchange, Facts, LossReason, Transport, facts};
use proptest::prelude::*;
use rstest::rstest;

use Direction::{ToClient, ToServer};

fn request(id: u8, destination: &str) -> Vec<u8> {
    message(b'?', id, destination)
}

fn response(id: u8) -> Vec<u8> {
    message(b'!', id, "done")
}

/// Both ends ask, several requests are open at once, and none is answered in the order of asking.
fn busy() -> Talk {
    Talk::new()
        .request([request(1, "orders"), request(2, "prices"), request(3, "")].concat())
        .response([request(1, "alerts"), response(3)].concat())
        .request([response(1), request(4, "stock")].concat())
        .response([response(2), request(2, "news")].concat())
        .response([response(4), response(1)].concat())
        .request([request(3, "orders"), response(2)].concat())
        .response(response(3))
}

fn messaging(exchange: &Exchange) -> &facts::Messaging {
    let Facts::Messaging(messaging) = &exchange.facts else { panic!("not messaging: {exchange:?}") };
    messaging
}

/// Direction and destination of each exchange, in the order of their ends.
fn reported(outcome: &Outcome) -> Vec<(Direction, &str)> {
    assert!(outcome.exchanges().into_iter().all(|exchange| exchange.end == End::Complete), "{outcome:?}");
    outcome.exchanges().into_iter().map(|exchange| (exchange.direction, &*messaging(exchange).destination)).collect()
}

const BUSY: [(Direction, &str); 7] = [
    (ToServer, ""),
    (ToClient, "alerts"),
    (ToServer, "prices"),
    (ToServer, "stock"),
    (ToServer, "orders"),
    (ToClient, "news"),
    (ToServer, "orders"),
];

#[test]
fn requests_of_both_ends_finish_in_any_order() {
    assert_eq!(reported(&busy().play(parser(&STREAM, true))), BUSY);
}

#[test]
fn an_id_belongs_to_the_end_that_chose_it() {
    let talk = Talk::new().request(request(1, "a")).response([request(1, "b"), response(1)].concat());
    let outcome = talk.request(response(1)).play(parser(&STREAM, true));
    assert_eq!(reported(&outcome), [(ToServer, "a"), (ToClient, "b")]);
}

#[test]
fn the_end_of_a_direction_ends_the_requests_that_wait_for_it() {
    let talk = Talk::new().request(request(1, "a")).response(request(1, "b")).end(ToClient).request(response(1));
    let outcome = talk.closes(Close::Error(104)).play(parser(&STREAM, true));
    let ends: Vec<_> = outcome.exchanges().iter().map(|exchange| (exchange.direction, exchange.end)).collect();
    assert!(matches!(ends[..], [(ToServer, End::Closed(Close::Normal, _)), (ToClient, End::Complete)]), "{ends:?}");
}

#[test]
fn an_aged_request_is_reported_and_its_late_response_is_not() {
    let talk = Talk::new().request(request(1, "a")).age().response(response(1));
    let outcome = talk.play(parser(&STREAM, true));
    let [exchange] = outcome.exchanges()[..] else { panic!("one exchange: {outcome:?}") };
    assert!(matches!(exchange.end, End::Closed(Close::Aged, _)), "{outcome:?}");
    assert_eq!(outcome.orphans(), 0);
}

#[rstest]
#[case::one_byte(1)]
#[case::a_header(4)]
#[case::several_messages(9)]
#[case::to_the_end_of_the_piece(1000)]
fn one_hole_makes_nothing_untrue(#[case] missing: usize) {
    let whole = busy().play(parser(&STREAM, true));
    let mut reported = 0;
    for (what, talk) in busy().gap_everywhere(&[missing]).chain(busy().loss_everywhere()) {
        let holed = talk.play(parser(&STREAM, true));
        assert_all_true(&what, &holed, &whole);
        reported += holed.exchanges().len();
    }
    assert!(reported > 0);
}

/// Whatever is reported in spite of holes happened, and ended when it did.
fn assert_all_true(what: &str, holed: &Outcome, whole: &Outcome) {
    assert_eq!(holed.unparsable, None, "{what}");
    for exchange in holed.exchanges() {
        let is_it =
            |real: &&Exchange| (real.direction, real.request_start) == (exchange.direction, exchange.request_start);
        let real = whole.exchanges().into_iter().find(is_it);
        let real = real.unwrap_or_else(|| panic!("{what}: never happened: {exchange:?}"));
        assert!(exchange.request_end.position <= real.request_end.position, "{what}");
        assert!(messaging(real).destination.starts_with(&*messaging(exchange).destination), "{what}");
        assert_eq!(messaging(exchange).body_size, messaging(real).body_size, "{what}");
        let ends = |exchange: &Exchange| (exchange.response_start, exchange.response_end, exchange.end);
        assert_eq!(ends(exchange), ends(real), "{what}");
    }
}

#[test]
fn a_hole_that_hides_responses_loses_the_requests_that_wait() {
    let talk =
        Talk::new().request([request(1, "a"), request(2, "b")].concat()).gap(ToClient, 8).request(request(3, "c"));
    let outcome = talk.response(response(3)).play(parser(&STREAM, true));
    assert_eq!(outcome.lost(), [LossReason::ResponseMissing; 2]);
    assert_eq!(reported(&outcome), [(ToServer, "c")]);
    assert!(outcome.findings.contains(&onlooker_protocols::Finding::CaptureMore(ToClient)));
}

#[test]
fn what_is_no_message_ends_the_parsing_of_a_stream() {
    let outcome = Talk::new().request([request(1, "a"), b"HELO".to_vec()].concat()).play(parser(&STREAM, true));
    assert!(outcome.unparsable.is_some());
    assert_eq!(outcome.lost(), [LossReason::Unparsable]);
}

/// Each message of [`busy`] in a datagram of its own.
fn datagrams() -> Talk {
    let messages = [
        (ToServer, request(1, "orders")),
        (ToServer, request(2, "prices")),
        (ToClient, request(1, "alerts")),
        (ToClient, response(2)),
        (ToServer, response(1)),
        (ToClient, response(1)),
    ];
    messages.into_iter().fold(Talk::new(), |talk, (direction, bytes)| talk.says(direction, bytes))
}

#[test]
fn datagrams_are_messages() {
    let outcome = datagrams().play_datagrams(parser(&DATAGRAM, true), usize::MAX);
    assert_eq!(reported(&outcome), [(ToServer, "prices"), (ToClient, "alerts"), (ToServer, "orders")]);
}

#[test]
fn a_datagram_that_was_captured_in_part_is_a_message_of_its_whole_length() {
    let outcome = datagrams().play_datagrams(parser(&DATAGRAM, true), 6);
    assert_eq!(reported(&outcome), [(ToServer, "pr"), (ToClient, "al"), (ToServer, "or")]);
    let sizes: Vec<_> = outcome.exchanges().into_iter().map(|exchange| messaging(exchange).body_size).collect();
    assert_eq!(sizes, [Some(6); 3]);
}

#[test]
fn a_datagram_that_is_no_message_concerns_no_other() {
    let talk = Talk::new().request("hello").request(request(1, "a")).response(message(b'!', 1, "-FULL"));
    let outcome = talk.play_datagrams(parser(&DATAGRAM, true), usize::MAX);
    assert!(outcome.unparsable.is_some());
    let [exchange] = outcome.exchanges()[..] else { panic!("one exchange: {outcome:?}") };
    assert_eq!(messaging(exchange).error, "FULL");
}

#[rstest]
#[case::first_request(Transport::Stream, None, true, b"~?", Guess::Protocol(&STREAM, ToServer))]
#[case::not_enough(Transport::Stream, None, true, b"~", Guess::NeedMore)]
#[case::no_direction_in_the_middle(Transport::Stream, None, false, b"~?", Guess::Unknown)]
#[case::delivery(Transport::Stream, Some(ToClient), false, b"~?", Guess::Protocol(&STREAM, ToClient))]
#[case::datagram(Transport::Datagram, None, true, b"~?", Guess::Protocol(&DATAGRAM, ToServer))]
#[case::another_protocol(Transport::Stream, None, true, b"GET / HTTP/1.1\r\n", Guess::Unknown)]
fn detection_uses_the_table_that_it_is_given(
    #[case] transport: Transport,
    #[case] direction: Option<Direction>,
    #[case] from_start: bool,
    #[case] bytes: &[u8],
    #[case] guess: Guess,
) {
    assert_eq!(detect(&[&STREAM, &DATAGRAM], &Sample { transport, direction, from_start, bytes }), guess);
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("model")))]

    #[test]
    fn however_a_conversation_is_cut_it_is_the_same(offsets in prop::collection::vec(0..busy().len(), 0..20)) {
        let whole = busy().play(parser(&STREAM, true));
        prop_assert_eq!(busy().byte_at_a_time().play(parser(&STREAM, true)), whole.clone());
        prop_assert_eq!(busy().cut(&offsets).play(parser(&STREAM, true)), whole);
    }

    #[test]
    fn several_holes_make_nothing_untrue(holes in prop::collection::vec((0..busy().len(), 1..12_usize), 1..4)) {
        let whole = busy().play(parser(&STREAM, true));
        let talk = holes.iter().fold(busy(), |talk, &(offset, missing)| {
            if offset < talk.len() { talk.with_gap(offset, missing) } else { talk }
        });
        assert_all_true(&format!("{holes:?}"), &talk.play(parser(&STREAM, true)), &whole);
    }
}
