//! Plaintext of TLS libraries: streams beside their sockets.

use crate::kit::{End, MILLISECOND, World, summary};
use onlooker_common::connection::{change, role};
use onlooker_common::plaintext::StreamKey;
use onlooker_common::segment::{Segment, flag};
use onlooker_engine::model::span::{Evidence, Span};
use onlooker_protocols::{http1, tls};
use opentelemetry::trace::SpanKind;
use rstest::rstest;

const SERVER: u32 = 10;
const STREAM: StreamKey = StreamKey { object: 0x7f00_1000, generation: 1, tgid: SERVER };
const GET: &[u8] = b"GET /cart HTTP/1.1\r\nhost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
/// The beginning of a ClientHello.
const HELLO: &[u8] = &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];

/// The stream's own end: positions begin at 0, and the cookie is known later.
fn stream() -> End {
    End { positions: [0, 0], ..End::new(0, SERVER, role::UNKNOWN) }
}

fn socket() -> End {
    End::new(77, SERVER, role::SERVER)
}

fn exchange(world: &mut World, key: StreamKey, end: &mut End) {
    for (is_sent, bytes) in [(false, GET), (true, OK)] {
        let time = world.tick();
        let segment = end.operation(is_sent, bytes.len(), time);
        world.plaintext(key, segment, bytes);
    }
}

fn client_address(span: &Span) -> Option<String> {
    span.attributes.text("client.address")
}

#[rstest]
#[case::before_its_plaintext(0)]
#[case::between(1)]
#[case::after_its_plaintext(2)]
fn a_stream_is_reported_with_the_ends_of_its_socket_whenever_the_tie_comes(#[case] when: usize) {
    let mut world = World::new();
    let (mut socket, mut stream) = (socket(), stream());
    world.changes(&socket, change::SEEN);
    world.reads(&mut socket, HELLO);
    for (index, (is_sent, bytes)) in [(false, GET), (true, OK)].into_iter().enumerate() {
        if index == when {
            world.tie(STREAM, socket.cookie);
        }
        let time = world.tick();
        let segment = stream.operation(is_sent, bytes.len(), time);
        world.plaintext(STREAM, segment, bytes);
    }
    if when == 2 {
        assert!(world.spans_after(100 * MILLISECOND).is_empty(), "it waits for the tie");
        world.tie(STREAM, socket.cookie);
    }
    let spans = world.spans();
    assert_eq!(summary(&spans), [("GET /cart", SpanKind::Server)]);
    assert_eq!(client_address(&spans[0]).as_deref(), Some("10.0.0.2"));
    assert_eq!(world.counters.plaintext_untied.get(), 0);
    let connections = |protocol| world.counters.protocol(protocol).unwrap().connections.get();
    assert_eq!((connections(&tls::SPEC), connections(&http1::SPEC)), (1, 1));
    assert_eq!(world.counters.connections_seen.get(), 1, "a stream is no connection of its own");
}

#[test]
fn a_record_that_names_the_socket_ties_the_stream() {
    let mut world = World::new();
    let (socket, mut stream) = (socket(), End { cookie: 77, ..stream() });
    world.changes(&socket, change::SEEN);
    exchange(&mut world, STREAM, &mut stream);
    let spans = world.spans();
    assert_eq!(client_address(&spans[0]).as_deref(), Some("10.0.0.2"));
}

#[rstest]
#[case::from_its_start(true, true, 0)]
#[case::after_its_library_was_attached_to_late(true, false, 1)]
#[case::on_a_socket_that_was_not_followed_from_its_start(false, false, 0)]
fn connections_whose_plaintext_is_recorded_late_are_counted(
    #[case] is_socket_from_start: bool,
    #[case] is_stream_from_start: bool,
    #[case] late: u64,
) {
    let mut world = World::new();
    let (mut socket, mut stream) = (socket(), stream());
    world.changes_of(&socket, change::SEEN, is_socket_from_start);
    if is_socket_from_start {
        world.reads(&mut socket, HELLO);
    }
    world.tie(STREAM, socket.cookie);
    for _ in 0..2 {
        for (is_sent, bytes) in [(false, GET), (true, OK)] {
            let time = world.tick();
            let mut segment = stream.operation(is_sent, bytes.len(), time);
            if !is_stream_from_start {
                segment.flags &= !flag::FROM_START;
            }
            world.plaintext(STREAM, segment, bytes);
        }
    }
    assert_eq!(world.spans().len(), 2);
    assert_eq!(world.counters.connections_tls_read_late.get(), late);
}

#[test]
fn a_stream_that_is_never_tied_is_exported_without_addresses_and_counted() {
    let mut world = World::new();
    let mut stream = stream();
    exchange(&mut world, STREAM, &mut stream);
    let spans = world.spans();
    // The first advance gives the stream up, a later one settles what it held.
    let spans = if spans.is_empty() { world.spans() } else { spans };
    assert_eq!(summary(&spans), [("GET /cart", SpanKind::Server)]);
    assert_eq!(client_address(&spans[0]), None);
    assert_eq!(world.counters.plaintext_untied.get(), 1);
    // Its later requests do not wait.
    exchange(&mut world, STREAM, &mut stream);
    assert_eq!(world.spans_after(100 * MILLISECOND).len(), 1);
    assert_eq!(world.counters.plaintext_untied.get(), 1);
}

#[test]
fn what_waits_for_a_tie_is_bounded() {
    let mut world = World::new();
    let mut stream = stream();
    let post = [&b"POST /up HTTP/1.1\r\ncontent-length: 100000\r\n\r\n"[..], &vec![b'x'; 100_000]].concat();
    for chunk in post.chunks(4096) {
        let time = world.tick();
        let segment = stream.operation(false, chunk.len(), time);
        world.plaintext(STREAM, segment, chunk);
    }
    assert_eq!(world.counters.plaintext_untied.get(), 1, "given up before its time, for its size");
    let time = world.tick();
    let segment = stream.operation(true, OK.len(), time);
    world.plaintext(STREAM, segment, OK);
    assert_eq!(summary(&world.spans()), [("POST /up", SpanKind::Server)]);
}

