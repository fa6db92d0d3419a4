//! The messages that rustls encrypts, in its memory.
//!
//! A message has its payload, and then its type and its version, in either order. Each of these is an enum, which begins with a number of
//! rustls's own, and has the value in the record behind it. The payload is:
//!
//! - before 0.23, a slice: its address and its length.
//! - `OutboundChunks::Single`: 0, and a slice.
//! - `OutboundChunks::Multiple`: the address and number of several slices, and which of their bytes are sent: the first, and the one
//!   behind the last.

use crate::record::arguments::Bytes;
use crate::user;

/// `ContentType::ApplicationData`. The type has two bytes.
const APPLICATION_DATA: u64 = 3;
const TYPE_MASK: u64 = 0xff;
const TYPE_BITS: u32 = 16;
/// `ProtocolVersion::TLSv1_2` and `TLSv1_3`. The version has four bytes.
const VERSIONS: [u64; 2] = [4, 5];
const VERSION_MASK: u64 = 0xffff;
const VERSION_BITS: u32 = 32;
/// No message is so long.
const LONGEST: u64 = 1 << 16;
/// Slices in which the beginning of a part is looked for.
const SLICES: u64 = 8;

/// Application data that is going to be sent.
#[derive(Clone, Copy)]
pub struct Sending {
    pub bytes: Bytes,
    pub length: u64,
}

/// Whether a message is application data, by the word behind its payload.
#[inline(always)]
pub fn is_application_data(word: u64) -> bool {
    let is =
        |kind: u64, version: u64| kind & TYPE_MASK == APPLICATION_DATA && VERSIONS.contains(&(version & VERSION_MASK));
    is(word, word >> TYPE_BITS) || is(word >> VERSION_BITS, word)
}

impl Sending {
    /// The message at this address. None if it is no application data.
    #[inline(always)]
    pub fn of(message: u64) -> Option<Self> {
        let [first, second, third, fourth, fifth] = user::peek::<[u64; 5]>(message)?;
        let (sending, kind) = if first == 0 {
            (Self { bytes: Bytes::buffer(second), length: third }, fifth)
        } else if is_application_data(third) {
            // Parts of several slices begin at multiples of a record's length.
            (Self { bytes: Bytes::buffer(first), length: second }, third)
        } else {
            (Self { bytes: part(first, second, third, fourth), length: fourth.wrapping_sub(third) }, fifth)
        };
        let has_length = sending.length > 0 && sending.length <= LONGEST;
        (is_application_data(kind) && has_length).then_some(sending)
    }
}

/// Where the bytes from `start` to `end` of several slices are. Slices look like iovecs. A part that begins within the slices and
/// is in more than one of them is not captured.
#[inline(always)]
fn part(slices: u64, how_many: u64, start: u64, end: u64) -> Bytes {
    if start == 0 {
        return Bytes { at: slices, buffers: how_many };
    }
    let mut before = 0;
    for index in 0..SLICES {
        if index >= how_many {
            break;
        }
        let Some((at, size)) = user::buffer(slices, index) else { break };
        if start < before + size {
            let is_whole = end <= before + size;
            return if is_whole { Bytes::buffer(at.wrapping_add(start - before)) } else { Bytes::NOWHERE };
        }
        before += size;
    }
    Bytes::NOWHERE
}
