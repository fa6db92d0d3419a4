//! The binaries whose code processes have mapped, and what was found in them.
//!
//! What was found is remembered by file version, not by build id: whoever makes a file chooses its build id, and a crafted
//! file must not decide where another process is read or probed.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use onlooker_elf::signature::{Function, SIGNATURES};
use onlooker_elf::symbols::{Definition, Tables};
use onlooker_elf::{Elf, rustls};
use rustc_hash::FxHashMap;

use super::mappings::{Mapping, mappings, open};
use crate::discover::process::Process;
use crate::file_version::FileVersion;
use crate::recent::Recent;

/// More binaries than are mapped on a host with many containers. One that is forgotten is read again.
const BINARIES_KEPT: usize = 4096;

/// A JVM with many agents has a hundred libraries.
const BINARIES_READ: usize = 1024;

/// Where ClickHouse has the hash of its code.
const HASH_SECTION: &str = ".clickhouse.hash";

static KNOWN: LazyLock<Mutex<Recent<FileVersion, Arc<Binary>, BINARIES_KEPT>>> = LazyLock::new(Mutex::default);

/// A binary that a process has mapped.
#[derive(Debug)]
pub struct Mapped {
    /// Opens the file from here, as long as the process has it mapped.
    pub path: PathBuf,
    /// Its path in the process's mount namespace. For a deleted file, the path it had. A memfd's begins with `/memfd:`.
    pub name: String,
    /// The linker's id of the content, if it has one. Anybody may have written it.
    pub build_id: Option<Vec<u8>>,
    /// What is added to an address in the file to get the address in the process.
    pub bias: u64,
    binary: Arc<Binary>,
    tables: OnceCell<Tables>,
    /// Keeps `path` valid, if the process has not mapped the file.
    _file: Option<File>,
}

/// A function or variable in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// In the process.
    pub address: u64,
    /// In the file. None for a variable without an initial value.
    pub offset_in_file: Option<u64>,
    /// In bytes. Zero if it is unknown.
    pub size: u64,
}

/// Definitions by name, with their offsets in the file. None for a name that is not defined.
type Found = FxHashMap<String, Option<(Definition, Option<u64>)>>;

/// A binary, whichever process has mapped it.
#[derive(Debug)]
struct Binary {
    version: FileVersion,
    /// The definitions that were looked for. Their names are constants of this program, so they are few.
    found: Mutex<Found>,
    /// The functions of rustls.
    rustls: OnceLock<Vec<Function>>,
    /// The functions of each library of [`SIGNATURES`].
    signed: OnceLock<Vec<(&'static str, Vec<Function>)>>,
    build_id: Option<Vec<u8>>,
}

impl Mapped {
    /// A binary that a process is going to map. Its addresses in the process are not known. None if it is no ELF file.
    pub(super) fn before(file: File, name: &Path) -> Option<Self> {
        let (path, name) = (format!("/proc/self/fd/{}", file.as_raw_fd()).into(), name.display().to_string());
        let binary = Binary::of(&file, &Elf::open(&file)?)?;
        let build_id = binary.build_id.clone();
        Some(Self { path, name, build_id, bias: 0, binary, tables: OnceCell::new(), _file: Some(file) })
    }

    pub(super) fn version(&self) -> FileVersion {
        self.binary.version
    }

    /// Finds the definition of a function or variable. The first of the tables that has it counts: dynamic symbols, then
    /// the full symbol table.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let found = self.binary.found().get(name).copied();
        let found = match found {
            Some(found) => found,
            None => {
                let file = self.open()?;
                let elf = Elf::open(&file)?;
                let found = self.tables.get_or_init(|| Tables::read(&elf)).find(name);
                let found = found.map(|definition| (definition, elf.offset_of(definition.address)));
                self.binary.found().insert(name.to_owned(), found);
                found
            }
        };
        found.map(|(definition, offset_in_file)| Symbol {
            address: definition.address.wrapping_add(self.bias),
            offset_in_file,
            size: definition.size,
        })
    }

    /// The functions of rustls that encrypt and decrypt.
    pub(super) fn rustls(&self) -> &[Function] {
        self.binary.rustls.get_or_init(|| {
            let file = self.open();
            let Some(elf) = file.as_ref().and_then(|file| Elf::open(file)) else { return Vec::new() };
            let found = rustls::functions(&elf, self.tables.get_or_init(|| Tables::read(&elf)));
            found.into_iter().map(|(name, start, end)| Function { name, addresses: start..end }).collect()
        })
    }

    /// Whether the program compares its own code with what it was built as, and ends if they differ: ClickHouse does. What is attached
    /// to its functions changes the code in memory.
    pub(super) fn checks_itself(&self) -> bool {
        let file = self.open();
        let elf = file.as_ref().and_then(|file| Elf::open(file));
        elf.is_some_and(|elf| elf.section_place(HASH_SECTION).is_some())
    }

    /// The functions of a TLS library in the file, by its signature.
    pub(super) fn signed(&self, library: &str) -> &[Function] {
        let signed = self.binary.signed.get_or_init(|| {
            let file = self.open();
            let Some(elf) = file.as_ref().and_then(|file| Elf::open(file)) else { return Vec::new() };
            SIGNATURES.iter().map(|signature| (signature.library, signature.find(&elf))).collect()
        });
        signed.iter().find(|(name, _)| *name == library).map(|(_, functions)| functions.as_slice()).unwrap_or_default()
    }

