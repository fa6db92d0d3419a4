//! Several requests at once on one connection, in both directions, answered in any order.

use crate::kit::{End, MILLISECOND, World, summary};
use onlooker_common::connection::role;
use onlooker_common::owner::{MessageIds, Owner, evidence};
use onlooker_common::segment::Segment;
use onlooker_engine::model::span::Evidence;
use onlooker_protocols::testing::{self, message};
use opentelemetry::trace::SpanKind;

const BROKER: u32 = 10;

fn ids(span_id: u64) -> MessageIds {
    MessageIds { trace_id: [5, span_id], span_id }
}

#[test]
fn responses_in_any_order_end_their_own_requests() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    world.reads(&mut end, &[message(b'?', 1, "first"), message(b'?', 2, "second")].concat());
    world.sends(&mut end, &message(b'!', 2, ""));
    world.sends(&mut end, &message(b'!', 1, ""));
    let spans = world.spans();
    assert_eq!(summary(&spans), [("send second", SpanKind::Server), ("send first", SpanKind::Server)]);
    let took: Vec<_> = spans.iter().map(|span| (span.end - span.start) / MILLISECOND).collect();
    assert_eq!(took, [1, 2]);
    assert_eq!(world.counters.requests_begun.get(), 2);
}

#[test]
fn either_end_may_ask_and_positions_of_both_directions_may_be_equal() {
    let mut world = World::new();
    let mut end = End { positions: [1_000, 1_000], ..End::new(1, BROKER, role::SERVER) };
    world.reads(&mut end, &message(b'?', 1, "orders"));
    end.positions[1] = 1_000;
    // A delivery begins at the same position of the other direction, while the first request is open.
    world.sends(&mut end, &message(b'?', 1, "prices"));
    world.reads(&mut end, &message(b'!', 1, ""));
    world.sends(&mut end, &message(b'!', 1, ""));
    let spans = world.spans();
    assert_eq!(summary(&spans), [("send orders", SpanKind::Server), ("deliver prices", SpanKind::Client)]);
    assert!(spans.iter().all(|span| span.end - span.start <= 3 * MILLISECOND));
}

#[test]
fn both_ends_of_a_delivery_are_joined() {
    let mut world = World::new();
    let (mut broker, mut worker) = (End::new(1, BROKER, role::SERVER), End::new(2, 20, role::CLIENT));
    worker.positions = [broker.positions[1], broker.positions[0]];
    let subscribe = message(b'?', 1, "orders");
    world.sends(&mut worker, &subscribe);
    world.reads(&mut broker, &subscribe);
    let delivery = message(b'?', 9, "orders");
    world.sends(&mut broker, &delivery);
    world.reads(&mut worker, &delivery);
    world.sends(&mut worker, &message(b'!', 9, ""));
    world.reads(&mut broker, &message(b'!', 9, ""));
    world.sends(&mut broker, &message(b'!', 1, ""));
    world.reads(&mut worker, &message(b'!', 1, ""));
    let spans = world.spans();
    let [subscribes, subscribed, delivers, delivered] = &spans[..] else { panic!("{spans:?}") };
    for (asks, answers) in [(subscribes, subscribed), (delivers, delivered)] {
        let parent = answers.parent.unwrap();
        assert_eq!((parent.span_id, parent.evidence), (asks.span_id, Evidence::Host));
    }
    assert_eq!(delivers.kind, SpanKind::Client, "the broker asks");
    assert_eq!(delivered.kind, SpanKind::Consumer);
}

/// The kernel names the run that a thread read last. Only if responses come in order does that name one request.
#[test]
fn an_owner_that_may_be_any_of_several_requests_is_unknown() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    let requests = [message(b'?', 1, "first"), message(b'?', 2, "second")].concat();
    let time = world.tick();
    let read = Segment { message: ids(7), ..end.operation(false, requests.len(), time) };
    world.segment(&read, &requests);
    let mut call = End::new(2, BROKER, role::CLIENT);
    let owner =
        Owner { cookie: 1, position: read.position, ids: ids(7), evidence: evidence::THREAD, ..Owner::default() };
    let asked = message(b'?', 1, "below");
    let time = world.tick();
    let sent = Segment { owner, ..call.operation(true, asked.len(), time) };
    world.segment(&sent, &asked);
    world.reads(&mut call, &message(b'!', 1, ""));
    world.sends(&mut end, &message(b'!', 2, ""));
    world.sends(&mut end, &message(b'!', 1, ""));
    let spans = world.spans();
    let below = spans.iter().find(|span| span.name.ends_with("below")).unwrap();
    assert_eq!(below.parent, None);
}

#[test]
fn a_request_alone_in_its_run_owns_the_calls_made_for_it() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    let request = message(b'?', 1, "above");
    let time = world.tick();
    let read = Segment { message: ids(7), ..end.operation(false, request.len(), time) };
    world.segment(&read, &request);
    // A delivery to the client, made for the request, on the same connection.
    let delivery = message(b'?', 1, "below");
    let owner =
        Owner { cookie: 1, position: read.position, ids: ids(7), evidence: evidence::THREAD, ..Owner::default() };
    let time = world.tick();
    let sent = Segment { owner, message: ids(8), ..end.operation(true, delivery.len(), time) };
    world.segment(&sent, &delivery);
    world.reads(&mut end, &message(b'!', 1, ""));
    world.sends(&mut end, &message(b'!', 1, ""));
    let spans = world.spans();
    let [above, below] = &spans[..] else { panic!("{spans:?}") };
    let parent = below.parent.unwrap();
    assert_eq!((parent.span_id, parent.evidence), (above.span_id, Evidence::Thread));
    assert_eq!(below.span_id.to_bytes(), 8_u64.to_be_bytes(), "the kernel's id of the delivery");
}

#[test]
fn everything_open_is_reported_at_the_end() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    world.reads(&mut end, &message(b'?', 1, "orders"));
    world.sends(&mut end, &message(b'?', 1, "prices"));
    assert_eq!(world.shutdown().len(), 2);
}

#[test]
fn a_hole_loses_what_it_may_hide_and_counts_it() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    world.reads(&mut end, &message(b'?', 1, "orders"));
    world.reads(&mut end, &message(b'?', 2, "prices"));
    // The record of the first response is lost.
    let time = world.tick();
    end.operation(true, message(b'!', 1, "").len(), time);
    world.sends(&mut end, &message(b'!', 2, ""));
    let spans = world.spans();
    let counters = &world.counters;
    assert_eq!(spans.len() as u64 + counters.requests_lost_response_missing.get(), counters.requests_begun.get());
    assert_eq!(counters.requests_begun.get(), 2);
}

#[test]
fn connections_and_bytes_are_counted_by_protocol() {
    let mut world = World::new();
    let mut end = End::new(1, BROKER, role::SERVER);
    let (request, response) = (message(b'?', 1, "orders"), message(b'!', 1, ""));
    world.reads(&mut end, &request);
    world.sends(&mut end, &response);
    world.spans();
    let counters = world.counters.protocol(&testing::STREAM).unwrap();
    assert_eq!(counters.connections.get(), 1);
    assert_eq!(counters.bytes.get(), (request.len() + response.len()) as u64);
}
