//! Finds a function in the table by which Go's runtime knows its functions. Stripped executables have it too.
//!
//! The table's layout is that of Go 1.18 and later (internal/abi and runtime/symtab.go in Go's source).

use memchr::memmem;

use crate::attach::{Mapped, Memory};
use crate::elf::{Elf, Segment};

/// The largest table that is read. Kubernetes' kubelet has 40 MiB.
const TABLE_BYTES: u64 = 128 << 20;
/// How much writable memory is searched for the module's data.
const DATA_BYTES: u64 = 64 << 20;
/// The magics of Go 1.18 and 1.19, and of 1.20 and later.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Sections that hold it: in an executable at a fixed address, and in others.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// In `runtime.moduledata`: the address of the first function. Behind `pcHeader`, six slices and `findfunctab`.
const MINPC: usize = 8 + 6 * 24 + 8;

/// The address of the function called `name` in the process, before the load bias is added.
pub(super) fn function(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory, name: &str) -> Option<u64> {
    let (section, place) = SECTIONS.iter().find_map(|section| Some((*section, elf.section_place(section)?)))?;
    let table = Table { bytes: elf.bytes(place, TABLE_BYTES) };
    let (first, wanted) = table.entries(name)?;
    let header = elf.section_address(section)?.wrapping_add(mapped.bias);
    let minpc = minpc(elf, mapped, memory, header)?;
    Some(minpc.wrapping_add(u64::from(wanted.checked_sub(first)?)).wrapping_sub(mapped.bias))
}

/// The address of the first function in the process, from the module's data: the struct that begins with the table's address
/// and continues with that of the table of function names.
fn minpc(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory, header: u64) -> Option<u64> {
    let names = header.wrapping_add(memory.read::<u64>(header.wrapping_add(Table::NAMES as u64)).ok()?);
    let mut left = DATA_BYTES;
    elf.loaded().filter(|segment| segment.writable).find_map(|segment: &Segment| {
        let length = segment.place.length.min(left);
        left -= length;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        memory.read_into(segment.address.wrapping_add(mapped.bias), &mut bytes).ok()?;
        let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let found = memmem::find_iter(&bytes, &header.to_ne_bytes()).find(|&at| word(at + 8) == Some(names))?;
        word(found + MINPC)
    })
}

struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// Places in the header: how many functions there are, and where the tables of names and of functions are.
    const COUNT: usize = 8;
    const NAMES: usize = 32;
    const FUNCTIONS: usize = 64;

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    fn long(&self, at: usize) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?)).ok()
    }

    /// Where the first function and the function called `name` begin, relative to the code.
    fn entries(&self, name: &str) -> Option<(u32, u32)> {
        if !MAGICS.contains(&self.word(0)?) || self.bytes.get(7) != Some(&8) {
            return None;
        }
        let names = self.bytes.get(self.long(Self::NAMES)?..)?;
        let wanted = u32::try_from(memmem::find(names, format!("\0{name}\0").as_bytes())? + 1).ok()?;
        let functions = self.long(Self::FUNCTIONS)?;
        let count = self.long(Self::COUNT)?.min(self.bytes.len() / 8);
        let first = self.word(functions)?;
        (0..count).find_map(|index| {
            let at = functions.checked_add(index * 8)?;
            // A function's entry, and where its data is. The data begins with the entry and the place of its name.
            let data = functions.checked_add(self.word(at + 4)? as usize)?;
            (self.word(data.checked_add(4)?)? == wanted).then(|| Some((first, self.word(at)?)))?
        })
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
        let table = Table { bytes: table(&["main.main", "net/http.Get", "net/http.GetAll"]) };
        assert_eq!(table.entries("main.main"), Some((0x20, 0x20)));
        assert_eq!(table.entries("net/http.GetAll"), Some((0x20, 0x40)));
        assert_eq!(table.entries("net/http.G"), None);
    }

    #[test]
    fn a_damaged_table_causes_no_panic() {
        let whole = table(&["main.main", "net/http.Get"]);
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                Table { bytes }.entries("net/http.Get");
            }
            Table { bytes: whole[..at].to_vec() }.entries("net/http.Get");
        }
    }
}
