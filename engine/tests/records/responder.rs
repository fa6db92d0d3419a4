//! Calls of units of work: their owner is the request whose response the unit wrote.

use crate::kit::{End, MILLISECOND, World};
use onlooker_common::connection::role;
use onlooker_common::owner::MessageIds;
use onlooker_common::unit;
use onlooker_engine::model::span::{Evidence, Span};
use opentelemetry::trace::SpanKind;

const APP: u32 = 10;
const GET: &[u8] = b"GET /cart HTTP/1.1\r\nhost: shop\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
const BODY: &[u8] = b"ok";

fn ends(cookie: u64, role: u8) -> End {
    End::new(cookie, APP, role)
}

/// The unit reads or writes these bytes.
fn moves(world: &mut World, end: &mut End, is_sent: bool, bytes: &[u8], id: u64) {
    let time = world.tick();
    let mut segment = end.operation(is_sent, bytes.len(), time);
    segment.unit_kind = unit::GOROUTINE;
    segment.unit = [id, 0];
    // The kernel programs choose new ids for each message, and for each unit that writes to a shared connection.
    segment.message = MessageIds { trace_id: [id, end.cookie], span_id: end.cookie * 1_000 + id };
    world.segment(&segment, bytes);
}

fn parents(spans: &[Span]) -> Vec<Option<(u64, Evidence)>> {
    let calls = spans.iter().filter(|span| span.kind == SpanKind::Client);
    calls
        .map(|call| call.parent.map(|parent| (u64::from_be_bytes(parent.span_id.to_bytes()), parent.evidence)))
        .collect()
}

#[test]
fn a_call_waits_for_the_first_byte_of_the_response() {
    let mut world = World::new();
    let (mut one, mut two, mut call) = (ends(1, role::SERVER), ends(2, role::SERVER), ends(3, role::CLIENT));
    moves(&mut world, &mut one, false, GET, 101);
    moves(&mut world, &mut two, false, GET, 102);
    moves(&mut world, &mut call, true, GET, 7);
    moves(&mut world, &mut call, false, &[HEAD, BODY].concat(), 103);
    assert_eq!(world.spans_after(500 * MILLISECOND).len(), 0, "no request has a response");
    moves(&mut world, &mut two, true, HEAD, 7);
    assert_eq!(world.spans_after(10 * MILLISECOND).len(), 0, "the unit may respond to other requests as well");
    // The response goes on, and so does the other request.
    let spans = world.spans_after(100 * MILLISECOND);
    assert_eq!(parents(&spans), [Some((2_102, Evidence::Responder))]);
    assert_eq!(world.counters.parents_not_awaited.get(), 0);
}

#[test]
fn a_call_does_not_wait_longer_than_ten_seconds() {
    let mut world = World::new();
    let (mut request, mut call) = (ends(1, role::SERVER), ends(3, role::CLIENT));
    moves(&mut world, &mut request, false, GET, 101);
    moves(&mut world, &mut call, true, GET, 7);
    moves(&mut world, &mut call, false, &[HEAD, BODY].concat(), 103);
    assert_eq!(world.spans_after(9_900 * MILLISECOND).len(), 0);
    let spans = world.spans_after(300 * MILLISECOND);
    assert_eq!(parents(&spans), [Some((1_101, Evidence::OnlyCandidate))]);
    assert_eq!(world.counters.parents_not_awaited.get(), 1);
}

#[test]
fn everything_that_waits_is_settled_in_the_end() {
    let mut world = World::new();
    let (mut request, mut call) = (ends(1, role::SERVER), ends(3, role::CLIENT));
    moves(&mut world, &mut request, false, GET, 101);
    moves(&mut world, &mut call, true, GET, 7);
    moves(&mut world, &mut call, false, &[HEAD, BODY].concat(), 103);
    assert_eq!(world.spans_after(500 * MILLISECOND).len(), 0);
    assert_eq!(world.shutdown().len(), 2);
}

#[test]
fn each_unit_that_writes_to_a_shared_connection_is_the_caller_of_its_own_requests() {
    let mut world = World::new();
    let (mut one, mut two, mut shared) = (ends(1, role::SERVER), ends(2, role::SERVER), ends(3, role::CLIENT));
    moves(&mut world, &mut one, false, GET, 101);
    moves(&mut world, &mut two, false, GET, 102);
    // Two requests of one run, written by different units.
    moves(&mut world, &mut shared, true, GET, 7);
    moves(&mut world, &mut shared, true, GET, 8);
    let answer = [HEAD, BODY].concat();
    moves(&mut world, &mut shared, false, &[&answer[..], &answer].concat(), 103);
    moves(&mut world, &mut one, true, &answer, 8);
    moves(&mut world, &mut two, true, &answer, 7);
    let spans = world.spans_after(500 * MILLISECOND);
    assert_eq!(parents(&spans), [Some((2_102, Evidence::Responder)), Some((1_101, Evidence::Responder))]);
    assert_eq!(spans.len(), 4);
}
