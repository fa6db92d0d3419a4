//! Requests that are given up, and the requests that follow them.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod kit;

use kit::http2::{END_STREAM, PREFACE, data, get, headers, settings, status};
use onlooker_protocols::{Close, Direction, End, Exchange, Finding, Moment, Spec, http1, http2, postgres, redis};
use rstest::rstest;

const GET: &[u8] = b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BLPOP: &[u8] = b"*3\r\n$5\r\nBLPOP\r\n$1\r\nq\r\n$1\r\n0\r\n";
const POPPED: &[u8] = b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n";
const QUERY: &[u8] = b"Q\0\0\0\x19SELECT pg_sleep(400)\0";
const ROWS: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

fn exchanges(found: &mut Vec<Finding>) -> Vec<Exchange> {
    let exchange = |finding| match finding {
        Finding::Exchange(exchange) => Some(*exchange),
        Finding::Begun(_) => None,
        other => panic!("{other:?}"),
    };
    found.drain(..).filter_map(exchange).collect()
}

/// A connection whose messages pass one second apart.
struct Conversation {
    parser: Box<dyn onlooker_protocols::Parser>,
    now: Moment,
    positions: [u64; 2],
    found: Vec<Finding>,
}

impl Conversation {
    fn in_the_middle(protocol: &Spec) -> Self {
        let parser = protocol.parser.expect("a parser")(false);
        Self { parser, now: Moment::default(), positions: [0; 2], found: Vec::new() }
    }

    fn passes(&mut self, direction: Direction, bytes: &[u8]) {
        self.now.nanos += 1_000_000_000;
        self.now.run += 1;
        let position = &mut self.positions[usize::from(direction == Direction::ToClient)];
        let at = Moment { position: *position, ..self.now };
        *position += bytes.len() as u64;
        self.parser.bytes(direction, bytes, at, &mut self.found).expect("bytes of this protocol");
    }
}

#[rstest]
#[case::http1(&http1::SPEC, GET, OK)]
#[case::redis(&redis::SPEC, BLPOP, POPPED)]
#[case::postgres(&postgres::SPEC, QUERY, ROWS)]
fn an_aged_request_is_reported_once_and_the_next_gets_its_own_response(
    #[case] protocol: &Spec,
    #[case] request: &[u8],
    #[case] response: &[u8],
) {
    let mut talk = Conversation::in_the_middle(protocol);
    talk.passes(Direction::ToServer, request);
    talk.passes(Direction::ToClient, response);
    assert_eq!(exchanges(&mut talk.found).len(), 1);
    talk.passes(Direction::ToServer, request);
    let asked = talk.now.nanos;
    talk.parser.give_up_before(asked, talk.now, &mut talk.found);
    assert_eq!((exchanges(&mut talk.found).len(), talk.parser.open()), (0, 1), "it is no older");
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    let [aged] = &exchanges(&mut talk.found)[..] else { panic!("reported once") };
    assert!(matches!(aged.end, End::Closed(Close::Aged, _)) && aged.request_start.nanos == asked);
    assert_eq!(talk.parser.open(), 0);

    talk.passes(Direction::ToClient, response);
    talk.passes(Direction::ToServer, request);
    let next = talk.now.nanos;
    talk.passes(Direction::ToClient, response);
    let [reported] = &exchanges(&mut talk.found)[..] else { panic!("only the next") };
    assert_eq!((reported.request_start.nanos, reported.end), (next, End::Complete));
}

#[test]
fn a_response_in_progress_is_reported_as_far_as_it_came_when_its_request_is_aged() {
    let mut talk = Conversation::in_the_middle(&http1::SPEC);
    talk.passes(Direction::ToServer, GET);
    talk.passes(Direction::ToClient, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
    talk.parser.give_up_before(u64::MAX, talk.now, &mut talk.found);
    let [aged] = &exchanges(&mut talk.found)[..] else { panic!("reported once") };
    assert_eq!(aged.response_start.map(|start| start.nanos), Some(talk.now.nanos));
    talk.passes(Direction::ToClient, b"0\r\n\r\n");
    for _ in 0..2 {
        talk.passes(Direction::ToServer, GET);
        talk.passes(Direction::ToClient, OK);
    }
    let ends: Vec<_> = exchanges(&mut talk.found).iter().map(|exchange| exchange.end).collect();
    assert_eq!(ends, [End::Complete; 2]);
}

#[test]
fn an_aged_stream_is_reported_once_and_the_next_gets_its_own_response() {
    let settings = settings(&[]);
    let mut talk =
        Conversation { parser: kit::parser(&http2::SPEC, true), ..Conversation::in_the_middle(&http2::SPEC) };
    talk.passes(Direction::ToServer, &[PREFACE, &settings].concat());
    talk.passes(Direction::ToClient, &settings);
    talk.passes(Direction::ToServer, &headers(END_STREAM, 1, get("/events")));
    let asked = talk.now.nanos;
    talk.passes(Direction::ToServer, &headers(END_STREAM, 3, get("/events")));
    talk.parser.give_up_before(asked, talk.now, &mut talk.found);
    assert_eq!((exchanges(&mut talk.found).len(), talk.parser.open()), (0, 2), "none is older");
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    let [aged] = &exchanges(&mut talk.found)[..] else { panic!("reported once") };
    assert!(matches!(aged.end, End::Closed(Close::Aged, _)) && aged.request_start.nanos == asked);

    talk.passes(Direction::ToClient, &[headers(0, 1, status("200")), data(END_STREAM, 1, "late")].concat());
    talk.passes(Direction::ToClient, &headers(END_STREAM, 3, status("204")));
    let [reported] = &exchanges(&mut talk.found)[..] else { panic!("only the other stream") };
    assert_eq!((reported.request_start.nanos, reported.end), (asked + 1_000_000_000, End::Complete));
    assert_eq!(talk.parser.open(), 0);
}
