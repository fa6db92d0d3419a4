//! A parser's memory is bounded, whatever its input is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use onlooker_protocols::http1::Http1;
use onlooker_protocols::http2::Http2;
use onlooker_protocols::kit::in_order::DEEPEST_PIPELINE;
use onlooker_protocols::postgres::Postgres;
use onlooker_protocols::redis::Redis;
use onlooker_protocols::{Direction, Moment, Parser};
use rstest::rstest;

/// Counts the bytes that the current thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does the work, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        // SAFETY: the caller upholds the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller upholds the contract of this same function, and `alloc` above used the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MIB: usize = 1 << 20;
/// Input of each case, unless the parser fails earlier: more than the longest head, and more than the most open requests.
const FED_BYTES: u64 = 1 << 20;
const FED_PIECES: usize = 300;

/// The most bytes that the parser holds while its input is `piece`, repeated.
fn most_held(mut parser: impl Parser, direction: Direction, piece: &[u8]) -> usize {
    let before = HELD.get();
    let mut most = 0;
    let mut found = Vec::with_capacity(16);
    let (mut position, mut pieces) = (0, 0);
    while position < FED_BYTES || pieces < FED_PIECES {
        let at = Moment { nanos: position, position, run: 0 };
        let followed = parser.bytes(direction, piece, at, &mut found);
        position += piece.len() as u64;
        pieces += 1;
        // Findings belong to the caller. Open requests belong to the parser.
        found = Vec::new();
        most = most.max(HELD.get().saturating_sub(before));
        if followed.is_err() {
            break;
        }
    }
    most
}

/// A head of 60 KiB of which the parser keeps as much as possible. Each kept byte becomes a character of three bytes.
fn greedy_request() -> Vec<u8> {
    let bytes = |count| vec![0xff_u8; count];
    [
        b"GET /".to_vec(),
        bytes(4000),
        b"?".to_vec(),
        b"name=v&".repeat(1000),
        b" HTTP/1.1\r\nuser-agent: ".to_vec(),
        bytes(10_000),
        b"\r\nhost: ".to_vec(),
        bytes(10_000),
        b"\r\nx-request-id: ".to_vec(),
        bytes(128),
        b"\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=".to_vec(),
        b"x".repeat(250),
        b"\r\n\r\n".to_vec(),
    ]
    .concat()
}

#[rstest]
#[case::endless_field(Direction::ToServer, b"GET / HTTP/1.1\r\nx: ".to_vec(), b"y".repeat(1000))]
#[case::endless_fields(Direction::ToServer, b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".to_vec())]
#[case::endless_target(Direction::ToServer, b"GET /".to_vec(), b"y".to_vec())]
#[case::endless_empty_lines(Direction::ToServer, vec![], b"\r\n".repeat(500))]
#[case::endless_requests(Direction::ToServer, vec![], b"GET / HTTP/1.1\r\n\r\n".repeat(100))]
#[case::endless_greedy_requests(Direction::ToServer, vec![], greedy_request())]
#[case::endless_responses(Direction::ToClient, vec![], b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".repeat(100))]
#[case::endless_interim_responses(Direction::ToClient, vec![], b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100))]
#[case::endless_chunks(
    Direction::ToServer,
    b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    b"1\r\nx\r\n".repeat(100)
)]
#[case::endless_chunk_extension(
    Direction::ToServer,
    b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;".to_vec(),
    b"x".repeat(1000)
)]
#[case::endless_trailers(
    Direction::ToServer,
    b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n".to_vec(),
    b"x: y\r\n".repeat(100)
)]
fn http1_is_bounded_as_documented(
    #[case] direction: Direction,
    #[case] begin: Vec<u8>,
    #[case] piece: Vec<u8>,
    #[values(true, false)] from_start: bool,
) {
    let mut parser = Http1::new(from_start);
    let followed = parser.bytes(direction, &begin, Moment::default(), &mut Vec::new());
    assert_eq!(followed, Ok(()));
    let most = most_held(parser, direction, &piece);
    assert!(most < 16 * MIB, "{most} bytes");
}

/// A message of PostgreSQL.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

