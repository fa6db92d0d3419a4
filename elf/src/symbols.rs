//! Finds symbols in the tables of an ELF file: dynamic symbols and the full symbol table.
//!
//! A file without section headers still has its dynamic symbols, because the dynamic linker finds them by the dynamic
//! section. How many there are follows from their hash table.

use memchr::memmem;
use object::Endianness;
use object::elf::{self, Dyn64, FileHeader64, Sym64};
use object::pod;
use object::read::elf::{Dyn as _, GnuHashTable, HashTable, Sym as _};

use crate::file::{Elf, Place};

/// The largest table that is read. libjvm's symbols take 6 MiB and their names 12 MiB. A larger table is read in part.
const TABLE_BYTES: u64 = 64 << 20;
/// A dynamic section has about 30 entries of 16 bytes.
const DYNAMIC_BYTES: u64 = 64 << 10;

/// Where a function or variable is, before the load bias is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    pub address: u64,
    pub size: u64,
}

/// The symbol tables of a file, in the order in which they are searched.
#[derive(Debug)]
pub struct Tables(Vec<Table>);

#[derive(Debug)]
struct Table {
    symbols: Vec<u8>,
    names: Vec<u8>,
}

impl Tables {
    #[must_use]
    pub fn read(elf: &Elf<'_>) -> Self {
        let by_section = |symbols, names| {
            let symbols = elf.bytes(elf.section_place(symbols)?, TABLE_BYTES);
            Some(Table { symbols, names: elf.bytes(elf.section_place(names)?, TABLE_BYTES) })
        };
        let dynamic = by_section(".dynsym", ".dynstr").or_else(|| by_dynamic_section(elf));
        Self(dynamic.into_iter().chain(by_section(".symtab", ".strtab")).collect())
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<Definition> {
        self.0.iter().find_map(|table| table.find(name.as_bytes()))
    }

    /// Whether a symbol's name contains `text`.
    #[must_use]
    pub fn have_names_with(&self, text: &str) -> bool {
        self.0.iter().any(|table| memmem::find(&table.names, text.as_bytes()).is_some())
    }

    /// Passes each definition to `visit`: its name, its type (`STT_FUNC` and so on), and where it is.
    pub fn each(&self, mut visit: impl FnMut(&[u8], elf::SymbolType, Definition)) {
        for table in &self.0 {
            let endian = Endianness::default();
            for symbol in table.symbols().iter().filter(|symbol| !symbol.is_undefined(endian)) {
                let name = table.names.get(symbol.st_name(endian) as usize..).unwrap_or_default();
                let length = memchr::memchr(0, name).unwrap_or(name.len());
                let definition = Definition { address: symbol.st_value(endian), size: symbol.st_size(endian) };
                visit(&name[..length], symbol.st_type(), definition);
            }
        }
    }
}

impl Table {
    fn symbols(&self) -> &[Sym64<Endianness>] {
        let count = self.symbols.len() / size_of::<Sym64<Endianness>>();
        pod::slice_from_bytes::<Sym64<Endianness>>(&self.symbols, count).map_or(&[], |(symbols, _)| symbols)
    }

    fn find(&self, name: &[u8]) -> Option<Definition> {
        // Most files do not have most names. This search is many times faster than a look at each symbol.
        memmem::find(&self.names, name)?;
        let symbols = self.symbols();
        let endian = Endianness::default();
        let symbol = symbols.iter().find(|symbol| {
            let places = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT | elf::STT_NOTYPE);
            places
                && !symbol.is_undefined(endian)
                && self.names.get(symbol.st_name(endian) as usize..).is_some_and(|at| is_named(at, name))
        })?;
        Some(Definition { address: symbol.st_value(endian), size: symbol.st_size(endian) })
    }
}

/// Whether the string at the beginning of `at` is `name`. In the full symbol table a version may follow: `name@@VERSION`.
fn is_named(at: &[u8], name: &[u8]) -> bool {
    at.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0) || rest.starts_with(b"@@"))
}

