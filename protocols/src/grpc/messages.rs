//! Counts the messages of one direction of a call. Each is preceded by a byte of flags and its length in four bytes.

use super::ending::Ending;
use crate::kit::pieces::Content;

const PREFIX_LENGTH: usize = 5;

/// The messages of one direction, as far as they have passed.
#[derive(Debug)]
pub(super) struct Messages {
    /// `None` if a hole hides where a message begins.
    count: Option<u64>,
    prefix: [u8; PREFIX_LENGTH],
    prefix_length: usize,
    /// Bytes of the message on its way that have not passed.
    left: u64,
    end_flag: Option<u8>,
    /// The message that ends the response.
    end: Option<Ending>,
}

impl Messages {
    /// `end_flag`: a message with this flag ends the response, and is not counted.
    pub(super) fn new(is_countable: bool, end_flag: Option<u8>) -> Self {
        Self {
            count: is_countable.then_some(0),
            prefix: [0; PREFIX_LENGTH],
            prefix_length: 0,
            left: 0,
            end_flag,
            end: None,
        }
    }

    /// How many messages began and were seen to begin. `None` if it is unknown.
    pub(super) fn count(&self) -> Option<u64> {
        self.count
    }

    /// The message that ends the response.
    pub(super) fn end(&self) -> Option<&Ending> {
        self.end.as_ref()
    }

    /// Something passed unseen, of unknown length.
    pub(super) fn lose(&mut self) {
        self.count = None;
    }

    /// More of the direction's content passes.
    pub(super) fn pass(&mut self, mut content: Content<'_>) {
        while content.len() > 0 && self.count.is_some() {
            if self.left > 0 {
                let part = content.first(self.left);
                self.left -= part.len();
                content = content.after(part.len());
                match (&mut self.end, part) {
                    (Some(end), Content::Bytes(bytes)) => end.add(bytes),
                    // What follows a hole would be taken for what it hides.
                    (Some(_), Content::Hole(_)) => (self.end, self.end_flag) = (None, None),
                    (None, _) => {}
                }
                continue;
            }
            let Content::Bytes(bytes) = content else { return self.lose() };
            let part = &bytes[..bytes.len().min(PREFIX_LENGTH - self.prefix_length)];
            self.prefix[self.prefix_length..][..part.len()].copy_from_slice(part);
            self.prefix_length += part.len();
            content = content.after(part.len() as u64);
            if self.prefix_length == PREFIX_LENGTH {
                self.prefix_length = 0;
                let [flags, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                self.left = length.into();
                if self.end_flag.is_some_and(|flag| flags & flag != 0) {
                    self.end = Some(Ending::new(flags, length));
                } else {
                    self.count = self.count.map(|count| count + 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages: of 3 bytes, of none, of 300.
    fn stream() -> Vec<u8> {
        [&[0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 44][..], &[7; 300]].concat()
    }

    fn counted<'a>(parts: impl IntoIterator<Item = Content<'a>>) -> Option<u64> {
        let mut messages = Messages::new(true, None);
        parts.into_iter().for_each(|part| messages.pass(part));
        messages.count()
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = stream();
        assert_eq!(counted([Content::Bytes(&bytes)]), Some(3));
        assert_eq!(counted(bytes.chunks(1).map(Content::Bytes)), Some(3));
    }

    #[test]
    fn a_hole_within_a_message_hides_nothing_and_one_beyond_it_does() {
        let bytes = stream();
        let with_hole = |hole: std::ops::Range<usize>| {
            let missing = Content::Hole(hole.len() as u64);
            counted([Content::Bytes(&bytes[..hole.start]), missing, Content::Bytes(&bytes[hole.end..])])
        };
        assert_eq!(with_hole(5..8), Some(3));
        assert_eq!(with_hole(18..318), Some(3));
        assert_eq!((with_hole(5..9), with_hole(13..14)), (None, None));
    }

    #[test]
    fn the_message_that_ends_a_response_is_kept_and_not_counted() {
        let mut messages = Messages::new(true, Some(0x80));
        messages.pass(Content::Bytes(b"\0\0\0\0\x01a\x80\0\0\0\x0egrpc-status:5\n"));
        let end = messages.end().map(Ending::text).unwrap();
        assert_eq!((messages.count(), &*end.bytes, end.is_whole), (Some(1), &b"grpc-status:5\n"[..], true));
        let mut messages = Messages::new(true, Some(0x80));
        for part in [Content::Bytes(b"\x80\0\0\0\x0e"), Content::Hole(4), Content::Bytes(b"-status:5\n")] {
            messages.pass(part);
        }
        assert_eq!((messages.count(), messages.end().is_none()), (Some(0), true));
    }
}
