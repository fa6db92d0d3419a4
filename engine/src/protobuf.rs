//! The protobuf wire format, as far as OTLP needs it: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! Everything is appended to a buffer, in its final form. The length of a message precedes it. If it is known, [`begin`] writes
//! it; else [`message`] finds it out.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

pub fn integer(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    begin(out, field, value.len());
    out.extend_from_slice(value);
}

#[inline]
pub fn string(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

/// Writes tag and length of a text or nested message. The field number must be below 16.
#[inline(always)]
pub fn begin(out: &mut Vec<u8>, field: u32, length: usize) {
    let tag = (field << 3 | LENGTH_DELIMITED) as u8;
    if length < 0x80 {
        // This is nearly always so.
        out.extend_from_slice(&[tag, length as u8]);
    } else {
        out.push(tag);
        varint(out, length as u64);
    }
}

/// The most bytes that [`begin`] writes: a tag, and 64 bits with 7 in each byte.
pub const LONGEST_BEGIN: usize = 1 + 10;

/// Writes a nested message of about `expected` bytes, behind room for that length. It is moved if its actual length takes more
/// or less room.
pub fn message(out: &mut Vec<u8>, field: u32, expected: usize, write: impl FnOnce(&mut Vec<u8>)) {
    begin(out, field, expected);
    let start = out.len();
    write(out);
    let end = out.len();
    // The length is written behind the message until its place is known.
    varint(out, (end - start) as u64);
    let (reserved, needed) = (varint_length(expected as u64), out.len() - end);
    if needed == reserved {
        out.copy_within(end.., start - reserved);
        out.truncate(end);
    } else {
        out[start..].rotate_right(needed);
        out.drain(start - reserved..start);
    }
}

/// The bytes of a text or nested message of `length` bytes, with tag and length.
#[inline]
pub const fn delimited_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

#[inline]
pub const fn varint_length(value: u64) -> usize {
    if value < 0x80 {
        return 1;
    }
    (u64::BITS - value.leading_zeros()).div_ceil(7) as usize
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_varint, encoded_len_varint};
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn a_varint_is_encoded_as_prost_does(
        #[values(0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX)] value: u64,
    ) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        varint(&mut ours, value);
        encode_varint(value, &mut theirs);
        assert_eq!(ours, theirs);
        assert_eq!(varint_length(value), encoded_len_varint(value));
    }

    #[rstest]
    fn a_message_has_its_length_whatever_length_was_expected(
        #[values(0, 127, 128, 16_383, 16_384)] expected: usize,
        #[values(0, 127, 128, 16_383, 16_384)] length: usize,
    ) {
        let content = vec![7; length];
        let (mut found_out, mut known) = (vec![1], vec![1]);
        message(&mut found_out, 3, expected, |out| out.extend_from_slice(&content));
        bytes(&mut known, 3, &content);
        assert_eq!(found_out, known);
        assert_eq!(known.len(), 1 + delimited_length(length));
    }
}
