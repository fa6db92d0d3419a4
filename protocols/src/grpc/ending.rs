//! The message that ends a response of gRPC-Web or of a stream of Connect. It holds the status.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::bufread::GzDecoder;

/// What is kept of the message, and what is read of it if it is compressed. Libraries write the fields of a status first, or in the
/// order of their names.
const KEPT: usize = 1024;

/// The flag of a compressed message, in both protocols.
const COMPRESSED: u8 = 0x01;

/// The message, as far as it has passed.
#[derive(Debug)]
pub(super) struct Ending {
    bytes: Vec<u8>,
    is_compressed: bool,
    length: usize,
}

/// What the message says.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Nothing follows the bytes.
    pub(super) is_whole: bool,
}

impl Ending {
    /// A message whose prefix has these flags and this length.
    pub(super) fn new(flags: u8, length: u32) -> Self {
        Self { bytes: Vec::new(), is_compressed: flags & COMPRESSED != 0, length: length as usize }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The beginning of what it says. Empty if it is compressed in another way than gzip, the only one that all libraries have.
    pub(super) fn text(&self) -> Text<'_> {
        if self.is_compressed {
            return inflate(&self.bytes);
        }
        Text { bytes: Cow::Borrowed(&self.bytes), is_whole: self.bytes.len() == self.length }
    }
}

fn inflate(gzip: &[u8]) -> Text<'static> {
    let mut bytes = vec![0; KEPT];
    let mut decoder = GzDecoder::new(gzip);
    let mut length = 0;
    let is_whole = loop {
        match decoder.read(&mut bytes[length..]) {
            // There was no room for more.
            Ok(0) if length == KEPT => break false,
            Ok(0) => break true,
            Ok(more) => length += more,
            Err(_) => break false,
        }
    };
    bytes.truncate(length);
    Text { bytes: Cow::Owned(bytes), is_whole }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use rstest::rstest;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text_of(flags: u8, length: usize, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut ending = Ending::new(flags, length as u32);
        bytes.chunks(7).for_each(|part| ending.add(part));
        let text = ending.text();
        (text.bytes.into_owned(), text.is_whole)
    }

    #[test]
    fn a_compressed_message_says_the_same_as_a_plain_one() {
        let said = b"grpc-message: no cart\r\ngrpc-status: 5\r\n";
        assert_eq!(text_of(0x80, said.len(), said), (said.to_vec(), true));
        let packed = gzip(said);
        assert_eq!(text_of(0x81, packed.len(), &packed), (said.to_vec(), true));
    }

    #[rstest]
    #[case::no_gzip(0x81, b"grpc-status: 5\r\n".to_vec())]
    #[case::nothing(0x81, Vec::new())]
    #[case::cut(0x81, gzip(b"grpc-status: 5\r\n")[..12].to_vec())]
    #[case::plain_and_cut(0x80, b"grpc-status: 1".to_vec())]
    fn a_message_is_whole_only_if_all_of_it_passed(#[case] flags: u8, #[case] bytes: Vec<u8>) {
        assert!(!text_of(flags, 16, &bytes).1);
    }

    #[test]
    fn no_more_is_read_than_is_kept() {
        let packed = gzip(&[b'x'; 1 << 20]);
        let (text, is_whole) = text_of(0x81, packed.len(), &packed);
        assert_eq!((text.len(), is_whole), (KEPT, false));
        let (text, is_whole) = text_of(0x80, 1 << 20, &[b'x'; 1 << 20]);
        assert_eq!((text.len(), is_whole), (KEPT, false));
    }
}
