//! The dynamic table (RFC 7541 2.3.2, 4), of which a part may be unknown.
//!
//! Indices count from the newest entry. So an entry is found by its index if every later insertion was seen, whatever came
//! before it. Entries that were inserted unseen are unknown.

use std::collections::VecDeque;

/// RFC 7541 4.1: what an entry counts beyond its name and value.
const OVERHEAD: usize = 32;
/// RFC 9113 6.5.2: the size before a setting is known.
const INITIAL_SIZE: usize = 4096;
/// No more is kept of a larger table. Its older entries count as unknown.
pub(super) const MAX_SIZE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Dynamic<N> {
    /// The newest first.
    entries: VecDeque<Entry<N>>,
    size: usize,
    limit: usize,
    /// `entries` are all that the table has.
    is_whole: bool,
    /// The value of an evicted entry. Its memory is used again.
    spare: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Entry<N> {
    /// `None` if it was taken from an unknown entry.
    pub(super) name: Option<N>,
    pub(super) name_length: usize,
    /// Empty if the name is not kept.
    pub(super) value: Vec<u8>,
    size: usize,
}

/// What is at an index.
pub(super) enum Found<'a, N> {
    Entry(&'a Entry<N>),
    /// An entry that was inserted unseen.
    Unknown,
    /// Nothing: the index is invalid.
    Nothing,
}

impl<N> Dynamic<N> {
    /// `is_whole`: the table is empty. Otherwise it has unknown entries and an unknown size.
    pub(super) fn new(is_whole: bool) -> Self {
        let limit = if is_whole { INITIAL_SIZE } else { MAX_SIZE };
        Self { entries: VecDeque::new(), size: 0, limit, is_whole, spare: Vec::new() }
    }

    /// The entry with this index. The newest has index 0.
    pub(super) fn get(&self, index: usize) -> Found<'_, N> {
        match self.entries.get(index) {
            Some(entry) => Found::Entry(entry),
            None if self.is_whole => Found::Nothing,
            None => Found::Unknown,
        }
    }

    /// Insertions and changes of size passed unseen.
    pub(super) fn lose(&mut self) {
        self.entries.clear();
        (self.size, self.limit, self.is_whole) = (0, MAX_SIZE, false);
    }

    /// RFC 7541 4.3. An empty table is known again. Returns whether the table may become larger than what is kept.
    pub(super) fn resize(&mut self, limit: usize) -> bool {
        self.is_whole = limit == 0 || (self.is_whole && limit <= MAX_SIZE);
        self.limit = limit.min(MAX_SIZE);
        self.shrink_to(self.limit);
        limit > MAX_SIZE
    }

    /// RFC 7541 4.4. The lengths are those of the texts, of which `value` may be none.
    ///
    /// If the name is unknown, its length is 0. Then the table may keep an entry for longer than the encoder does, which
    /// does not refer to it any more.
    pub(super) fn insert(&mut self, name: Option<N>, (name_length, value_length): (usize, usize), value: &[u8]) {
        let size = name_length.saturating_add(value_length).saturating_add(OVERHEAD);
        self.shrink_to(self.limit.saturating_sub(size));
        if size > self.limit {
            return;
        }
        let mut kept = std::mem::take(&mut self.spare);
        kept.clear();
        kept.extend_from_slice(value);
        self.size += size;
        self.entries.push_front(Entry { name, name_length, value: kept, size });
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size
            && let Some(evicted) = self.entries.pop_back()
        {
            self.size -= evicted.size;
            self.spare = evicted.value;
        }
    }
}
