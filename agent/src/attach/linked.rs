//! Finds the libraries that the dynamic linker is going to load for a program.
//!
//! So functions of a library can be attached to before a program calls them. Libraries are looked for as ld.so(8) says, within
//! the root of the process. What the linker finds in another way, or a program loads itself, is found when it is mapped.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use compact_str::CompactString;
use onlooker_elf::{Elf, linker_cache};

use super::binary::Mapped;
use crate::discover::process::Process;

/// Browsers have a hundred.
const MOST_LIBRARIES: usize = 256;
const CACHE: &str = "/etc/ld.so.cache";
/// A desktop's has 200 KiB.
const CACHE_BYTES: u64 = 4 << 20;
/// The kernel reads so many bytes of a script's first line.
const SCRIPT_BYTES: u64 = 256;
/// Where the linkers of glibc and musl look last.
const FOLDERS: [&str; 7] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/local/lib",
    "/usr/lib",
];

/// The program at `path` and the libraries that it is linked with, directly or through others. `process` is going to execute
/// it, or has just begun to. For a script, those of its interpreter. Empty if it is neither a script nor an ELF file of this machine.
pub(super) fn binaries(process: &Process, path: &Path) -> Vec<Mapped> {
    let program = Linked::open(process, path).or_else(|| Linked::open(process, &interpreter(process, path)?));
    let Some(program) = program else { return Vec::new() };
    let search = Search::of(process);
    let (mut found, mut names) = (Vec::new(), HashSet::new());
    let mut queue = VecDeque::from([program]);
    while let Some(binary) = queue.pop_front() {
        for name in &binary.needed {
            if names.len() < MOST_LIBRARIES && names.insert(name.clone()) {
                queue.extend(search.find(name, &binary));
            }
        }
        found.extend(Mapped::before(binary.file, &binary.path));
    }
    found
}

/// An ELF file of this machine.
struct Linked {
    file: File,
    path: PathBuf,
    needed: Vec<CompactString>,
    /// Lists of folders in which its libraries are looked for first.
    folders: Vec<CompactString>,
}

impl Linked {
    fn open(process: &Process, path: &Path) -> Option<Self> {
        let file = process.open_inside(path)?;
        let elf = Elf::open(&file).filter(Elf::is_native)?;
        let (needed, folders) = (elf.libraries(), elf.library_paths());
        drop(elf);
        Some(Self { file, path: path.to_owned(), needed, folders })
    }
}

/// Where libraries are looked for.
struct Search<'process> {
    process: &'process Process,
    /// `LD_LIBRARY_PATH`.
    folders: String,
    cache: Vec<u8>,
}

impl<'process> Search<'process> {
    fn of(process: &'process Process) -> Self {
        let environment = process.environment();
        let mut variables = environment.split(|&byte| byte == 0);
        let folders = variables.find_map(|variable| variable.strip_prefix(b"LD_LIBRARY_PATH="));
        let folders = String::from_utf8_lossy(folders.unwrap_or_default()).into_owned();
        let mut cache = Vec::new();
        if let Some(file) = process.open_inside(Path::new(CACHE)) {
            // What was read before an error is used.
            let _ = file.take(CACHE_BYTES).read_to_end(&mut cache);
        }
        Self { process, folders, cache }
    }

    /// The library with this name that the linker loads for `by`.
    fn find(&self, name: &str, by: &Linked) -> Option<Linked> {
        if name.contains('/') {
            return Linked::open(self.process, Path::new(name));
        }
        let origin = by.path.parent()?.to_str()?;
        let lists = by.folders.iter().map(CompactString::as_str).chain([self.folders.as_str()]);
        let folders = lists.flat_map(|list| list.split([':', ';'])).filter(|folder| !folder.is_empty());
        let folders = folders.map(|folder| folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin));
        let first = folders.map(|folder| Path::new(&folder).join(name));
        let cached = linker_cache::paths(&self.cache, name).map(Path::to_owned);
        let last = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        first.chain(cached).chain(last).find_map(|path| Linked::open(self.process, &path))
    }
}

/// The interpreter of a script: the path behind `#!`.
fn interpreter(process: &Process, script: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(process.open_inside(script)?.take(SCRIPT_BYTES)).read_line(&mut line).ok()?;
    line.strip_prefix("#!")?.split_whitespace().next().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::executables;
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_those_that_it_maps() {
        let process = Process::myself().unwrap();
        let inode = |mapped: &Mapped| fs::metadata(&mapped.path).unwrap().ino();
        let linked: HashSet<_> = binaries(&process, &std::env::current_exe().unwrap()).iter().map(inode).collect();
        let mapped = executables(&process).unwrap();
        // Other tests may load more.
        let known = ["libc.so", "ld-linux", "onlooker-"];
        let expected: Vec<_> = mapped.iter().filter(|file| known.iter().any(|name| file.name.contains(name))).collect();
        assert_eq!(expected.len(), known.len(), "{mapped:?}");
        for mapped in expected {
            assert!(linked.contains(&inode(mapped)), "{}", mapped.name);
        }
    }

    #[test]
    fn the_libraries_of_a_script_are_those_of_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#! /bin/sh -e\n").unwrap();
        let found = binaries(&Process::myself().unwrap(), &script);
        assert!(found.iter().any(|mapped| mapped.name == "/bin/sh"), "{found:?}");
        assert!(found.iter().any(|mapped| mapped.name.contains("libc.so")), "{found:?}");
        fs::write(&script, "exit 1\n").unwrap();
        assert!(binaries(&Process::myself().unwrap(), &script).is_empty());
    }

    #[test]
    fn the_libraries_of_libraries_are_found() {
        let found = binaries(&Process::myself().unwrap(), Path::new("/usr/bin/curl"));
        assert!(found.iter().any(|mapped| mapped.symbol("SSL_read").is_some()), "{found:?}");
    }
}
