//! Reads the parts of an ELF file that runtimes are recognised by.
//!
//! Anybody may have crafted the file. Each part is read with a limit, and what does not parse counts as absent.

use std::cell::OnceCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use compact_str::CompactString;
use memchr::memmem;
use object::elf::{self, FileHeader32, FileHeader64, SectionType};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, FileKind, pod};

/// The file's header and, in every linker's output, the program headers.
const HEAD_BYTES: u64 = 64 << 10;
/// The largest section that is read. Node's symbol names take 3 MiB, a large program's constants 10 MiB. Of a larger
/// section the beginning is read.
const SECTION_BYTES: u64 = 16 << 20;
const NOTE_BYTES: u64 = 64 << 10;
const NOTES_READ: usize = 16;
const LIBRARIES_READ: usize = 256;

/// An ELF file whose headers were read.
#[derive(Debug)]
pub(super) struct Elf<'file> {
    file: &'file File,
    class: Class,
    endian: Endianness,
    sections: Vec<Section>,
    notes: Vec<Place>,
    dynamic_strings: OnceCell<Vec<u8>>,
    compilers: OnceCell<Vec<u8>>,
    constants: OnceCell<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
enum Class {
    Bits32,
    Bits64,
}

#[derive(Debug)]
struct Section {
    name: Vec<u8>,
    kind: SectionType,
    place: Place,
}

/// Where something is in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

impl<'file> Elf<'file> {
    /// Reads the headers. None if the file is no ELF file.
    pub(super) fn open(file: &'file File) -> Option<Self> {
        let head = read_at(file, Place { offset: 0, length: HEAD_BYTES });
        match FileKind::parse(head.as_slice()) {
            Ok(FileKind::Elf64) => Self::parse::<FileHeader64<Endianness>>(file, &head, Class::Bits64),
            Ok(FileKind::Elf32) => Self::parse::<FileHeader32<Endianness>>(file, &head, Class::Bits32),
            _ => None,
        }
    }

    fn parse<Header: FileHeader<Endian = Endianness>>(file: &'file File, head: &[u8], class: Class) -> Option<Self> {
        let header = Header::parse(head).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, head).unwrap_or_default();
        let notes = segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_NOTE).take(NOTES_READ);
        let notes = notes.map(|segment| Place {
            offset: segment.p_offset(endian).into(),
            length: segment.p_filesz(endian).into().min(NOTE_BYTES),
        });
        Some(Self {
            file,
            class,
            endian,
            sections: sections(file, header, endian).unwrap_or_default(),
            notes: notes.collect(),
            dynamic_strings: OnceCell::new(),
            compilers: OnceCell::new(),
            constants: OnceCell::new(),
        })
    }

    pub(super) fn has_section(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    /// The content of a section, empty if it does not exist.
    pub(super) fn section_bytes(&self, name: &str) -> Vec<u8> {
        self.section(name).map(|section| read_at(self.file, section.place)).unwrap_or_default()
    }

    /// Whether a note contains `bytes`. Notes are found by the program headers, which stripping leaves in place.
    pub(super) fn has_note(&self, bytes: &[u8]) -> bool {
        self.notes.iter().any(|note| memmem::find(&read_at(self.file, *note), bytes).is_some())
    }

    /// Whether the program offers or needs a function of this name at run time.
    pub(super) fn has_symbol(&self, name: &str) -> bool {
        memmem::find(self.dynamic_strings(), format!("\0{name}\0").as_bytes()).is_some()
    }

    /// Whether compilers left `text` in `.comment`.
    pub(super) fn has_compiler(&self, text: &str) -> bool {
        let compilers = self.compilers.get_or_init(|| self.section_bytes(".comment"));
        memmem::find(compilers, text.as_bytes()).is_some()
    }

    /// Whether the program's constants contain `text`.
    pub(super) fn has_constant(&self, text: &str) -> bool {
        let constants = self.constants.get_or_init(|| self.section_bytes(".rodata"));
        memmem::find(constants, text.as_bytes()).is_some()
    }

    /// The libraries that it is linked with (`DT_NEEDED`).
    pub(super) fn libraries(&self) -> Vec<CompactString> {
        match self.class {
            Class::Bits32 => self.needed::<FileHeader32<Endianness>>(),
            Class::Bits64 => self.needed::<FileHeader64<Endianness>>(),
        }
    }

    fn needed<Header: FileHeader<Endian = Endianness>>(&self) -> Vec<CompactString> {
        let dynamic = self.sections.iter().find(|section| section.kind == elf::SHT_DYNAMIC);
        let Some(dynamic) = dynamic else { return Vec::new() };
        let bytes = read_at(self.file, dynamic.place);
        let count = bytes.len() / size_of::<Header::Dyn>();
        let Ok((entries, _)) = pod::slice_from_bytes::<Header::Dyn>(&bytes, count) else { return Vec::new() };
        let needed = entries.iter().filter(|entry| entry.tag(self.endian) == elf::DT_NEEDED);
        let libraries = needed.take(LIBRARIES_READ).filter_map(|entry| {
            let name = string_at(self.dynamic_strings(), entry.d_val(self.endian).into())?;
            std::str::from_utf8(name).ok().filter(|name| name.len() <= 255).map(CompactString::from)
        });
        libraries.collect()
    }

    fn dynamic_strings(&self) -> &[u8] {
        self.dynamic_strings.get_or_init(|| self.section_bytes(".dynstr"))
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }
}

fn sections<Header: FileHeader<Endian = Endianness>>(
    file: &File,
    header: &Header,
    endian: Endianness,
) -> Option<Vec<Section>> {
    let count = header.e_shnum(endian);
    let length = u64::from(count) * size_of::<Header::SectionHeader>() as u64;
    let table = read_at(file, Place { offset: header.e_shoff(endian).into(), length });
    let (headers, _) = pod::slice_from_bytes::<Header::SectionHeader>(&table, count.into()).ok()?;
    let place = |section: &Header::SectionHeader| Place {
        offset: section.sh_offset(endian).into(),
        length: section.sh_size(endian).into(),
    };
    let names = read_at(file, place(headers.get(usize::from(header.e_shstrndx(endian).index()?))?));
    let sections = headers.iter().map(|section| Section {
        name: string_at(&names, section.sh_name(endian).into()).unwrap_or_default().to_vec(),
        kind: section.sh_type(endian),
        place: place(section),
    });
    Some(sections.collect())
}

/// The string that begins at `at` in a string table.
fn string_at(table: &[u8], at: u64) -> Option<&[u8]> {
    table.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()
}

/// The bytes at a place, cut at the end of the file and at [`SECTION_BYTES`]. Empty if they cannot be read.
fn read_at(file: &File, place: Place) -> Vec<u8> {
    let end = file.metadata().map_or(0, |metadata| metadata.len());
    let length = place.length.min(SECTION_BYTES).min(end.saturating_sub(place.offset));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, place.offset) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}
