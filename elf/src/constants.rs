//! Finds text among the constants of a file.

use memchr::memmem;

use crate::file::{Elf, Place};

/// How much is searched of what is loaded and is no code.
const SEARCHED_BYTES: u64 = 256 << 20;
/// How much is read at a time.
const CHUNK: u64 = 1 << 20;
/// The longest text that is found whole at the border of two chunks.
const LONGEST: u64 = 512;
/// In how many places a text may be.
const PLACES: usize = 64;

/// Where a text is, before the load bias is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    /// Where the whole string begins that ends with the text. A zero byte separates it from what is before it.
    pub(crate) string: u64,
    /// Where the text ends.
    pub(crate) end: u64,
}

/// Where `text` is among the file's constants. Of more places, the first are returned.
pub(crate) fn find(elf: &Elf<'_>, text: &[u8]) -> Vec<Text> {
    let mut found: Vec<Text> = Vec::new();
    let finder = memmem::Finder::new(text);
    let mut left = SEARCHED_BYTES;
    for segment in elf.loaded().filter(|segment| !segment.executable) {
        let length = segment.place.length.min(left);
        left -= length;
        let mut from = 0;
        while from < length && found.len() < PLACES {
            let place = Place {
                offset: segment.place.offset.saturating_add(from),
                length: CHUNK.saturating_add(LONGEST).min(length - from),
            };
            let bytes = elf.bytes(place, CHUNK + LONGEST);
            for at in finder.find_iter(&bytes) {
                let before = bytes.get(..at).unwrap_or_default();
                let begins = memchr::memrchr(0, before).map_or(0, |zero| zero + 1);
                let address = |at: usize| segment.address.wrapping_add(from).wrapping_add(at as u64);
                let text = Text { string: address(begins), end: address(at + text.len()) };
                // What is at the border of two chunks is found twice. The first has the whole string.
                if !found.iter().any(|other| other.end == text.end) && found.len() < PLACES {
                    found.push(text);
                }
            }
            from += CHUNK;
        }
    }
    found
}
