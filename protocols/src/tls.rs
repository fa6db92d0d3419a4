//! TLS records (RFC 8446): recognised, not parsed.

use crate::moment::Direction;
use crate::spec::{Capture, Spec, Transport};
use crate::spec::{Looks, Sample};

pub static SPEC: Spec = Spec {
    name: "tls",
    title: "TLS",
    transport: Transport::Stream,
    detect,
    parser: None,
    capture: Capture::Heads,
    concurrent: false,
    proves_roles: false,
};

/// RFC 8446 5.1: a record of any type and version.
fn detect(_: Direction, sample: &Sample<'_>) -> Looks {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    const APPLICATION_DATA: u8 = 23;
    const LONGEST: u16 = (1 << 14) + 2048;
    match *sample.bytes {
        [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4, high, low, ..] => {
            if (1..=LONGEST).contains(&u16::from_be_bytes([high, low])) { Looks::Right } else { Looks::Wrong }
        }
        [CHANGE_CIPHER_SPEC..=APPLICATION_DATA]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4]
        | [CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, 0..=4, _] => Looks::RightSoFar,
        _ => Looks::Wrong,
    }
}