#[test]
fn ciphertext_of_a_tied_socket_is_not_parsed() {
    let mut world = World::new();
    let (mut socket, mut stream) = (socket(), stream());
    world.changes(&socket, change::SEEN);
    world.tie(STREAM, socket.cookie);
    // It looks like a request, and is none.
    world.reads(&mut socket, GET);
    world.sends(&mut socket, OK);
    exchange(&mut world, STREAM, &mut stream);
    assert_eq!(world.spans().len(), 1);
    assert_eq!(world.counters.requests_begun.get(), 1);
}

#[test]
fn a_new_object_at_the_same_address_is_another_stream() {
    let mut world = World::new();
    let mut first = stream();
    world.tie(STREAM, 77);
    let time = world.tick();
    let segment = first.operation(false, GET.len(), time);
    world.plaintext(STREAM, segment, GET);
    // The object is freed, and another one gets its address.
    let second = StreamKey { generation: 2, ..STREAM };
    exchange(&mut world, second, &mut stream());
    world.tie(second, 78);
    let late = first.operation(true, OK.len(), time + 1);
    world.plaintext(STREAM, late, OK);
    let spans = world.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(world.counters.segments_too_late.get(), 1, "the first stream is over");
    let errors: Vec<_> = spans.iter().map(|span| span.attributes.text("error.type")).collect();
    assert_eq!(errors[1], None, "the second request has its response");
    assert!(spans[0].end - spans[0].start <= 2 * MILLISECOND, "the first ended with its object");
}

#[test]
fn a_stream_that_waits_when_its_object_is_replaced_is_not_lost() {
    let mut world = World::new();
    exchange(&mut world, STREAM, &mut stream());
    exchange(&mut world, StreamKey { generation: 2, ..STREAM }, &mut stream());
    world.spans_after(300 * MILLISECOND);
    world.spans();
    assert_eq!(world.counters.requests_begun.get(), 2);
    assert_eq!(world.counters.plaintext_untied.get(), 2);
}

#[test]
fn added_bytes_are_no_hole_and_reach_no_parser() {
    let mut world = World::new();
    let mut end = End::new(5, SERVER, role::CLIENT);
    for _ in 0..2 {
        let time = world.tick();
        let sent = Segment { added: 70, ..end.operation(true, GET.len(), time) };
        // What the peer reads, and what follows, counts the added bytes.
        end.positions[1] += 70;
        world.segment(&sent, GET);
        world.reads(&mut end, OK);
    }
    let spans = world.spans();
    assert_eq!(summary(&spans), [("GET /cart", SpanKind::Client), ("GET /cart", SpanKind::Client)]);
    assert_eq!((world.counters.bytes_missing.get(), world.counters.segments_too_late.get()), (0, 0));
}

#[test]
fn both_ends_of_a_connection_are_joined_by_the_positions_of_their_sockets() {
    const CLIENT: u32 = 11;
    let mut world = World::new();
    let ends = [
        (End::new(81, CLIENT, role::CLIENT), StreamKey { object: 1, generation: 5, tgid: CLIENT }),
        (End::new(82, SERVER, role::SERVER), StreamKey { object: 2, generation: 6, tgid: SERVER }),
    ];
    // The client sends its first message on the positions that the server receives it at.
    let mut sockets = ends.map(|(end, key)| (End { positions: [700, 300], ..end }, key));
    sockets[1].0.positions = [300, 700];
    for (index, (socket, key)) in sockets.iter_mut().enumerate() {
        let time = world.tick();
        let hello = socket.operation(index == 0, HELLO.len(), time);
        world.segment(&hello, HELLO);
        world.tie(*key, socket.cookie);
    }
    let mut streams = [role::CLIENT, role::SERVER].map(|role| End { positions: [0, 0], ..End::new(0, 0, role) });
    for (is_request, bytes) in [(true, GET), (false, OK)] {
        // The response is written first.
        for index in if is_request { [0, 1] } else { [1, 0] } {
            let time = world.tick();
            let segment = streams[index].operation(is_request == (index == 0), bytes.len(), time);
            let tgid = sockets[index].1.tgid;
            world.plaintext(sockets[index].1, Segment { tgid, ..segment }, bytes);
        }
    }
    let spans = world.spans();
    assert_eq!(summary(&spans), [("GET /cart", SpanKind::Client), ("GET /cart", SpanKind::Server)]);
    let parent = spans[1].parent.expect("the other end is on this host");
    assert_eq!((parent.span_id, parent.evidence), (spans[0].span_id, Evidence::Host));
    assert_eq!(spans[0].attributes.text("url.scheme").as_deref(), Some("https"));
}

#[test]
fn a_stream_ends_with_its_socket() {
    let mut world = World::new();
    let (mut socket, mut stream) = (socket(), stream());
    world.changes(&socket, change::SEEN);
    world.reads(&mut socket, HELLO);
    world.tie(STREAM, socket.cookie);
    let time = world.tick();
    let segment = stream.operation(false, GET.len(), time);
    world.plaintext(STREAM, segment, GET);
    world.changes(&socket, change::CLOSED);
    let spans = world.spans();
    let spans = if spans.is_empty() { world.spans() } else { spans };
    assert_eq!(spans.len(), 1);
    assert!(spans[0].attributes.text("error.type").is_some(), "it was not answered: {:?}", spans[0]);
}