    /// Opens the file. None if the process has ended or unmapped it.
    pub(super) fn open(&self) -> Option<File> {
        let file = File::open(&self.path).ok()?;
        // Another process may have the pid now.
        (FileVersion::of(&file).ok()? == self.binary.version).then_some(file)
    }

    /// Whether it is the same binary at the same place.
    fn is_same(&self, other: &Self) -> bool {
        self.binary.version == other.binary.version && self.bias == other.bias
    }
}

impl Binary {
    fn of(file: &File, elf: &Elf<'_>) -> Option<Arc<Self>> {
        let version = FileVersion::of(file).ok()?;
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let binary = known().get(&version).cloned();
        Some(binary.unwrap_or_else(|| {
            let build_id = elf.build_id();
            let binary = Arc::new(Self {
                version,
                found: Mutex::default(),
                rustls: OnceLock::new(),
                signed: OnceLock::new(),
                build_id,
            });
            known().insert(version, Arc::clone(&binary));
            binary
        }))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The binaries whose code a process has mapped: its executable and its libraries, each once, by address.
///
/// Libraries that are loaded later are missing. A file that cannot be read, or is no ELF file of this machine, is left out.
///
/// # Errors
/// If the process has ended or may not be read.
pub fn executables(process: &Process) -> io::Result<Vec<Mapped>> {
    Ok(mapped_by(process, &mappings(process)?))
}

/// The same, of mappings that were read before.
pub(super) fn mapped_by(process: &Process, mappings: &[Mapping]) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.executable && mapping.inode != 0) {
        if found.len() == BINARIES_READ {
            break;
        }
        let Some((path, file)) = open(process, mapping) else { continue };
        let Some(mapped) = mapped(path, &file, mapping) else { continue };
        // A library may split its code into several mappings.
        if !found.iter().any(|other| other.is_same(&mapped)) {
            found.push(mapped);
        }
    }
    found
}

/// The binary in `file`, of which a process has mapped code by `mapping`. None if it is no ELF file of this machine, or
/// has no code there.
fn mapped(path: PathBuf, file: &File, mapping: &Mapping) -> Option<Mapped> {
    let elf = Elf::open(file).filter(Elf::is_native)?;
    let bias = elf.load_bias(mapping.start, mapping.offset)?;
    let binary = Binary::of(file, &elf)?;
    let name = mapping.name.strip_suffix(" (deleted)").unwrap_or(&mapping.name).to_owned();
    Some(Mapped { path, name, build_id: binary.build_id.clone(), bias, binary, tables: OnceCell::new(), _file: None })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::super::Memory;
    use super::*;

    #[unsafe(no_mangle)]
    static ONLOOKER_TEST_VARIABLE: u64 = 0x0123_4567_89ab_cdef;

    #[test]
    fn a_symbol_is_at_its_address_in_the_process_and_in_the_file() {
        let process = Process::myself().unwrap();
        let found = executables(&process).unwrap();
        let own = std::env::current_exe().unwrap();
        let own = found.iter().find(|mapped| own == Path::new(&mapped.name)).unwrap();
        for _ in 0..2 {
            let symbol = own.symbol("ONLOOKER_TEST_VARIABLE").unwrap();
            assert_eq!(symbol.address, std::ptr::from_ref(&ONLOOKER_TEST_VARIABLE).addr() as u64);
            assert_eq!(symbol.size, 8);
            let memory = Memory::open(&process).unwrap();
            assert_eq!(memory.read::<u64>(symbol.address).unwrap(), ONLOOKER_TEST_VARIABLE);
            assert_eq!(own.symbol("onlooker_has_no_such_symbol"), None);
        }
        let libc = found.iter().find(|mapped| mapped.name.contains("libc.so")).unwrap();
        assert!(libc.symbol("getpid").is_some_and(|symbol| symbol.offset_in_file.is_some() && symbol.size > 0));
        assert!(libc.build_id.is_some());
    }

    #[test]
    fn a_deleted_executable_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sleep");
        std::fs::copy("/bin/sleep", &path).unwrap();
        let mut child = std::process::Command::new(&path).arg("60").spawn().unwrap();
        // Another file is at its path from now on.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "no ELF file").unwrap();
        let process = Process::open(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // `spawn` may return before the kernel has mapped the file.
        let opens = loop {
            let found = executables(&process);
            let own = found.iter().flatten().find(|mapped| Path::new(&mapped.name) == path);
            if own.is_some() || Instant::now() > deadline {
                break own.map(|own| own.open().is_some());
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(opens, Some(true));
    }

    #[test]
    fn the_agent_has_mapped_its_own_executable() {
        let process = Process::myself().unwrap();
        let path = std::env::current_exe().unwrap();
        let found = executables(&process).unwrap();
        let own = found.iter().filter(|mapped| Path::new(&mapped.name) == path).count();
        assert_eq!(own, 1, "{found:?}");
        assert!(found.iter().any(|mapped| mapped.name.contains("libc.so")), "{found:?}");
    }
}
