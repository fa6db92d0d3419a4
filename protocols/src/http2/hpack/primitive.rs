//! Integers and string literals (RFC 7541 5).

use super::{Malformed, huffman};

/// Larger integers are malformed. Nothing that may be sent is as long.
const LARGEST: u64 = 1 << 28;

/// Takes an integer off the beginning. It begins in the lowest `bits` of the first byte (RFC 7541 5.1).
pub(super) fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let (&first, mut rest) = block.split_first().ok_or(Malformed::Truncated)?;
    let most = (1_u64 << bits) - 1;
    let mut value = u64::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, next) = rest.split_first().ok_or(Malformed::Truncated)?;
            rest = next;
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if value > LARGEST || shift > 35 {
                return Err(Malformed::Integer);
            }
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    usize::try_from(value).map_err(|_| Malformed::Integer)
}

/// A string literal, as it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Literal<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

impl<'a> Literal<'a> {
    /// Takes a string literal off the beginning (RFC 7541 5.2).
    pub(super) fn take(block: &mut &'a [u8]) -> Result<Self, Malformed> {
        let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed::Truncated)?;
        *block = rest;
        Ok(Self { bytes, is_huffman })
    }

    /// The text. `room` is used if it must be decoded.
    pub(super) fn text<'t>(self, room: &'t mut Vec<u8>) -> Result<&'t [u8], Malformed>
    where
        'a: 't,
    {
        if !self.is_huffman {
            return Ok(self.bytes);
        }
        room.clear();
        huffman::decode(self.bytes, room)?;
        Ok(room)
    }
}