/// A `Parse` for each of many names, with as much SQL as the parser keeps and no literals.
fn named_statements() -> Vec<u8> {
    let parse = |name| message(b'P', format!("{name}\0SELECT {}\0\0\0", "a, ".repeat(2700)).as_bytes());
    (0..1500).flat_map(parse).collect()
}

#[rstest]
#[case::endless_message(message(b'Q', &vec![b'a'; 1 << 24])[..1000].to_vec(), b"a".repeat(1000))]
#[case::endless_queries(vec![], message(b'Q', b"SELECT 1\0").repeat(100))]
#[case::endless_long_queries(vec![], message(b'Q', &[&b"a, ".repeat(2700)[..], b"\0"].concat()).repeat(4))]
#[case::endless_long_literals(vec![], message(b'Q', &[b"SELECT '", &b"a".repeat(8000)[..], b"'\0"].concat()).repeat(4))]
#[case::endless_executes(vec![], message(b'E', b"\0\0\0\0\0").repeat(100))]
#[case::endless_syncs(vec![], message(b'S', b"").repeat(100))]
#[case::endless_binds(vec![], message(b'B', b"\0\0\0\0\0\0\0\0").repeat(100))]
#[case::many_names(named_statements(), message(b'S', b""))]
fn postgres_is_bounded_as_documented(
    #[case] begin: Vec<u8>,
    #[case] piece: Vec<u8>,
    #[values(true, false)] from_start: bool,
) {
    let mut parser = Postgres::new(from_start);
    let startup = [&[0, 0, 0, 18, 0, 3, 0, 0][..], b"user\0ann\0\0"].concat();
    let before = HELD.get();
    let mut followed = parser.bytes(Direction::ToServer, &startup, Moment::default(), &mut Vec::new());
    followed = followed.and_then(|()| parser.bytes(Direction::ToServer, &begin, Moment::default(), &mut Vec::new()));
    assert_eq!(followed, Ok(()));
    let begun = HELD.get().saturating_sub(before);
    let most = begun + most_held(parser, Direction::ToServer, &piece);
    assert!(most < 12 * MIB, "{most} bytes");
}

