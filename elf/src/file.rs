//! Reads parts of an ELF file: marks that runtimes are recognised by, symbol tables, and where a file is loaded.
//!
//! Anybody may have crafted the file. Each part is read with a limit, and what does not parse counts as absent.

use compact_str::CompactString;
use memchr::memmem;
use object::elf::{self, DynamicTag, FileHeader32, FileHeader64, ProgramType, SectionType};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, FileKind, pod};
use std::cell::OnceCell;

use crate::content::Content;

/// The file's header and, in every linker's output, the program headers.
const HEAD_BYTES: u64 = 64 << 10;
/// The largest section that is read. Node's symbol names take 3 MiB, a large program's constants 10 MiB. Of a larger
/// section the beginning is read.
const SECTION_BYTES: u64 = 16 << 20;
const NOTE_BYTES: u64 = 64 << 10;
const NOTES_READ: usize = 16;
const LIBRARIES_READ: usize = 256;
/// The longest name of a library or list of folders that is read.
const LONGEST_TEXT: usize = 1024;
/// The smallest page. Mappings begin at a multiple of it.
const PAGE: u64 = 4096;
/// The longest build id that is kept. Linkers write 8 to 32 bytes, Go writes 83.
const BUILD_ID_BYTES: usize = 128;

/// An ELF file whose headers were read.
#[derive(Debug)]
pub struct Elf<'file> {
    file: &'file dyn Content,
    class: Class,
    endian: Endianness,
    is_fixed: bool,
    is_x86_64: bool,
    sections: Vec<Section>,
    segments: Vec<Segment>,
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
    /// Address before the load bias is added.
    address: u64,
    place: Place,
    compressed: bool,
}

/// A part of the file that is loaded into memory.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    kind: ProgramType,
    pub executable: bool,
    pub writable: bool,
    /// Address before the load bias is added.
    pub address: u64,
    /// Bytes in memory. Those beyond the file's are zero at first.
    pub memory_length: u64,
    alignment: u64,
    pub place: Place,
}

/// Where something is in the file.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub offset: u64,
    pub length: u64,
}

impl<'file> Elf<'file> {
    /// Reads the headers. None if the file is no ELF file.
    #[must_use]
    pub fn open(file: &'file dyn Content) -> Option<Self> {
        let head = read_at(file, Place { offset: 0, length: HEAD_BYTES });
        match FileKind::parse(head.as_slice()) {
            Ok(FileKind::Elf64) => Self::parse::<FileHeader64<Endianness>>(file, &head, Class::Bits64),
            Ok(FileKind::Elf32) => Self::parse::<FileHeader32<Endianness>>(file, &head, Class::Bits32),
            _ => None,
        }
    }

