//! What an executable says of its making: read from an ELF file that anybody may have crafted.
//!
//! Only the parts that say something are read, each of bounded size; whatever does not parse is as if it were not
//! there.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use compact_str::CompactString;
use memchr::memmem;
use object::elf::{self, FileHeader32, FileHeader64, SectionType};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, FileKind, pod};

use super::Program;

/// The file's header and, in every linker's output, the program headers.
const HEAD_BYTES: u64 = 64 << 10;
/// The largest section that is read: Node's names are 3 MiB, a large program's constants 10 MiB. Of a larger one the
/// beginning.
const SECTION_BYTES: u64 = 16 << 20;
const NOTES_BYTES: u64 = 64 << 10;
const LIBRARIES_READ: usize = 256;

/// How much of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Depth {
    /// Enough for a program whose name says what it is.
    Headers,
    /// Also the names of its functions and its constants.
    Constants,
}

/// What was found in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Executable {
    /// Made by Go's compiler; the release, if it says.
    pub(super) go: Option<Option<CompactString>>,
    /// Some of it was made by rustc.
    pub(super) rust: bool,
    /// Rust with tokio's thread pool.
    pub(super) tokio: bool,
    /// A runtime that is linked into it.
    pub(super) embeds: Option<Program>,
    /// DT_NEEDED: the libraries it is linked with.
    pub(super) links: Vec<CompactString>,
}

impl Executable {
    pub(super) fn program(&self) -> Option<Program> {
        match self {
            Self { go: Some(_), .. } => Some(Program::Go),
            Self { embeds: Some(program), .. } => Some(*program),
            Self { rust: true, .. } => Some(Program::Rust),
            _ => None,
        }
    }
}

/// Reads what is worth knowing of an executable.
pub(super) fn examine(file: &File, depth: Depth) -> Executable {
    let head = read_at(file, 0, HEAD_BYTES);
    let examined = match FileKind::parse(head.as_slice()) {
        Ok(FileKind::Elf64) => Elf::<FileHeader64<Endianness>>::open(file, &head).map(|elf| elf.examine(depth)),
        Ok(FileKind::Elf32) => Elf::<FileHeader32<Endianness>>::open(file, &head).map(|elf| elf.examine(depth)),
        _ => None,
    };
    examined.unwrap_or_default()
}

/// An ELF file whose headers were read.
struct Elf<'file, Header: FileHeader> {
    file: &'file File,
    endian: Endianness,
    segments: &'file [Header::ProgramHeader],
    sections: Vec<Section>,
}

struct Section {
    name: Vec<u8>,
    kind: SectionType,
    at: u64,
    length: u64,
}

impl<'file, Header: FileHeader<Endian = Endianness>> Elf<'file, Header> {
    fn open(file: &'file File, head: &'file [u8]) -> Option<Self> {
        let header = Header::parse(head).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, head).unwrap_or_default();
        let sections = Self::sections(file, header, endian).unwrap_or_default();
        Some(Self { file, endian, segments, sections })
    }

    fn sections(file: &File, header: &Header, endian: Endianness) -> Option<Vec<Section>> {
        let count = header.e_shnum(endian);
        let length = u64::from(count) * size_of::<Header::SectionHeader>() as u64;
        let table = read_at(file, header.e_shoff(endian).into(), length);
        let (headers, _) = pod::slice_from_bytes::<Header::SectionHeader>(&table, count.into()).ok()?;
        let names = headers.get(usize::from(header.e_shstrndx(endian).index()?))?;
        let names = read_at(file, names.sh_offset(endian).into(), names.sh_size(endian).into());
        let sections = headers.iter().map(|section| Section {
            name: string_at(&names, section.sh_name(endian).into()).unwrap_or_default().to_vec(),
            kind: section.sh_type(endian),
            at: section.sh_offset(endian).into(),
            length: section.sh_size(endian).into(),
        });
        Some(sections.collect())
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.section(name).map(|section| read_at(self.file, section.at, section.length)).unwrap_or_default()
    }

    fn examine(&self, depth: Depth) -> Executable {
        let mut executable = Executable::default();
        if self.section(".go.buildinfo").is_some() || self.has_go_note() {
            executable.go = Some(go_release(&self.bytes(".go.buildinfo")));
            return executable;
        }

        let names = self.bytes(".dynstr");
        executable.links = self.needed(&names);
        if depth == Depth::Headers {
            return executable;
        }
        executable.embeds = embedded(&names).or_else(|| {
            // Native AOT and GraalVM's native image.
            let managed = self.section("__managedcode").map(|_| Program::DotNet);
            managed.or_else(|| self.section(".svm_heap").map(|_| Program::Jvm))
        });
        if executable.embeds.is_some() {
            return executable;
        }

        let constants = self.bytes(".rodata");
        let has = |text: &str| memmem::find(&constants, text.as_bytes()).is_some();
        // Older compilers leave no comment, but where the standard library panics.
        executable.rust = memmem::find(&self.bytes(".comment"), b"rustc version").is_some() || has("/rustc/");
        // What tokio calls its threads: older and newer.
        executable.tokio = executable.rust && (has("tokio-runtime-worker") || has("tokio-rt-worker"));
        if !executable.rust && has("hostfxr_main") {
            executable.embeds = Some(Program::DotNet);
        }
        executable
    }

    /// A note of type 4 by `Go`, among the program headers: also there when the section headers were stripped.
    fn has_go_note(&self) -> bool {
        let notes = self.segments.iter().filter(|segment| segment.p_type(self.endian) == elf::PT_NOTE);
        notes.take(16).any(|segment| {
            let length = segment.p_filesz(self.endian).into().min(NOTES_BYTES);
            let notes = read_at(self.file, segment.p_offset(self.endian).into(), length);
            memmem::find(&notes, b"\x04\0\0\0Go\0\0").is_some()
        })
    }

    /// The libraries it needs, by their names in `.dynstr`.
    fn needed(&self, names: &[u8]) -> Vec<CompactString> {
        let dynamic = self.sections.iter().find(|section| section.kind == elf::SHT_DYNAMIC);
        let Some(dynamic) = dynamic else { return Vec::new() };
        let bytes = read_at(self.file, dynamic.at, dynamic.length);
        let count = bytes.len() / size_of::<Header::Dyn>();
        let Ok((entries, _)) = pod::slice_from_bytes::<Header::Dyn>(&bytes, count) else { return Vec::new() };
        let needed = entries.iter().filter(|entry| entry.tag(self.endian) == elf::DT_NEEDED);
        let links = needed.take(LIBRARIES_READ).filter_map(|entry| {
            let name = string_at(names, entry.d_val(self.endian).into())?;
            std::str::from_utf8(name).ok().filter(|name| name.len() <= 255).map(CompactString::from)
        });
        links.collect()
    }
}

