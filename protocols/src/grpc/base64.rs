//! The bytes of a body in base64, as gRPC-Web sends them to browsers.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>: a body may consist of several encoded parts, each with padding of its own.

/// Decodes a body piece by piece.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bits: u32,
    /// How many letters `bits` holds, and how many of them are padding.
    letters: u8,
    padding: u8,
}

/// How many letters are decoded at a time.
const BATCH: usize = 256;

impl Decoder {
    /// Passes the bytes of these letters on. Returns false if one is no letter of base64.
    pub(super) fn pass(&mut self, letters: &[u8], mut pass_on: impl FnMut(&[u8])) -> bool {
        let mut bytes = [0; BATCH / 4 * 3 + 3];
        for batch in letters.chunks(BATCH) {
            let mut length = 0;
            for &letter in batch {
                match value(letter) {
                    Some(value) if self.padding == 0 => self.bits = self.bits << 6 | u32::from(value),
                    None if letter == b'=' && self.letters >= 2 => {
                        self.bits <<= 6;
                        self.padding += 1;
                    }
                    _ => return false,
                }
                self.letters += 1;
                if self.letters == 4 {
                    let [_, decoded @ ..] = self.bits.to_be_bytes();
                    bytes[length..length + 3].copy_from_slice(&decoded);
                    length += 3 - usize::from(self.padding);
                    *self = Self::default();
                }
            }
            pass_on(&bytes[..length]);
        }
        true
    }
}

/// RFC 4648 4.
fn value(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", Some(""))]
    #[case("Y2FydA==", Some("cart"))]
    #[case("Y2FydHM=", Some("carts"))]
    #[case("Y2FydHNz", Some("cartss"))]
    #[case("Y2FydA==Y2FydHM=", Some("cartcarts"))]
    #[case::half("Y2FydA", Some("car"))]
    #[case::no_base64("Y2Fy!A==", None)]
    #[case::letter_behind_padding("Y2FydA=A", None)]
    #[case::padding_too_early("Y===", None)]
    fn letters_are_bytes_however_they_are_cut(#[case] letters: &str, #[case] bytes: Option<&str>) {
        for size in [1, 3, 1000] {
            let (mut decoder, mut decoded) = (Decoder::default(), Vec::new());
            let is_valid = letters
                .as_bytes()
                .chunks(size)
                .all(|part| decoder.pass(part, |bytes| decoded.extend_from_slice(bytes)));
            assert_eq!(is_valid.then_some(&*decoded), bytes.map(str::as_bytes), "{size} letters at a time");
        }
    }

    #[test]
    fn a_long_body_is_decoded_in_batches() {
        let (mut decoder, mut decoded) = (Decoder::default(), 0);
        assert!(decoder.pass(&[b'A'; 4 * BATCH + 4], |bytes| decoded += bytes.len()));
        assert_eq!(decoded, 3 * BATCH + 3);
    }
}
