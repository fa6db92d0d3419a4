//! What an executable's marks say about its runtime.

use std::fs::File;

use compact_str::CompactString;
use onlooker_elf::Elf;

use super::row::{Mark, Runtime, Version, When, Work};

/// How much of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Depth {
    /// What proves a runtime, and the libraries. Enough for a program that is recognised by its name.
    Headers,
    /// Also hints, some of which are among its constants.
    Constants,
}

/// What was found in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Executable {
    /// The runtime that its marks show.
    pub(super) marked: Option<Marked>,
    /// The libraries it is linked with. Not read where the runtime is proven.
    pub(super) libraries: Vec<CompactString>,
}

/// A runtime that was recognised by marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) runtime: &'static Runtime,
    /// By its proof, not by hints.
    pub(super) proven: bool,
    /// If the version is in a section.
    pub(super) version: Option<CompactString>,
    /// If an exception for a mark applies.
    pub(super) work: Option<Work>,
}

/// Looks for the marks of `rows`.
pub(super) fn examine(file: &File, depth: Depth, rows: &[&'static Runtime]) -> Executable {
    let Some(elf) = Elf::open(file) else { return Executable::default() };
    let has_any = |marks: &[Mark]| marks.iter().any(|mark| has(&elf, *mark));
    if let Some(runtime) = rows.iter().find(|runtime| has_any(runtime.proof)) {
        return Executable { marked: Some(marked(&elf, runtime, true)), libraries: Vec::new() };
    }
    let hinted = || {
        // Constants are searched only where nothing else decides.
        [true, false].into_iter().find_map(|cheap| {
            let hints =
                |runtime: &Runtime| runtime.hints.iter().any(|mark| mark.is_cheap() == cheap && has(&elf, *mark));
            rows.iter().find(|runtime| hints(runtime)).map(|runtime| marked(&elf, runtime, false))
        })
    };
    Executable { marked: (depth == Depth::Constants).then(hinted).flatten(), libraries: elf.libraries() }
}

fn marked(elf: &Elf<'_>, runtime: &'static Runtime, proven: bool) -> Marked {
    let version = match runtime.version {
        Version::Section(name, read) => read(&elf.section_bytes(name)),
        _ => None,
    };
    let work = runtime.work_exceptions.iter().find_map(|(when, work)| match when {
        When::HasMark(marks) => marks.iter().any(|mark| has(elf, *mark)).then_some(*work),
        When::MapsFile(_) | When::HasThread(_) => None,
    });
    Marked { runtime, proven, version, work }
}

fn has(elf: &Elf<'_>, mark: Mark) -> bool {
    match mark {
        Mark::Section(name) => elf.has_section(name),
        Mark::Note(bytes) => elf.has_note(bytes),
        Mark::Symbol(name) => elf.has_symbol(name),
        Mark::Compiler(text) => elf.has_compiler(text),
        Mark::Constant(text) => elf.has_constant(text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::runtimes::table::RUNTIMES;

    fn examine(file: &File) -> Executable {
        super::examine(file, Depth::Constants, RUNTIMES)
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_real_executable_lists_its_libraries() {
        let executable = examine(&File::open("/bin/ls").unwrap());
        assert!(executable.libraries.iter().any(|library| library.starts_with("libc.so")), "{executable:?}");
        assert_eq!(executable.marked, None);
    }

    #[test]
    fn a_file_that_is_no_elf_file_has_no_marks() {
        for content in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF", &[0xff; 4096]] {
            assert_eq!(examine(&file(content)), Executable::default());
        }
    }

    /// A real file with one byte of its headers at a time set to 0xff, and cut at many lengths.
    #[test]
    fn crafted_headers_cause_no_panic() {
        let whole = std::fs::read("/bin/true").unwrap();
        let tables = whole.len().saturating_sub(3000);
        for at in (0..1024).chain(tables..whole.len()).step_by(3) {
            let mut crafted = whole.clone();
            crafted[at] = 0xff;
            examine(&file(&crafted));
        }
        for length in (0..whole.len()).step_by(997) {
            examine(&file(&whole[..length]));
        }
    }

    /// Sections that claim to be larger than memory, in a file that is as long.
    #[test]
    fn a_sparse_file_of_a_terabyte_is_read_in_part() {
        let mut head = std::fs::read("/bin/true").unwrap();
        let sections = usize::try_from(u64::from_le_bytes(head[40..48].try_into().unwrap())).unwrap();
        for section in head[sections..].chunks_exact_mut(64) {
            section[32..40].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        }
        let sparse = file(&head);
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(examine(&sparse).marked, None);
    }
}
