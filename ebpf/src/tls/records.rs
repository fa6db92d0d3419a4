//! TLS records (RFC 8446 5.1).

use crate::user;

const CHANGE_CIPHER_SPEC: u8 = 20;
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;
const MAJOR_VERSION: u8 = 3;
const LATEST_MINOR_VERSION: u8 = 4;
/// 2^14 bytes, and what encryption may add.
const LONGEST: u16 = (1 << 14) + 2048;
pub const HEADER_BYTES: u64 = 5;

/// A record's header.
#[derive(Clone, Copy)]
pub struct Header {
    pub kind: u8,
    /// Bytes of the record behind the header.
    pub length: u16,
}

/// The header of the record that begins at the address, if one does.
#[inline(always)]
pub fn header(at: u64) -> Option<Header> {
    let [kind, major, minor, high, low] = user::peek::<[u8; HEADER_BYTES as usize]>(at)?;
    let length = u16::from_be_bytes([high, low]);
    let is_header = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind)
        && major == MAJOR_VERSION
        && minor <= LATEST_MINOR_VERSION
        && length > 0
        && length <= LONGEST;
    if is_header { Some(Header { kind, length }) } else { None }
}