    fn parse<Header: FileHeader<Endian = Endianness>>(
        file: &'file dyn Content,
        head: &[u8],
        class: Class,
    ) -> Option<Self> {
        let header = Header::parse(head).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, head).unwrap_or_default().iter().map(|segment| Segment {
            kind: segment.p_type(endian),
            executable: segment.p_flags(endian).0 & elf::PF_X.0 != 0,
            writable: segment.p_flags(endian).0 & elf::PF_W.0 != 0,
            address: segment.p_vaddr(endian).into(),
            memory_length: segment.p_memsz(endian).into(),
            alignment: segment.p_align(endian).into(),
            place: Place { offset: segment.p_offset(endian).into(), length: segment.p_filesz(endian).into() },
        });
        let segments: Vec<Segment> = segments.collect();
        let notes = segments.iter().filter(|segment| segment.kind == elf::PT_NOTE).take(NOTES_READ);
        let notes = notes
            .map(|segment| Place { offset: segment.place.offset, length: segment.place.length.min(NOTE_BYTES) })
            .collect();
        Some(Self {
            file,
            class,
            endian,
            is_fixed: header.e_type(endian) == elf::ET_EXEC,
            is_x86_64: header.e_machine(endian) == elf::EM_X86_64,
            sections: sections(file, header, endian).unwrap_or_default(),
            segments,
            notes,
            dynamic_strings: OnceCell::new(),
            compilers: OnceCell::new(),
            constants: OnceCell::new(),
        })
    }

    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    /// The content of a section, empty if it does not exist.
    #[must_use]
    pub fn section_bytes(&self, name: &str) -> Vec<u8> {
        self.section(name).map(|section| read_at(self.file, section.place)).unwrap_or_default()
    }

    /// The place of a section that has bytes in the file.
    #[must_use]
    pub fn section_place(&self, name: &str) -> Option<Place> {
        self.section(name).filter(|section| section.kind != elf::SHT_NOBITS).map(|section| section.place)
    }

    /// The address of a section, before the load bias is added.
    #[must_use]
    pub fn section_address(&self, name: &str) -> Option<u64> {
        self.section(name).map(|section| section.address)
    }

    /// Whether a section is compressed, with a `Chdr` before it.
    #[must_use]
    pub fn is_compressed(&self, name: &str) -> bool {
        self.section(name).is_some_and(|section| section.compressed)
    }

    /// Bytes of thread-local storage that each thread has for it.
    #[must_use]
    pub fn thread_local_length(&self) -> u64 {
        let segment = self.segments.iter().find(|segment| segment.kind == elf::PT_TLS);
        segment.map_or(0, |segment| segment.memory_length)
    }

    /// Where the thread-local variable at `offset` of the executable's template is, relative to the thread pointer (modulo 2^64).
    /// On x86-64 the variables of the executable end at the thread pointer (ELF Handling For Thread-Local Storage, variant II).
    #[must_use]
    pub fn thread_local_offset(&self, offset: u64) -> Option<u64> {
        let template = self.segments.iter().find(|segment| segment.kind == elf::PT_TLS)?;
        let length = template.memory_length.checked_next_multiple_of(template.alignment.max(1))?;
        (offset < template.memory_length).then(|| offset.wrapping_sub(length))
    }

    /// Bytes of the file, at most `limit`. Empty if they cannot be read.
    #[must_use]
    pub fn bytes(&self, place: Place, limit: u64) -> Vec<u8> {
        read_at_most(self.file, place, limit)
    }

    /// Whether it is a 64-bit file in this machine's byte order.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(self.class, Class::Bits64) && self.endian == Endianness::default()
    }

    /// Whether its addresses are those in memory. Other files are loaded anywhere.
    #[must_use]
    pub fn is_at_fixed_address(&self) -> bool {
        self.is_fixed
    }

    /// Whether its code is for x86-64.
    #[must_use]
    pub fn is_x86_64(&self) -> bool {
        self.is_x86_64
    }

    /// The table for unwinding (`.eh_frame_hdr`), by its program header: its address, before the load bias is added, and its
    /// place.
    pub(crate) fn unwinding(&self) -> Option<(u64, Place)> {
        let segment = self.segments.iter().find(|segment| segment.kind == elf::PT_GNU_EH_FRAME)?;
        Some((segment.address, segment.place))
    }

    /// The parts of the file that are loaded.
    pub fn loaded(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD)
    }

    /// The dynamic section, by its program header.
    #[must_use]
    pub fn dynamic(&self) -> Option<Place> {
        self.segments.iter().find(|segment| segment.kind == elf::PT_DYNAMIC).map(|segment| segment.place)
    }

    /// What is added to the addresses in the file, if `offset` of the file is mapped at `start`.
    #[must_use]
    pub fn load_bias(&self, start: u64, offset: u64) -> Option<u64> {
        // A segment is mapped from the beginning of the page that it begins in. Two segments may share a page.
        let begins = |segment: &&Segment| segment.place.offset & !(PAGE - 1) <= offset;
        let ends = |segment: &&Segment| offset < segment.place.offset.saturating_add(segment.place.length);
        let segment = self.loaded().filter(|segment| segment.executable).filter(begins).find(ends)?;
        Some(start.wrapping_sub(offset).wrapping_add(segment.place.offset).wrapping_sub(segment.address))
    }

    /// Where the byte at `address` is in the file. None if the file has no such byte, as for `.bss`.
    #[must_use]
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        self.loaded().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            (within < segment.place.length).then(|| segment.place.offset.checked_add(within))?
        })
    }

    /// The part of the file from the byte at `address` to the end of its segment.
    #[must_use]
    pub fn place_from(&self, address: u64) -> Option<Place> {
        self.loaded().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let length = segment.place.length.checked_sub(within).filter(|length| *length > 0)?;
            Some(Place { offset: segment.place.offset.checked_add(within)?, length })
        })
    }

    /// The build id that the linker wrote (`NT_GNU_BUILD_ID`).
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        self.notes.iter().find_map(|note| gnu_build_id(&read_at(self.file, *note)))
    }

    /// Whether a note contains `bytes`. Notes are found by the program headers, which stripping leaves in place.
    #[must_use]
    pub fn has_note(&self, bytes: &[u8]) -> bool {
        self.notes.iter().any(|note| memmem::find(&read_at(self.file, *note), bytes).is_some())
    }

    /// Whether the program offers or needs a function of this name at run time.
    #[must_use]
    pub fn has_symbol(&self, name: &str) -> bool {
        memmem::find(self.dynamic_strings(), format!("\0{name}\0").as_bytes()).is_some()
    }

    /// Whether compilers left `text` in `.comment`.
    #[must_use]
    pub fn has_compiler(&self, text: &str) -> bool {
        let compilers = self.compilers.get_or_init(|| self.section_bytes(".comment"));
        memmem::find(compilers, text.as_bytes()).is_some()
    }

    /// Whether the program's constants contain `text`.
    #[must_use]
    pub fn has_constant(&self, text: &str) -> bool {
        let constants = self.constants.get_or_init(|| self.section_bytes(".rodata"));
        memmem::find(constants, text.as_bytes()).is_some()
    }

    /// The libraries that it is linked with (`DT_NEEDED`).
    #[must_use]
    pub fn libraries(&self) -> Vec<CompactString> {
        self.dynamic_texts(elf::DT_NEEDED)
    }

    /// Where the dynamic linker looks for them first (`DT_RUNPATH`, `DT_RPATH`): folders, with a colon between them.
    #[must_use]
    pub fn library_paths(&self) -> Vec<CompactString> {
        [self.dynamic_texts(elf::DT_RUNPATH), self.dynamic_texts(elf::DT_RPATH)].concat()
    }

    /// The texts that the entries of the dynamic section with this tag name.
    fn dynamic_texts(&self, tag: DynamicTag) -> Vec<CompactString> {
        match self.class {
            Class::Bits32 => self.texts_of::<FileHeader32<Endianness>>(tag),
            Class::Bits64 => self.texts_of::<FileHeader64<Endianness>>(tag),
        }
    }

    fn texts_of<Header: FileHeader<Endian = Endianness>>(&self, tag: DynamicTag) -> Vec<CompactString> {
        let dynamic = self.sections.iter().find(|section| section.kind == elf::SHT_DYNAMIC);
        let Some(dynamic) = dynamic else { return Vec::new() };
        let bytes = read_at(self.file, dynamic.place);
        let count = bytes.len() / size_of::<Header::Dyn>();
        let Ok((entries, _)) = pod::slice_from_bytes::<Header::Dyn>(&bytes, count) else { return Vec::new() };
        let entries = entries.iter().filter(|entry| entry.tag(self.endian) == tag);
        let texts = entries.take(LIBRARIES_READ).filter_map(|entry| {
            let text = string_at(self.dynamic_strings(), entry.d_val(self.endian).into())?;
            std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST_TEXT).map(CompactString::from)
        });
        texts.collect()
    }

    fn dynamic_strings(&self) -> &[u8] {
        self.dynamic_strings.get_or_init(|| self.section_bytes(".dynstr"))
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }
}