#[rstest]
#[case::endless_string(Direction::ToServer, b"*2\r\n$3\r\nGET\r\n$1000000000\r\n".to_vec(), b"a".repeat(1000))]
#[case::endless_array(Direction::ToServer, b"*1000000000\r\n$4\r\nMGET\r\n".to_vec(), b"$1\r\na\r\n".repeat(100))]
#[case::endless_inline(Direction::ToServer, vec![], b"A".repeat(100))]
#[case::endless_empty_lines(Direction::ToServer, vec![], b"\r\n".repeat(500))]
#[case::endless_requests(Direction::ToServer, vec![], b"*1\r\n$4\r\nPING\r\n".repeat(100))]
#[case::endless_long_requests(
    Direction::ToServer,
    vec![],
    b"*2\r\n$64\r\n".iter().chain(&[b'a'; 64]).chain(b"\r\n$1\r\na\r\n").copied().collect::<Vec<_>>().repeat(100)
)]
#[case::endless_subscriptions(Direction::ToServer, vec![], b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n".repeat(100))]
#[case::endless_line(Direction::ToClient, b"+".to_vec(), b"a".repeat(1000))]
#[case::endless_reply(Direction::ToClient, b"$1000000000\r\n".to_vec(), b"a".repeat(1000))]
#[case::endless_replies(Direction::ToClient, vec![], b":1\r\n".repeat(100))]
#[case::endless_errors(Direction::ToClient, vec![], b"-ERR no\r\n".repeat(100))]
#[case::endless_nesting(Direction::ToClient, vec![], b"*1\r\n".repeat(10))]
#[case::endless_attributes(Direction::ToClient, vec![], b"|1\r\n+a\r\n:1\r\n".repeat(100))]
#[case::endless_pushes(Direction::ToClient, vec![], b">2\r\n+a\r\n+b\r\n".repeat(100))]
fn redis_is_bounded_as_documented(
    #[case] direction: Direction,
    #[case] begin: Vec<u8>,
    #[case] piece: Vec<u8>,
    #[values(true, false)] from_start: bool,
) {
    let before = HELD.get();
    let mut parser = Redis::new(from_start);
    let followed = parser.bytes(direction, &begin, Moment::default(), &mut Vec::new());
    assert_eq!(followed, Ok(()));
    let begun = HELD.get().saturating_sub(before);
    let most = begun + most_held(parser, direction, &piece);
    assert!(most < 8 * MIB, "{most} bytes");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[l0, l1, l2, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS frames that open so many streams. Each has a GET with these bytes.
fn opened(streams: u32, more: &[u8]) -> Vec<u8> {
    let block = [&[0x82, 0x86, 0x84, 0x01, 4][..], b"shop", more].concat();
    (0..streams).flat_map(|index| frame(1, 5, 2 * index + 1, &block)).collect()
}

/// A field of HPACK: inserted into the dynamic table, or not.
fn field(is_inserted: bool, name: &str, value: &[u8]) -> Vec<u8> {
    let length = |length: usize| {
        let rest = length.saturating_sub(127);
        [0x7f, 0x80 | (rest & 0x7f) as u8, 0x80 | ((rest >> 7) & 0x7f) as u8, (rest >> 14) as u8]
    };
    let kind = if is_inserted { 0x40 } else { 0 };
    [&[kind, name.len() as u8][..], name.as_bytes(), &length(value.len()), value].concat()
}

#[rstest]
#[case::endless_block(frame(1, 0, 1, &[0x82]), frame(9, 0, 1, &field(false, "a", &[b'x'; 1000])))]
#[case::endless_empty_block(frame(1, 0, 1, &[0x82]), frame(9, 0, 1, &[]).repeat(100))]
#[case::many_streams(opened(6000, &[]), frame(6, 0, 0, &[0; 8]).repeat(100))]
#[case::many_greedy_streams(opened(6000, &field(false, "user-agent", &[b'x'; 4000])), frame(6, 0, 0, &[0; 8]).repeat(100))]
#[case::a_large_table(
    [frame(1, 5, 1, &[0x3f, 0xe1, 0xff, 0xff, 0x7f, 0x82]), (0..1000).flat_map(|index| {
        frame(1, 5, 2 * index + 3, &[vec![0x82], field(true, "user-agent", &[b'x'; 4000])].concat())
    }).collect()].concat(),
    frame(6, 0, 0, &[0; 8]).repeat(100)
)]
#[case::endless_data(opened(1, &[]), frame(0, 0, 1, &[b'x'; 1000]))]
#[case::endless_settings(vec![], frame(4, 0, 0, &[0, 5, 0, 1, 0, 0]).repeat(100))]
#[case::endless_unknown_frames(vec![], frame(0x77, 0, 0, &[b'x'; 16_000]))]
fn http2_is_bounded_as_documented(#[case] begin: Vec<u8>, #[case] piece: Vec<u8>) {
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let before = HELD.get();
    let mut parser = Http2::new(true);
    for bytes in [preface, begin] {
        let followed = parser.bytes(Direction::ToServer, &bytes, Moment::default(), &mut Vec::new());
        assert_eq!(followed, Ok(()));
    }
    let begun = HELD.get().saturating_sub(before);
    let most = begun + most_held(parser, Direction::ToServer, &piece);
    assert!(most < 16 * MIB, "{most} bytes");
}

#[test]
fn the_memory_of_a_deep_pipeline_is_freed() {
    let before = HELD.get();
    let mut parser = Redis::new(true);
    let (asked, answered) = (Moment::default(), Moment { run: 1, ..Moment::default() });
    for (direction, piece, at) in [
        (Direction::ToServer, b"*1\r\n$4\r\nPING\r\n".repeat(DEEPEST_PIPELINE), asked),
        (Direction::ToClient, b"+PONG\r\n".repeat(DEEPEST_PIPELINE), answered),
    ] {
        let followed = parser.bytes(direction, &piece, at, &mut Vec::new());
        assert_eq!(followed, Ok(()));
    }
    assert_eq!(parser.open(), 0);
    let held = HELD.get().saturating_sub(before);
    assert!(held < 1024, "{held} bytes");
}
