//! Records that were copied out of the ring, because they came faster than they were processed.
//!
//! Copying a record takes a hundredth of the time that processing it takes. So a burst that is larger than the ring still
//! finds room.

use zerocopy::IntoBytes as _;

/// Bytes of records that wait outside of the ring: as many as the default ring has.
const MOST_BYTES: usize = 8 << 20;
/// An empty backlog keeps this much memory.
const KEPT_BYTES: usize = 64 << 10;
const WORD: usize = size_of::<u64>();

/// A queue of records. Each is preceded by a word with its length, and aligned as in the ring.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    words: Vec<u64>,
    /// Where the oldest record begins.
    oldest: usize,
}

impl Backlog {
    pub(super) fn is_full(&self) -> bool {
        self.words.len() * WORD >= MOST_BYTES
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        self.words.push(record.len() as u64);
        let begin = self.words.len();
        self.words.resize(begin + record.len().div_ceil(WORD), 0);
        self.words[begin..].as_mut_bytes()[..record.len()].copy_from_slice(record);
    }

    /// Passes the oldest record to `each`. Returns false if there is none.
    pub(super) fn pop(&mut self, each: impl FnOnce(&[u8])) -> bool {
        let Some((&bytes, behind)) = self.words[self.oldest..].split_first() else { return false };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let words = bytes.div_ceil(WORD);
        each(&behind[..words].as_bytes()[..bytes]);
        self.oldest += 1 + words;
        if self.oldest == self.words.len() {
            self.oldest = 0;
            self.words.clear();
            self.words.shrink_to(KEPT_BYTES / WORD);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_leave_in_order_and_aligned() {
        let mut backlog = Backlog::default();
        let records: Vec<Vec<u8>> = (0..100).map(|length| vec![length; usize::from(length)]).collect();
        for round in 0..3 {
            records.iter().for_each(|record| backlog.push(record));
            for record in &records {
                let mut found = Vec::new();
                let is_there = backlog.pop(|bytes| {
                    assert_eq!(bytes.as_ptr().align_offset(WORD), 0, "round {round}");
                    found = bytes.to_vec();
                });
                assert!(is_there && found == *record);
            }
            assert!(!backlog.pop(|_| panic!("it is empty")));
        }
    }

    #[test]
    fn a_burst_is_bounded_and_its_memory_is_given_back() {
        let mut backlog = Backlog::default();
        let mut pushed = 0;
        while !backlog.is_full() {
            backlog.push(&[1; 1000]);
            pushed += 1;
        }
        assert!((8_000..=8_400).contains(&pushed), "{pushed}");
        while backlog.pop(|record| assert_eq!(record.len(), 1000)) {
            pushed -= 1;
        }
        assert_eq!(pushed, 0);
        assert!(backlog.words.capacity() * WORD <= 2 * KEPT_BYTES);
    }
}
