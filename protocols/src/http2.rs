//! HTTP/2 (RFC 9113): recognised, not parsed.

use crate::moment::Direction;
use crate::spec::{Capture, Spec, Transport};
use crate::spec::{Looks, Sample};

pub static SPEC: Spec = Spec {
    name: "http2",
    title: "HTTP/2",
    transport: Transport::Stream,
    detect,
    parser: None,
    capture: Capture::Heads,
    concurrent: true,
    proves_roles: false,
};

/// RFC 9113 3.4: a client begins with the preface, a server with a SETTINGS frame on stream 0.
fn detect(_: Direction, sample: &Sample<'_>) -> Looks {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    if let [0, 0, length, SETTINGS, 0, 0, 0, 0, 0, ..] = *sample.bytes
        && length % 6 == 0
    {
        return Looks::Right;
    }
    Looks::begins_with(sample.bytes, PREFACE)
}
