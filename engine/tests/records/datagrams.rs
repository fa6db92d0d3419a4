//! Requests and responses in datagrams.

use crate::kit::{MILLISECOND, World, address, summary};
use onlooker_common::connection::role;
use onlooker_common::datagram::Datagram;
use onlooker_common::kind;
use onlooker_common::segment::flag;
use onlooker_protocols::testing::{self, message};
use opentelemetry::trace::SpanKind;

const RESOLVER: u32 = 10;

/// A server's socket, and one of its peers.
fn datagram(world: &mut World, peer: u16, is_sent: bool, bytes: &[u8]) {
    let datagram = Datagram {
        kind: kind::DATAGRAM,
        captured: bytes.len() as u32,
        length: bytes.len() as u32,
        time: world.tick(),
        cookie: 3,
        flags: u32::from(is_sent) * flag::EGRESS,
        tgid: RESOLVER,
        family: 2,
        role: role::SERVER,
        local_port: 53,
        remote_port: peer,
        local_address: address([10, 0, 0, 1]),
        remote_address: address([10, 0, 0, 2]),
        ..Datagram::default()
    };
    world.datagram(&datagram, bytes);
}

#[test]
fn each_peer_of_a_socket_has_its_own_requests() {
    let mut world = World::new();
    datagram(&mut world, 40_000, false, &message(b'?', 1, "a"));
    datagram(&mut world, 40_001, false, &message(b'?', 1, "b"));
    datagram(&mut world, 40_001, true, &message(b'!', 1, ""));
    datagram(&mut world, 40_000, true, &message(b'!', 1, ""));
    let spans = world.spans();
    assert_eq!(summary(&spans), [("send a", SpanKind::Server), ("send b", SpanKind::Server)]);
    let took: Vec<_> = spans.iter().map(|span| (span.end - span.start) / MILLISECOND).collect();
    assert_eq!(took, [3, 1]);
    assert_eq!(spans[0].attributes.text("client.address").as_deref(), Some("10.0.0.2"));
    let counters = world.counters.protocol(&testing::DATAGRAM).unwrap();
    assert_eq!(counters.connections.get(), 2);
}

#[test]
fn one_broken_datagram_leaves_the_others_alone() {
    let mut world = World::new();
    datagram(&mut world, 40_000, false, &message(b'?', 1, "a"));
    datagram(&mut world, 40_000, false, b"noise");
    datagram(&mut world, 40_000, true, &message(b'!', 1, ""));
    assert_eq!(world.spans().len(), 1);
    assert_eq!(world.counters.datagrams_unparsable.get(), 1);
}

#[test]
fn a_request_without_a_response_is_given_up_at_its_age() {
    let mut world = World::new();
    datagram(&mut world, 40_000, false, &message(b'?', 1, "a"));
    assert!(world.spans().is_empty());
    let spans = world.spans_after(300_000 * MILLISECOND);
    let spans = if spans.is_empty() { world.spans() } else { spans };
    assert_eq!(spans[0].attributes.text("onlooker.incomplete").as_deref(), Some("aged"));
    // The flow is idle now and forgotten. Its socket goes on.
    datagram(&mut world, 40_000, false, &message(b'?', 1, "b"));
    datagram(&mut world, 40_000, true, &message(b'!', 1, ""));
    assert_eq!(summary(&world.spans()), [("send b", SpanKind::Server)]);
}

#[test]
fn flows_of_no_known_protocol_are_counted() {
    let mut world = World::new();
    for _ in 0..10 {
        datagram(&mut world, 40_000, false, b"noise");
    }
    assert_eq!(world.counters.connections_unknown.get(), 1);
    assert!(world.shutdown().is_empty());
    assert_eq!(world.counters.connections_unknown.get(), 1);
}
