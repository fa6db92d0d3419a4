//! The protobuf wire format, as far as OTLP needs it: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! Everything is appended to a buffer, in its final form. A length stands before what it is the length of: where it is
//! known, [`begin`] writes it; where it is not, [`message`] finds it out.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

pub(crate) fn integer(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    begin(out, field, value.len());
    out.extend_from_slice(value);
}

pub(crate) fn string(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

/// What stands before a text or a nested message of `length` bytes.
pub(crate) fn begin(out: &mut Vec<u8>, field: u32, length: usize) {
    tag(out, field, LENGTH_DELIMITED);
    varint(out, length as u64);
}

/// What [`begin`] of a field below 16 takes at most: 64 bits, 7 in each byte.
pub(crate) const LONGEST_BEGIN: usize = 1 + 10;

/// A nested message of perhaps `expected` bytes: it is written behind as much room as that length takes, and moved if
/// its own turns out to take more, or less.
pub(crate) fn message(out: &mut Vec<u8>, field: u32, expected: usize, write: impl FnOnce(&mut Vec<u8>)) {
    begin(out, field, expected);
    let start = out.len();
    write(out);
    let length = (out.len() - start) as u64;
    out.splice(start - varint_length(expected as u64)..start, septets(length));
}

/// Bytes of a text or nested message of `length` bytes as a field below 16, its [`begin`] included.
pub(crate) const fn delimited_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

pub(crate) const fn varint_length(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

fn varint(out: &mut Vec<u8>, value: u64) {
    out.extend(septets(value));
}

/// The bytes of a varint: seven bits in each, the lowest first, and whether there are more.
fn septets(value: u64) -> impl Iterator<Item = u8> {
    let length = varint_length(value);
    (1..=length).map(move |nth| {
        let bits = (value >> (7 * (nth - 1))) as u8 & 0x7f;
        if nth < length { bits | 0x80 } else { bits }
    })
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_varint, encoded_len_varint};
    use rstest::rstest;

    use super::*;

    #[rstest]
    fn a_varint_is_as_ever(
        #[values(0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX)] value: u64,
    ) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        varint(&mut ours, value);
        encode_varint(value, &mut theirs);
        assert_eq!(ours, theirs);
        assert_eq!(varint_length(value), encoded_len_varint(value));
    }

    #[rstest]
    fn a_message_has_its_length_whatever_was_expected(
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
