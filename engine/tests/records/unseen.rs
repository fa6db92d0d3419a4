//! Bytes that passed unseen at one end.

use crate::kit::{End, MILLISECOND, World};
use onlooker_common::connection::role;
use opentelemetry::trace::SpanKind;

/// The client reads the body by splice. The earliest time of its end must not shorten the server's span.
#[test]
fn a_body_that_one_end_does_not_see_does_not_shorten_the_other() {
    const GET: &[u8] = b"GET /cart HTTP/1.1\r\nhost: shop\r\n\r\n";
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
    let mut world = World::new();
    let (mut client, mut server) = (End::new(1, 10, role::CLIENT), End::new(2, 20, role::SERVER));
    server.positions = [client.positions[1], client.positions[0]];
    world.sends(&mut client, GET);
    world.reads(&mut server, GET);
    world.sends(&mut server, head);
    world.reads(&mut client, head);
    world.sends(&mut server, &[b'x'; 9000]);
    client.positions[0] += 9000;
    world.sends(&mut client, GET);
    world.reads(&mut server, GET);
    world.sends(&mut server, b"HTTP/1.1 204 No Content\r\n\r\n");
    world.reads(&mut client, b"HTTP/1.1 204 No Content\r\n\r\n");
    let spans = world.spans();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let first = |kind| spans.iter().find(|span| span.kind == kind).unwrap_or_else(|| panic!("{spans:#?}"));
    let (call, served) = (first(SpanKind::Client), first(SpanKind::Server));
    assert_eq!((served.end - served.start) / MILLISECOND, 3, "until the body was sent");
    assert_eq!((call.end - call.start) / MILLISECOND, 3, "until the head was read");
    assert_eq!(call.attributes.text("onlooker.incomplete").as_deref(), Some("unseen_end"));
    assert_eq!(served.attributes.text("onlooker.incomplete"), None);
}
