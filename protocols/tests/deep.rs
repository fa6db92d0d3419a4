//! The cost of a request does not depend on the number of open requests.

mod kit;

use std::time::Duration;

use kit::http2::{END_STREAM, get, greeting, headers, status};
use kit::{Talk, parser};
use onlooker_protocols::Direction::{ToClient, ToServer};
use onlooker_protocols::{Spec, http1, http2, postgres, redis};
use rstest::rstest;

/// The deep pipeline is this many times as deep as the shallow one. Work that grows with the depth would take that many
/// times as long for each request.
const DEEPER: usize = 32;
/// Tolerance for cache misses and for other programs that use the same caches.
const TOLERANCE: u32 = 8;
/// The best of this many runs counts.
const RUNS: usize = 5;

/// CPU time of this thread: other programs on a busy machine do not count.
fn time_of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time counts up from its start")
}

/// The least CPU time that the parser takes for the talk.
fn least(protocol: &Spec, talk: &Talk) -> Duration {
    let timed = || {
        let start = time_of_this_thread();
        let outcome = talk.play(parser(protocol, true));
        assert_eq!(outcome.unparsable, None);
        time_of_this_thread() - start
    };
    (0..RUNS).map(|_| timed()).min().unwrap_or_default()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn session() -> Talk {
    let startup = b"\0\0\0\x12\0\x03\0\0user\0ann\0\0";
    Talk::new().request(startup).response([message(b'R', &[0; 4]), message(b'Z', b"I")].concat())
}

/// Each request and each response is an operation of its own.
fn one_by_one(talk: Talk, request: &[u8], response: &[u8], depth: usize) -> Talk {
    let talk = (0..depth).fold(talk, |talk, _| talk.request(request));
    (0..depth).fold(talk, |talk, _| talk.response(response))
}

/// Streams of HTTP/2, all open at once, that are answered in the order that `nth` gives.
fn streams(depth: usize, nth: fn(u32, u32) -> u32) -> Talk {
    let depth = u32::try_from(depth).expect("few streams");
    let number = |index: u32| 2 * index + 1;
    let talk = (0..depth).fold(greeting(), |talk, index| talk.request(headers(END_STREAM, number(index), get("/"))));
    (0..depth).fold(talk, |talk, index| talk.response(headers(END_STREAM, number(nth(index, depth)), status("204"))))
}

#[rstest]
#[case::http2(&http2::SPEC, 64, |depth| streams(depth, |index, _| index))]
#[case::http2_newest_first(&http2::SPEC, 64, |depth| streams(depth, |index, depth| depth - 1 - index))]
#[case::http1(&http1::SPEC, 8, |depth| {
    one_by_one(Talk::new(), b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", depth)
})]
#[case::redis(&redis::SPEC, 128, |depth| one_by_one(Talk::new(), b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", depth))]
#[case::redis_not_captured(&redis::SPEC, 128, |depth| {
    let talk = Talk::new().request(b"*1\r\n$4\r\nPING\r\n".repeat(depth)).gap(ToClient, 3);
    (0..depth).fold(talk, |talk, _| talk.response("ONG\r\n").gap(ToClient, 3))
})]
#[case::redis_half_seen(&redis::SPEC, 128, |depth| {
    let talk = Talk::new().request("*1\r\n$4\r\n").gap(ToServer, 6).response("+").request("*1\r\n$4\r\nPING\r\n".repeat(depth));
    (0..depth).fold(talk, |talk, _| talk.response("PONG\r\n+"))
})]
#[case::postgres(&postgres::SPEC, 128, |depth| {
    let answer = [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    one_by_one(session(), &message(b'Q', b"SELECT 1\0"), &answer, depth)
})]
#[case::postgres_without_sync(&postgres::SPEC, 128, |depth| {
    let group = [message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'E', b"\0\0\0\0\0")].concat();
    one_by_one(session(), &group, &message(b'Z', b"I"), depth)
})]
#[case::postgres_not_captured(&postgres::SPEC, 128, |depth| {
    let talk = session().request(message(b'Q', b"SELECT 1\0").repeat(depth)).gap(ToClient, 9);
    (0..depth).fold(talk, |talk, _| talk.response("abcdefghi").gap(ToClient, 9))
})]
#[case::postgres_not_asked(&postgres::SPEC, 128, |depth| {
    let talk = session().request(message(b'S', b"")).gap(ToServer, 9).response("x").request(message(b'Q', b"SELECT 1\0").repeat(depth));
    (0..depth).fold(talk, |talk, _| talk.gap(ToClient, 9).response(message(b'Z', b"I")))
})]
fn a_request_costs_the_same_at_any_depth_of_the_pipeline(
    #[case] protocol: &Spec,
    #[case] shallow: usize,
    #[case] talk: fn(usize) -> Talk,
) {
    let deep = least(protocol, &talk(shallow * DEEPER)) / DEEPER as u32;
    let shallow = least(protocol, &talk(shallow));
    assert!(deep < shallow * TOLERANCE, "{deep:?} for as many as took {shallow:?}");
}
