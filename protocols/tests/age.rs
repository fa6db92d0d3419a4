//! Requests that are waited for no longer, and what follows them on their connection.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use onlooker_protocols::{Close, Direction, End, Exchange, Finding, Moment, Spec, http1, postgres, redis};
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

/// One connection, message after message, a second apart.
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
        self.parser.bytes(direction, bytes, at, &mut self.found).expect("it is the protocol's");
    }
}

#[rstest]
#[case::http1(&http1::SPEC, GET, OK)]
#[case::redis(&redis::SPEC, BLPOP, POPPED)]
#[case::postgres(&postgres::SPEC, QUERY, ROWS)]
fn an_aged_request_is_told_once_and_the_next_has_its_own_answer(
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
    assert_eq!((exchanges(&mut talk.found).len(), talk.parser.open()), (0, 1), "it is not older than that");
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    talk.parser.give_up_before(asked + 1, talk.now, &mut talk.found);
    let [aged] = &exchanges(&mut talk.found)[..] else { panic!("told once") };
    assert!(matches!(aged.end, End::Closed(Close::Aged, _)) && aged.request_start.nanos == asked);
    assert_eq!(talk.parser.open(), 0);

    talk.passes(Direction::ToClient, response);
    talk.passes(Direction::ToServer, request);
    let next = talk.now.nanos;
    talk.passes(Direction::ToClient, response);
    let [told] = &exchanges(&mut talk.found)[..] else { panic!("the next, and nothing else") };
    assert_eq!((told.request_start.nanos, told.end), (next, End::Complete));
}

#[test]
fn an_answer_that_goes_on_when_its_request_is_aged_is_told_as_far_as_it_came() {
    let mut talk = Conversation::in_the_middle(&http1::SPEC);
    talk.passes(Direction::ToServer, GET);
    talk.passes(Direction::ToClient, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
    talk.parser.give_up_before(u64::MAX, talk.now, &mut talk.found);
    let [aged] = &exchanges(&mut talk.found)[..] else { panic!("told once") };
    assert_eq!(aged.response_start.map(|start| start.nanos), Some(talk.now.nanos));
    talk.passes(Direction::ToClient, b"0\r\n\r\n");
    for _ in 0..2 {
        talk.passes(Direction::ToServer, GET);
        talk.passes(Direction::ToClient, OK);
    }
    let told: Vec<_> = exchanges(&mut talk.found).iter().map(|exchange| exchange.end).collect();
    assert_eq!(told, [End::Complete; 2]);
}