fn sections<Header: FileHeader<Endian = Endianness>>(
    file: &dyn Content,
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
        address: section.sh_addr(endian).into(),
        compressed: section.sh_flags(endian).0 & elf::SHF_COMPRESSED.0 != 0,
        place: place(section),
    });
    Some(sections.collect())
}

/// The string that begins at `at` in a string table.
fn string_at(table: &[u8], at: u64) -> Option<&[u8]> {
    table.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()
}

/// The description of the note of type 3 by `GNU`. A note has the lengths of its name and description, its type, and both,
/// each padded to four bytes (elf(5)).
fn gnu_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let padded = |length: u32| usize::try_from(length).ok()?.checked_next_multiple_of(4);
    loop {
        let (name, description, kind) = (word(notes, 0)?, word(notes, 4)?, word(notes, 8)?);
        let body = notes.get(12..)?;
        let content = body.get(padded(name)?..)?;
        if kind == elf::NT_GNU_BUILD_ID.0 && body.starts_with(b"GNU\0") {
            let id = content.get(..usize::try_from(description).ok()?)?;
            return (!id.is_empty() && id.len() <= BUILD_ID_BYTES).then(|| id.to_vec());
        }
        notes = content.get(padded(description)?..)?;
    }
}

/// The bytes at a place, cut at the end of the file and at [`SECTION_BYTES`]. Empty if they cannot be read.
fn read_at(file: &dyn Content, place: Place) -> Vec<u8> {
    read_at_most(file, place, SECTION_BYTES)
}

fn read_at_most(file: &dyn Content, place: Place, limit: u64) -> Vec<u8> {
    let length = place.length.min(limit).min(file.length().saturating_sub(place.offset));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    if file.read(place.offset, &mut bytes) { bytes } else { Vec::new() }
}
