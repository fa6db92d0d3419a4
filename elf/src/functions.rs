//! Where functions begin and end, by the table for unwinding (`.eh_frame_hdr`). Stripped files have it too.
//!
//! The table is found by its program header. It lists the beginnings of all functions in order, each with the place of its
//! entry in `.eh_frame`, which has the function's length (Linux Standard Base, Exception Frames).

use std::ops::Range;

use crate::file::{Elf, Place};

/// The largest table that is read. Envoy's has 240,000 functions and 1.9 MiB.
const TABLE_BYTES: u64 = 32 << 20;
/// Version 1, a relative address of 4 bytes, a count of 4 bytes, entries of two addresses of 4 bytes that are relative to the
/// table. All linkers write this form.
const FORM: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
const HEADER: usize = 12;
const ENTRY: usize = 8;
/// Code of a longer function is not read. Interpreters have loops of 100 KiB.
const FUNCTION_BYTES: u64 = 1 << 20;

/// The functions of a file, by address.
#[derive(Debug)]
pub struct Functions {
    /// Of the table, before the load bias is added.
    address: u64,
    table: Vec<u8>,
}

impl Functions {
    /// Reads the table. None if there is none.
    #[must_use]
    pub fn read(elf: &Elf<'_>) -> Option<Self> {
        let (address, place) = elf.unwinding()?;
        let mut table = elf.bytes(place, TABLE_BYTES);
        if table.first_chunk() != Some(&FORM) {
            return None;
        }
        let count = u32::from_le_bytes(*table.get(8..)?.first_chunk()?) as usize;
        table.truncate(HEADER.saturating_add(count.saturating_mul(ENTRY)));
        Some(Self { address, table })
    }

    /// The function that contains `address`: from its beginning to its end, before the load bias is added.
    #[must_use]
    pub fn containing(&self, elf: &Elf<'_>, address: u64) -> Option<Range<u64>> {
        let (entries, _) = self.table.get(HEADER..)?.as_chunks::<ENTRY>();
        let after = entries.partition_point(|entry| self.relative(entry, 0) <= address);
        let entry = entries.get(after.checked_sub(1)?)?;
        let start = self.relative(entry, 0);
        let description = self.relative(entry, 4);
        let next = entries.get(after).map_or(u64::MAX, |next| self.relative(next, 0));
        let length = length(elf, description, start).unwrap_or_else(|| next.wrapping_sub(start));
        let end = start.checked_add(length.min(FUNCTION_BYTES))?.min(next);
        (start..end).contains(&address).then_some(start..end)
    }

    fn relative(&self, entry: &[u8; ENTRY], at: usize) -> u64 {
        let relative =
            entry.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| i32::from_le_bytes(*word));
        self.address.wrapping_add_signed(relative.into())
    }
}

/// The length of the function at `start`, by its description in `.eh_frame`: the description's length, the place of what it
/// has in common with others, and the function's beginning, relative to itself, and length. None if it has another form.
fn length(elf: &Elf<'_>, description: u64, start: u64) -> Option<u64> {
    let bytes = elf.bytes(Place { length: 16, ..elf.place_from(description)? }, 16);
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let begins = description.wrapping_add(8).wrapping_add_signed(i64::from(word(8)?.cast_signed()));
    (begins == start).then(|| word(12).map(u64::from))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::Tables;

    #[test]
    fn functions_begin_and_end_where_symbols_say() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = std::fs::read(maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap()).unwrap();
        let content = libc.as_slice();
        let elf = Elf::open(&content).unwrap();
        let functions = Functions::read(&elf).unwrap();
        let tables = Tables::read(&elf);
        for name in ["getpid", "fopen", "qsort", "getaddrinfo"] {
            let symbol = tables.find(name).unwrap();
            let expected = symbol.address..symbol.address + symbol.size;
            assert_eq!(functions.containing(&elf, symbol.address), Some(expected.clone()), "{name}");
            assert_eq!(functions.containing(&elf, expected.end - 1), Some(expected), "{name}");
        }
        assert_eq!(functions.containing(&elf, 0), None);
    }
}
