//! HTTP/2: what is reported of a request that is answered before its client has ended the stream.

mod kit;

use kit::http2::*;
use onlooker_protocols::{Direction, Finding};
use rstest::rstest;

use Direction::{ToClient, ToServer};

const METHOD: &str = "/shop.Cart/Get";

/// The head and first message of a call.
fn begun(stream: u32) -> Vec<u8> {
    [headers(0, stream, call(METHOD, &[])), data(0, stream, message("id"))].concat()
}

/// A response of one message, and its trailers.
fn answer(stream: u32) -> Vec<u8> {
    let [head, trailers] = [status("200"), fields(&[("grpc-status", "0")])];
    [headers(0, stream, head), data(0, stream, message("cart")), headers(END_STREAM, stream, trailers)].concat()
}

#[rstest]
#[case::end(data(END_STREAM, 1, ""), ToServer, "1 > 1")]
#[case::message_and_end([data(0, 1, message("more")), data(END_STREAM, 1, "")].concat(), ToServer, "2 > 1")]
#[case::trailers(headers(END_STREAM, 1, fields(&[("sum", "1")])), ToServer, "1 > 1")]
#[case::client_gives_up(reset(1, 8), ToServer, "1 > 1")]
#[case::message_without_end(data(0, 1, message("more")), ToServer, "? > 1")]
#[case::server_gives_up(reset(1, 0), ToClient, "? > 1")]
#[case::server_goes_away(go_away(0, 0), ToClient, "? > 1")]
#[case::nothing(settings(&[]), ToServer, "? > 1")]
fn the_messages_are_known_if_the_client_says_that_these_were_all(
    #[case] bytes: Vec<u8>,
    #[case] by: Direction,
    #[case] counts: &str,
) {
    let talk = greeting().request(begun(1)).response(answer(1)).says(by, bytes);
    for talk in [talk.byte_at_a_time(), talk] {
        assert_eq!(lines(&play(&talk)), [format!("grpc shop.Cart/Get | OK | {counts}")]);
    }
}

/// What the client sent before it read that is on its way.
#[test]
fn a_server_may_give_up_a_stream_that_its_client_ends() {
    let talk =
        greeting().request(begun(1)).response([answer(1), reset(1, 0)].concat()).request(data(END_STREAM, 1, ""));
    for talk in [talk.byte_at_a_time(), talk] {
        assert_eq!(lines(&play(&talk)), ["grpc shop.Cart/Get | OK | 1 > 1"]);
    }
}

#[test]
fn a_hole_in_the_requests_hides_the_messages() {
    let talk = greeting().request(begun(1)).response(answer(1)).lost(ToServer, [0; 40]).request(begun(3));
    assert_eq!(lines(&play(&talk))[0], "grpc shop.Cart/Get | OK | ? > 1");
}

#[test]
fn the_exchange_ends_with_its_response() {
    let talk = greeting().request(begun(1)).response(answer(1)).pauses(9).request(data(END_STREAM, 1, message("more")));
    let outcome = play(&talk);
    let [exchange] = outcome.exchanges()[..] else { panic!("{outcome:?}") };
    let response_start = exchange.response_start.map(|start| start.nanos);
    assert!(Some(exchange.request_end.nanos) < response_start, "{exchange:?}");
}

/// What is reported after the response, and how much later.
fn reported(stepwise: &mut Stepwise, answered: usize, later: u64) -> Vec<String> {
    stepwise.parser.pass_time(ANSWERED_AT + later, &mut stepwise.found);
    let exchanges = stepwise.found[answered..].iter().filter_map(|finding| match finding {
        Finding::Exchange(exchange) => Some(line(exchange)),
        _ => None,
    });
    exchanges.collect()
}

/// [`Stepwise`] lets a millisecond pass with each operation.
const ANSWERED_AT: u64 = 5_000_000;

/// After a reset by the server the client sends no more: what is on its way comes within the second.
#[rstest]
#[case::no_reset(&[], "? > 1")]
#[case::reset(&reset(1, 0), "1 > 1")]
fn the_report_waits_for_a_second(#[case] more: &[u8], #[case] counts: &str) {
    let mut stepwise = Stepwise::new(true);
    stepwise.bytes(ToServer, &[PREFACE, &settings(&[])].concat());
    stepwise.bytes(ToClient, &settings(&[]));
    stepwise.bytes(ToServer, &begun(1));
    stepwise.bytes(ToClient, &[&answer(1), more].concat());
    let answered = stepwise.found.len();
    assert_eq!(reported(&mut stepwise, answered, 999_999_999), [""; 0]);
    assert_eq!(stepwise.parser.open(), 1);
    assert_eq!(reported(&mut stepwise, answered, 1_000_000_000), [format!("grpc shop.Cart/Get | OK | {counts}")]);
    assert_eq!(stepwise.parser.open(), 0);
    // What the client sends later belongs to nothing.
    stepwise.bytes(ToServer, &data(END_STREAM, 1, message("late")));
    assert_eq!(reported(&mut stepwise, answered, 9_000_000_000).len(), 1);
}

#[test]
fn of_too_many_that_wait_the_first_is_reported() {
    const WAITING: u32 = 256;
    let mut stepwise = Stepwise::new(true);
    stepwise.bytes(ToServer, &[PREFACE, &settings(&[])].concat());
    stepwise.bytes(ToClient, &settings(&[]));
    for stream in (0..=WAITING).map(|number| 2 * number + 1) {
        stepwise.bytes(ToServer, &begun(stream));
        stepwise.bytes(ToClient, &answer(stream));
    }
    assert_eq!((reported(&mut stepwise, 0, 0).len(), stepwise.parser.open()), (1, WAITING as usize));
    let ends: Vec<u8> = (0..=WAITING).flat_map(|number| data(END_STREAM, 2 * number + 1, "")).collect();
    stepwise.bytes(ToServer, &ends);
    let reported = reported(&mut stepwise, 0, 0);
    let known = reported.iter().filter(|line| line.ends_with("1 > 1")).count();
    assert_eq!((reported.len(), known, &*reported[0]), (257, 256, "grpc shop.Cart/Get | OK | ? > 1"));
}