/// .go.buildinfo: a magic of 14 bytes, pointer size, flags; with flag 2 (Go 1.18 on) at byte 32 the release as a
/// string with its length before it (debug/buildinfo in Go's standard library).
fn go_release(buildinfo: &[u8]) -> Option<CompactString> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    let inline = buildinfo.starts_with(MAGIC) && buildinfo.get(15)? & 2 != 0;
    let length = usize::from(*buildinfo.get(32).filter(|length| **length < 0x80)?);
    let release = std::str::from_utf8(buildinfo.get(33..33 + length)?).ok()?;
    (inline && release.starts_with("go")).then(|| release.into())
}

/// A runtime that a program offers or asks for by the names of its functions. Not Perl's: programs that link it for a
/// corner of theirs are more than those that run it.
fn embedded(names: &[u8]) -> Option<Program> {
    const FUNCTIONS: [(&[u8], Program); 5] = [
        (b"\0Py_BytesMain\0", Program::Python),
        (b"\0Py_Main\0", Program::Python),
        (b"\0node_module_register\0", Program::Node),
        (b"\0ruby_init\0", Program::Ruby),
        (b"\0DotNetRuntimeInfo\0", Program::DotNet),
    ];
    FUNCTIONS.iter().find(|(name, _)| memmem::find(names, name).is_some()).map(|(_, program)| *program)
}

/// The string that begins at `at` in a string table.
fn string_at(table: &[u8], at: u64) -> Option<&[u8]> {
    table.get(usize::try_from(at).ok()?..)?.split(|&byte| byte == 0).next()
}

/// `length` bytes of the file, less where it ends or a section may not be larger; none where it cannot be read.
fn read_at(file: &File, at: u64, length: u64) -> Vec<u8> {
    let end = file.metadata().map_or(0, |metadata| metadata.len());
    let length = length.min(SECTION_BYTES).min(end.saturating_sub(at));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn go_says_its_release() {
        let mut buildinfo = b"\xff Go buildinf:\x08\x02".to_vec();
        buildinfo.resize(32, 0);
        buildinfo.extend(b"\x08go1.26.8\x00");
        assert_eq!(go_release(&buildinfo).as_deref(), Some("go1.26.8"));
        // Before Go 1.18 there is a pointer to it.
        buildinfo[15] = 0;
        assert_eq!(go_release(&buildinfo), None);
        assert_eq!(go_release(&buildinfo[..20]), None);
    }

    #[test]
    fn a_real_executable_tells_what_it_links() {
        let executable = examine(&File::open("/bin/ls").unwrap(), Depth::Constants);
        assert!(executable.links.iter().any(|library| library.starts_with("libc.so")), "{executable:?}");
        assert_eq!(executable.program(), None);
    }

    #[test]
    fn what_is_no_elf_says_nothing() {
        for content in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF", &[0xff; 4096]] {
            assert_eq!(examine(&file(content), Depth::Constants), Executable::default());
        }
    }

    /// A real file, each byte of its headers in turn made the largest, and cut at each length.
    #[test]
    fn crafted_headers_do_no_harm() {
        let whole = std::fs::read("/bin/true").unwrap();
        let tables = whole.len().saturating_sub(3000);
        for at in (0..1024).chain(tables..whole.len()).step_by(3) {
            let mut crafted = whole.clone();
            crafted[at] = 0xff;
            examine(&file(&crafted), Depth::Constants);
        }
        for length in (0..whole.len()).step_by(997) {
            examine(&file(&whole[..length]), Depth::Constants);
        }
    }

    /// Sections said to be larger than memory, in a file that really is as long.
    #[test]
    fn a_sparse_file_of_a_terabyte_is_read_in_part() {
        let mut head = std::fs::read("/bin/true").unwrap();
        let sections = usize::try_from(u64::from_le_bytes(head[40..48].try_into().unwrap())).unwrap();
        for section in head[sections..].chunks_exact_mut(64) {
            section[32..40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        }
        let sparse = file(&head);
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(examine(&sparse, Depth::Constants).program(), None);
    }
}
