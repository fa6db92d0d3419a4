//! Where the functions of Go's own table are in a process.
//!
//! The table has the functions' places relative to the first. Only the module's data in the process's memory says where the
//! first is, in every release and kind of executable.

use std::ops::Range;

use memchr::memmem;
use onlooker_elf::pclntab::Table;
use onlooker_elf::{Elf, Segment};

use crate::attach::{Mapped, Memory};

/// How much writable memory is searched for the module's data.
const DATA_BYTES: u64 = 64 << 20;
/// In `runtime.moduledata`: the address of the first function. Behind `pcHeader`, six slices and `findfunctab`.
const MINPC: usize = 8 + 6 * 24 + 8;

/// The functions of a process.
pub(super) struct Functions {
    table: Table,
    /// The address of the first function, before the load bias is added.
    first: u64,
}

impl Functions {
    pub(super) fn read(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory) -> Option<Self> {
        let table = Table::read(elf)?;
        let header = table.address.wrapping_add(mapped.bias);
        let names = header.wrapping_add(table.names()?);
        let first = minpc(elf, mapped, memory, header, names)?.wrapping_sub(mapped.bias);
        Some(Self { table, first })
    }

    /// Where the function called `name` begins and ends, before the load bias is added.
    pub(super) fn find(&self, name: &str) -> Option<Range<u64>> {
        let function = self.table.function(name)?;
        Some(self.first.checked_add(function.start)?..self.first.checked_add(function.end)?)
    }
}

/// The address of the first function in the process, from the module's data: the struct that begins with the table's address
/// and continues with that of the table of function names, `names`.
fn minpc(elf: &Elf<'_>, mapped: &Mapped, memory: &Memory, header: u64, names: u64) -> Option<u64> {
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