fn by_dynamic_section(elf: &Elf<'_>) -> Option<Table> {
    let endian = Endianness::default();
    let dynamic = elf.bytes(elf.dynamic()?, DYNAMIC_BYTES);
    let count = dynamic.len() / size_of::<Dyn64<Endianness>>();
    let (entries, _) = pod::slice_from_bytes::<Dyn64<Endianness>>(&dynamic, count).ok()?;
    let value = |tag| {
        let entries = entries.iter().take_while(|entry| entry.tag(endian) != elf::DT_NULL);
        entries.filter(|entry| entry.tag(endian) == tag).map(|entry| entry.d_val(endian)).next()
    };
    let read = |tag| Some(elf.bytes(elf.place_from(value(tag)?)?, TABLE_BYTES));
    let by_gnu_hash = || {
        let table = read(elf::DT_GNU_HASH)?;
        GnuHashTable::<FileHeader64<Endianness>>::parse(endian, &table).ok()?.symbol_table_length(endian)
    };
    let by_hash = || {
        let table = read(elf::DT_HASH)?;
        Some(HashTable::<FileHeader64<Endianness>>::parse(endian, &table).ok()?.symbol_table_length())
    };
    let count = u64::from(by_hash().or_else(by_gnu_hash)?);
    let length = count.checked_mul(size_of::<Sym64<Endianness>>() as u64)?;
    let cut = |place: Place, length: u64| Place { length: place.length.min(length), ..place };
    let symbols = cut(elf.place_from(value(elf::DT_SYMTAB)?)?, length);
    let names = cut(elf.place_from(value(elf::DT_STRTAB)?)?, value(elf::DT_STRSZ)?);
    Some(Table { symbols: elf.bytes(symbols, TABLE_BYTES), names: elf.bytes(names, TABLE_BYTES) })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn find(content: &[u8], name: &str) -> Option<Definition> {
        Tables::read(&Elf::open(&content)?).find(name)
    }

    fn libc() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
        std::fs::read(path).unwrap()
    }

    #[rstest]
    #[case::exact(b"read\0", true)]
    #[case::versioned(b"read@@GLIBC_2.2.5\0", true)]
    #[case::old_version(b"read@GLIBC_2.2.5\0", false)]
    #[case::longer(b"readv\0", false)]
    #[case::cut(b"rea", false)]
    #[case::unterminated(b"read", false)]
    fn a_name_ends_with_nul_or_its_version(#[case] at: &[u8], #[case] same: bool) {
        assert_eq!(is_named(at, b"read"), same);
    }

    #[test]
    fn dynamic_symbols_are_found_without_section_headers() {
        let whole = libc();
        let expected = find(&whole, "getpid");
        assert!(expected.is_some_and(|definition| definition.address > 0));
        let mut without = whole;
        // e_shoff, and e_shnum with e_shstrndx.
        without[40..48].fill(0);
        without[60..64].fill(0);
        assert_eq!(find(&without, "getpid"), expected);
        assert_eq!(find(&without, "no_such_function"), None);
    }

    /// The headers and the dynamic section with one byte at a time set to 0xff, and the file cut at many lengths.
    #[test]
    fn damaged_files_cause_no_panic() {
        let whole = std::fs::read("/bin/true").unwrap();
        let headers = whole.len().saturating_sub(3000);
        for at in (0..4096).chain(headers..whole.len()).step_by(3) {
            for section_headers in [true, false] {
                let mut damaged = whole.clone();
                if !section_headers {
                    damaged[40..48].fill(0);
                }
                damaged[at] = 0xff;
                find(&damaged, "main");
            }
        }
        for length in (0..whole.len()).step_by(997) {
            find(&whole[..length], "main");
        }
    }

    #[test]
    fn a_file_that_is_no_elf_file_has_no_symbols() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        assert!(Elf::open(&maps.as_slice()).is_none());
    }
}
