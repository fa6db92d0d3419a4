//! A PROXY header, or empty lines, before the first request of a connection.

use crate::kit::{End, MILLISECOND, World};
use onlooker_common::connection::{change, role};
use onlooker_engine::model::span::{Evidence, Span};
use opentelemetry::trace::SpanKind;

const PROXY: u32 = 10;
const SERVER: u32 = 20;
const HEADER: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
const GET: &[u8] = b"GET /cart HTTP/1.1\r\nhost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// The proxy sends the header with its first request, and the server reads it alone.
#[test]
fn both_ends_behind_a_proxy_header_are_joined() {
    let served = served_behind(HEADER);
    for span in served {
        assert_eq!(span.attributes.text("client.address").as_deref(), Some("203.0.113.7"));
        assert_eq!(span.attributes.text("network.peer.address").as_deref(), Some("10.0.0.2"));
    }
}

#[test]
fn both_ends_behind_an_empty_line_are_joined() {
    served_behind(b"\r\n");
}

/// The server's spans of two requests, the first behind these bytes.
fn served_behind(header: &[u8]) -> Vec<Span> {
    let mut world = World::new();
    let (mut proxy, mut server) = (End::new(1, PROXY, role::CLIENT), End::new(2, SERVER, role::SERVER));
    server.positions = [proxy.positions[1], proxy.positions[0]];
    world.changes(&proxy, change::SEEN);
    world.changes(&server, change::SEEN);
    for before in [header, b""] {
        world.sends(&mut proxy, &[before, GET].concat());
        if !before.is_empty() {
            world.reads(&mut server, before);
        }
        world.reads(&mut server, GET);
        world.sends(&mut server, OK);
        world.reads(&mut proxy, OK);
    }
    let spans = world.spans_after(2_000 * MILLISECOND);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let (calls, served): (Vec<&Span>, Vec<&Span>) = spans.iter().partition(|span| span.kind == SpanKind::Client);
    for (call, served) in calls.into_iter().zip(&served) {
        let parent = served.parent.expect("the other end is on this host");
        assert_eq!((parent.span_id, parent.evidence), (call.span_id, Evidence::Host));
        assert_eq!(call.attributes.text("client.address"), None);
    }
    assert_eq!(world.counters.responses_without_request.get(), 0);
    assert_eq!(world.counters.connections_unknown.get(), 0);
    served.into_iter().cloned().collect()
}
