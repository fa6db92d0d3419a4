//! SSH (RFC 4253): recognised, not parsed.

use crate::moment::Direction;
use crate::spec::{Capture, Spec, Transport};
use crate::spec::{Looks, Sample};

pub static SPEC: Spec = Spec {
    name: "ssh",
    title: "SSH",
    transport: Transport::Stream,
    detect,
    parser: None,
    capture: Capture::Heads,
    concurrent: true,
    proves_roles: false,
};

/// RFC 4253 4.2: the version line, which both ends send first.
fn detect(_: Direction, sample: &Sample<'_>) -> Looks {
    Looks::begins_with(sample.bytes, b"SSH-")
}
