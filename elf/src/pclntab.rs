//! Finds a function in the table by which Go's runtime knows its functions. Stripped executables have it too.
//!
//! The table's layout is that of Go 1.18 and later (internal/abi and runtime/symtab.go in Go's source).

use std::ops::Range;

use memchr::memmem;

use crate::file::Elf;

/// The largest table that is read. Kubernetes' kubelet has 40 MiB.
const TABLE_BYTES: u64 = 128 << 20;
/// The magics of Go 1.18 and 1.19, and of 1.20 and later.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Sections that hold it: in an executable at a fixed address, and in others.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// The table of functions of a Go program.
#[derive(Debug)]
pub struct Table {
    /// Before the load bias is added.
    pub address: u64,
    bytes: Vec<u8>,
}

impl Table {
    /// Places in the header: how many functions there are, and where the tables of names and of functions are.
    const COUNT: usize = 8;
    const NAMES: usize = 32;
    const FUNCTIONS: usize = 64;

    /// Reads the table. None if there is none.
    #[must_use]
    pub fn read(elf: &Elf<'_>) -> Option<Self> {
        let (section, place) = SECTIONS.iter().find_map(|section| Some((*section, elf.section_place(section)?)))?;
        Some(Self { address: elf.section_address(section)?, bytes: elf.bytes(place, TABLE_BYTES) })
    }

    /// Where the names of functions are, relative to the table.
    #[must_use]
    pub fn names(&self) -> Option<u64> {
        self.long(Self::NAMES).map(|names| names as u64)
    }

    /// Where the function called `name` begins, and where the next begins. Both are relative to the first function of the
    /// program.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Range<u64>> {
        if !MAGICS.contains(&self.word(0)?) || self.bytes.get(7) != Some(&8) {
            return None;
        }
        let names = self.bytes.get(self.long(Self::NAMES)?..)?;
        let wanted = u32::try_from(memmem::find(names, format!("\0{name}\0").as_bytes())? + 1).ok()?;
        let functions = self.long(Self::FUNCTIONS)?;
        let count = self.long(Self::COUNT)?.min(self.bytes.len() / 8);
        let first = self.word(functions)?;
        let (start, end) = (0..count).find_map(|index| {
            let at = functions.checked_add(index * 8)?;
            // A function's entry, and where its data is. The data begins with the entry and the place of its name.
            let data = functions.checked_add(self.word(at.checked_add(4)?)? as usize)?;
            // The last entry is the end of the code, without data.
            (self.word(data.checked_add(4)?)? == wanted)
                .then(|| Some((self.word(at)?, self.word(at.checked_add(8)?)?)))?
        })?;
        Some(start.checked_sub(first)?.into()..end.checked_sub(first)?.into())
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    fn long(&self, at: usize) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of functions, each 16 bytes long, from 0x20 on.
    fn table(names: &[&str]) -> Vec<u8> {
        const HEADER: usize = 72;
        let all_names: Vec<u8> = names.iter().flat_map(|name| [&[0], name.as_bytes()].concat()).chain([0]).collect();
        let functions = (HEADER + all_names.len()).next_multiple_of(8);
        let mut bytes = vec![0; functions];
        bytes[..4].copy_from_slice(&MAGICS[1].to_le_bytes());
        bytes[6..8].copy_from_slice(&[1, 8]);
        for (at, value) in [(Table::COUNT, names.len()), (Table::NAMES, HEADER), (Table::FUNCTIONS, functions)] {
            bytes[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
        }
        bytes[HEADER..HEADER + all_names.len()].copy_from_slice(&all_names);
        let data = 8 * names.len() + 4;
        let entry = |index: usize| 0x20 + 16 * index as u32;
        for index in 0..names.len() {
            bytes.extend(entry(index).to_le_bytes());
            bytes.extend((data as u32 + 8 * index as u32).to_le_bytes());
        }
        bytes.extend(entry(names.len()).to_le_bytes());
        let mut at = 1;
        for (index, name) in names.iter().enumerate() {
            bytes.extend(entry(index).to_le_bytes());
            bytes.extend((at as u32).to_le_bytes());
            at += name.len() + 1;
        }
        bytes
    }

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        let table = Table { address: 0, bytes: table(&["main.main", "net/http.Get", "net/http.GetAll"]) };
        assert_eq!(table.function("main.main"), Some(0..0x10));
        assert_eq!(table.function("net/http.GetAll"), Some(0x20..0x30));
        assert_eq!(table.function("net/http.G"), None);
    }

    #[test]
    fn a_damaged_table_causes_no_panic() {
        let whole = table(&["main.main", "net/http.Get"]);
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = Table { address: 0, bytes }.function("net/http.Get");
            }
            let _ = Table { address: 0, bytes: whole[..at].to_vec() }.function("net/http.Get");
        }
    }
}
