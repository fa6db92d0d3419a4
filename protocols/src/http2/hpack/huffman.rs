//! The Huffman code of string literals (RFC 7541 5.2, appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols, and shorter codes come before
//! longer ones. So the lengths define it.

use super::Malformed;

/// The length in bits of each symbol's code. The last is that of EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const EOS: u16 = 256;
const LONGEST: usize = 30;
/// Codes up to this length are found by one look-up. They are those of most letters and digits.
const SHORT: u32 = 8;

static CODE: Code = Code::new();

/// The code, as decoding needs it.
struct Code {
    /// By length: the first code, the number of codes, and the place of the first symbol in `symbols`.
    lengths: [(u32, u32, u16); LONGEST + 1],
    /// By length, then by symbol.
    symbols: [u16; LENGTHS.len()],
    /// By the next eight bits: symbol and length of the code that they begin with. The length is 0 if it is longer.
    short: [(u8, u8); 1 << SHORT],
}

impl Code {
    const fn new() -> Self {
        let mut code =
            Self { lengths: [(0, 0, 0); LONGEST + 1], symbols: [0; LENGTHS.len()], short: [(0, 0); 1 << SHORT] };
        let (mut next, mut place, mut length) = (0_u32, 0_usize, 1);
        while length <= LONGEST {
            next <<= 1;
            code.lengths[length] = (next, 0, place as u16);
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[place] = symbol as u16;
                    if length <= SHORT as usize {
                        let spare = SHORT as usize - length;
                        let mut low = 0;
                        while low < 1 << spare {
                            code.short[((next as usize) << spare) | low] = (symbol as u8, length as u8);
                            low += 1;
                        }
                    }
                    code.lengths[length].1 += 1;
                    place += 1;
                    next += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        code
    }

    /// The symbol that the first of `count` bits encode, and the length of its code.
    fn long(&self, bits: u64, count: u32) -> Option<(u16, u32)> {
        (SHORT + 1..=count.min(LONGEST as u32)).find_map(|length| {
            let (first, codes, place) = self.lengths[length as usize];
            let code = (bits >> (count - length)) as u32 & ((1 << length) - 1);
            let nth = code.checked_sub(first).filter(|&nth| nth < codes)?;
            Some((self.symbols[place as usize + nth as usize], length))
        })
    }
}

/// Appends what `encoded` says. The output is at most 8/5 as long.
pub(super) fn decode(encoded: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    // The lowest `count` of the bits are not decoded yet.
    let (mut bits, mut count) = (0_u64, 0_u32);
    for &byte in encoded {
        (bits, count) = ((bits << 8) | u64::from(byte), count + 8);
        while count >= SHORT {
            let (symbol, length) = CODE.short[(bits >> (count - SHORT)) as usize & 0xff];
            if length > 0 {
                decoded.push(symbol);
                count -= u32::from(length);
                continue;
            }
            let Some((symbol, length)) = CODE.long(bits, count) else { break };
            if symbol == EOS {
                return Err(Malformed::Huffman);
            }
            decoded.push(symbol as u8);
            count -= length;
        }
    }
    // RFC 7541 5.2: the rest of the last byte has the most significant bits of EOS, which are ones.
    while count > 0 {
        if count >= SHORT {
            return Err(Malformed::Huffman);
        }
        let rest = (bits << (SHORT - count)) as u8 | (0xff >> count);
        let (symbol, length) = CODE.short[usize::from(rest)];
        if length == 0 || u32::from(length) > count {
            return if rest == 0xff { Ok(()) } else { Err(Malformed::Huffman) };
        }
        decoded.push(symbol);
        count -= u32::from(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::c_4_1(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], b"www.example.com")]
    #[case::c_4_2(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache")]
    #[case::c_6_1(&[0x64, 0x02], b"302")]
    #[case::empty(&[], b"")]
    #[case::long_code(&[0xff, 0xff, 0xff, 0xf3], b"\n")]
    fn the_examples_of_the_specification_are_decoded(#[case] encoded: &[u8], #[case] text: &[u8]) {
        let mut decoded = Vec::new();
        assert_eq!(decode(encoded, &mut decoded), Ok(()));
        assert_eq!(decoded, text);
    }

    #[rstest]
    #[case::padding_of_zeros(&[0x18])]
    #[case::padding_of_a_whole_byte(&[0xff])]
    #[case::padding_after_a_code(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf, 0xff])]
    #[case::end_of_string(&[0xff, 0xff, 0xff, 0xff])]
    fn what_the_specification_forbids_is_malformed(#[case] encoded: &[u8]) {
        assert_eq!(decode(encoded, &mut Vec::new()), Err(Malformed::Huffman));
    }

    /// Encodes one symbol alone, so that each code is decoded once.
    #[test]
    fn every_symbol_has_its_code() {
        for symbol in 0..EOS {
            let length = usize::from(LENGTHS[usize::from(symbol)]);
            let (first, _, place) = CODE.lengths[length];
            let nth = CODE.symbols[usize::from(place)..].iter().position(|&it| it == symbol).expect("it has a code");
            let padding = length.next_multiple_of(8) - length;
            let bits = (u64::from(first + nth as u32) << padding) | ((1 << padding) - 1);
            let bytes = bits.to_be_bytes();
            let mut decoded = Vec::new();
            assert_eq!(decode(&bytes[8 - (length + padding) / 8..], &mut decoded), Ok(()), "{symbol}");
            assert_eq!(decoded, [symbol as u8]);
        }
    }
}
