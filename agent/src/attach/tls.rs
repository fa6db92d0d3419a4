//! TLS libraries whose plaintext is recorded: one row each, and one file. Others are recognised only (`unread`).
//!
//! A library is recognised by its functions, not by the name of its file: it may be part of an executable, or bundled under
//! another name.

mod boringssl;
mod gnutls;
mod go;
mod jsse;
mod openssl;
mod rustls;
mod unread;

use std::path::PathBuf;

use onlooker_common::tls_function::TlsFunction;

use super::{Found, Mapped, executables, java, runtimes};
use crate::discover::process::Process;
use crate::file_version::FileVersion;
use crate::kernel::Location;

/// A function of a library, and the kernel programs that observe it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) function: &'static str,
    /// Observes its beginning.
    pub(crate) program: &'static str,
    /// What this program reads of the attachment: see [`TlsFunction`].
    pub(crate) cookie: u64,
    pub(crate) returns: Returns,
}

/// How the return of a function is observed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    No,
    /// By this program, which replaces the return address on the stack.
    Function(&'static str),
    /// By this program at each return instruction. Go moves stacks, and does not know of return addresses that it did not write.
    Instructions(&'static str),
}

impl Hook {
    /// A function whose return is observed too.
    const fn call(function: &'static str, what: TlsFunction) -> Self {
        Self { returns: Returns::Function(RETURNED), ..Self::event(function, what) }
    }

    const fn event(function: &'static str, what: TlsFunction) -> Self {
        Self { cookie: what.cookie(), ..Self::by(function, BEGINS) }
    }

    /// A function with a program of its own.
    const fn by(function: &'static str, program: &'static str) -> Self {
        Self { function, program, cookie: 0, returns: Returns::No }
    }
}

/// How a library's functions are found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// By symbols. A file that has this function contains the library.
    Symbols { marker: &'static str },
    /// By the table of Go's runtime, or symbols, in the executable.
    Go,
    /// By symbols that contain the names of its functions: names of Rust's functions differ in each program.
    Rust,
    /// By symbols, in the library of [`java`] after it has woven the classes.
    Java,
    /// By the library's signature, in files without this symbol. The signature may be wrong, so the programs for these functions
    /// record nothing until a socket of the process proves it.
    Signature { library: &'static str, without: &'static str },
}

/// A row of [`LIBRARIES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    pub(crate) finder: Finder,
    /// Attached in this order: first what begins an object, then writes, then reads. A read that is recorded while writes are not yet
    /// would be a request without a response. Not every version has every function. Empty: the library is recognised, and not read.
    pub(crate) hooks: &'static [Hook],
}

/// Every library that is recognised.
pub(crate) static LIBRARIES: &[&Library] = &[
    &openssl::LIBRARY,
    &openssl::STRIPPED,
    &boringssl::LIBRARY,
    &gnutls::LIBRARY,
    &rustls::LIBRARY,
    &go::LIBRARY,
    &jsse::LIBRARY,
    &unread::NSS,
    &unread::MBED_TLS,
    &unread::WOLF_SSL,
    &unread::S2N,
];

/// The kernel program for the functions of libraries in C.
pub(crate) const BEGINS: &str = "tls_begins";

/// The kernel program for returns.
pub(crate) const RETURNED: &str = "tls_returned";

/// A library in a process, and the place of each of its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InProcess {
    pub(crate) library: &'static Library,
    /// The file that contains it, in the process's mount namespace.
    pub(crate) file: String,
    pub(crate) functions: Vec<Place>,
}

/// Where a kernel program is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) function: &'static str,
    pub(crate) program: &'static str,
    pub(crate) cookie: u64,
    /// Opens the file.
    pub(crate) path: PathBuf,
    pub(crate) version: FileVersion,
    pub(crate) offset: u64,
}

/// What distinguishes a place, whatever opens its file. The file may be deleted while the process uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlaceId {
    program: &'static str,
    cookie: u64,
    /// Device and inode. What is attached there keeps the inode in use.
    file: (u64, u64),
    offset: u64,
}

impl Place {
    pub(crate) fn id(&self) -> PlaceId {
        let Self { program, cookie, version, offset, .. } = *self;
        PlaceId { program, cookie, file: version.file(), offset }
    }

    pub(crate) fn location(&self) -> Location<'_> {
        Location { program: self.program, cookie: self.cookie, path: &self.path, offset: self.offset }
    }
}

/// What the names of most files contain that are TLS libraries, or that these are linked with.
const NAMES: [&str; 4] = ["ssl", "crypto", "tls", "nss"];

/// Whether the file has the name of a TLS library.
pub(super) fn is_likely(file: &Mapped) -> bool {
    let name = file.name.rsplit('/').next().unwrap_or_default();
    NAMES.iter().any(|part| name.contains(part))
}

/// The TLS libraries that a process has mapped in files with likely names, and that of [`java`]. Takes a millisecond for each.
pub(crate) fn find_likely(process: &Process, mapped: &[Mapped]) -> Vec<InProcess> {
    let (likely, _): (Vec<_>, Vec<_>) = mapped.iter().partition(|file| is_likely(file));
    let by_symbols = LIBRARIES.iter().flat_map(|library| library.with_marker(&likely));
    by_symbols.chain(LIBRARIES.iter().flat_map(|library| library.woven(process, mapped))).collect()
}

/// All TLS libraries that a process has mapped. The first search through a file of 100 MB takes 0.2 s.
pub(crate) fn find(process: &Process) -> Vec<InProcess> {
    let Ok(mapped) = executables(process) else { return Vec::new() };
    let all: Vec<_> = mapped.iter().collect();
    let mut found = Vec::new();
    for &library in LIBRARIES {
        match library.finder {
            Finder::Symbols { .. } => found.extend(library.with_marker(&all)),
            Finder::Java => found.extend(library.woven(process, &mapped)),
            Finder::Go => {
                let names: Vec<_> = library.hooks.iter().map(|hook| hook.function).collect();
                let functions = runtimes::go::functions_named(process, &names);
                found.extend(functions.and_then(|(file, functions)| library.in_file(&file, &functions)));
            }
            Finder::Rust => {
                found.extend(mapped.iter().filter_map(|file| library.in_file(file, &file.functions_of_rustls())));
            }
            Finder::Signature { library: signature, without } => {
                // libcrypto has a function of the signature, and is not the library.
                let is_whole = |found: &InProcess| found.functions.iter().any(|place| place.function == without);
                for file in mapped.iter().filter(|file| file.symbol(without).is_none()) {
                    let in_file = library.in_file(file, &file.functions_by_signature(signature));
                    found.extend(in_file.filter(is_whole));
                }
            }
        }
    }
    found
}

/// The TLS libraries with symbols among a program and the libraries that it is linked with, which no process has mapped yet. These are
/// looked for in the program, and in files with likely names.
pub(crate) fn find_linked(binaries: &[Mapped]) -> Vec<InProcess> {
    let likely: Vec<_> = binaries
        .iter()
        .enumerate()
        .filter(|&(index, file)| index == 0 || is_likely(file))
        .map(|(_, file)| file)
        .collect();
    LIBRARIES.iter().flat_map(|library| library.with_marker(&likely)).collect()
}

impl Library {
    /// Whether its plaintext is recorded.
    pub(crate) const fn is_read(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The library in each file with its marker.
    fn with_marker(&'static self, files: &[&Mapped]) -> Vec<InProcess> {
        let Finder::Symbols { marker } = self.finder else { return Vec::new() };
        let has_marker = |file: &&&Mapped| file.symbol(marker).is_some() && !file.checks_itself();
        files.iter().filter(has_marker).map(|file| self.by_symbols(file, files)).collect()
    }

    /// The library of [`java`] in a JVM.
    fn woven(&'static self, process: &Process, mapped: &[Mapped]) -> Vec<InProcess> {
        if self.finder != Finder::Java {
            return Vec::new();
        }
        let all: Vec<_> = mapped.iter().collect();
        java::woven(process, mapped).into_iter().map(|file| self.by_symbols(file, &all)).collect()
    }

    /// The library in a file, or in the files that this is linked with.
    fn by_symbols(&'static self, file: &Mapped, all: &[&Mapped]) -> InProcess {
        let functions = self.hooks.iter().flat_map(|hook| places(hook, file, all)).collect();
        InProcess { library: self, file: file.name.clone(), functions }
    }

    /// The library in a file that has these functions. None if none of them is the library's.
    fn in_file(&'static self, file: &Mapped, found: &[Found]) -> Option<InProcess> {
        let mut functions = Vec::new();
        let found_of = |hook: &'static Hook| {
            found.iter().filter(|found| found.name == hook.function).map(move |found| (hook, found))
        };
        for (hook, found) in self.hooks.iter().flat_map(found_of) {
            let place = |program, cookie, offset| {
                let (path, version) = (file.path.clone(), file.version());
                Place { function: hook.function, program, cookie, path, version, offset }
            };
            let returns = match hook.returns {
                Returns::No => Vec::new(),
                Returns::Function(program) => vec![place(program, 0, found.offset)],
                Returns::Instructions(program) => {
                    // A call whose return is not seen records nothing.
                    let Some(returns) = &found.returns else { continue };
                    returns.iter().map(|&offset| place(program, 0, offset)).collect()
                }
            };
            // Returns first: a call that began before can be recorded at its return, but not the other way round.
            functions.extend(returns);
            functions.push(place(hook.program, hook.cookie, found.offset));
        }
        (!functions.is_empty() && !file.checks_itself()).then(|| InProcess {
            library: self,
            file: file.name.clone(),
            functions,
        })
    }
}

/// The places of a function: in the library's file, or in the files that it is linked with.
fn places(hook: &Hook, own: &Mapped, all: &[&Mapped]) -> Vec<Place> {
    let in_file =
        |file: &Mapped| Some((file.path.clone(), file.version(), file.symbol(hook.function)?.offset_in_file?));
    let found = match in_file(own) {
        Some(found) => vec![found],
        None => all.iter().copied().filter_map(in_file).collect(),
    };
    // See `Library::in_file`.
    let returned = match hook.returns {
        Returns::Function(program) => Some((program, 0)),
        Returns::No | Returns::Instructions(_) => None,
    };
    let programs = [returned, Some((hook.program, hook.cookie))];
    let place = |(path, version, offset): (PathBuf, FileVersion, u64)| {
        programs.into_iter().flatten().map(move |(program, cookie)| Place {
            function: hook.function,
            program,
            cookie,
            path: path.clone(),
            version,
            offset,
        })
    };
    found.into_iter().flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probes::{Kind, PROBES};

    /// Otherwise it would be attached to twice, and every byte recorded twice.
    #[test]
    fn a_place_stays_the_same_when_its_file_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.so");
        let file = std::fs::File::create(&path).unwrap();
        let place = || Place {
            function: "SSL_read",
            program: BEGINS,
            cookie: 1,
            path: path.clone(),
            version: FileVersion::of(&file).unwrap(),
            offset: 16,
        };
        let before = place();
        // The clock of inodes may advance by a few milliseconds at a time.
        let moved = folder.path().join("moved.so");
        while place().version == before.version {
            std::fs::rename(&path, &moved).unwrap();
            std::fs::rename(&moved, &path).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(place().id(), before.id());
        assert_ne!(Place { offset: 17, ..place() }.id(), before.id());
    }

    #[test]
    fn a_program_that_checks_its_own_code_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let original = std::path::Path::new("/usr/lib/x86_64-linux-gnu/libssl.so.3");
        let copy = folder.path().join("libssl.so.3");
        let section = format!(".clickhouse.hash={}", folder.path().join("hash").display());
        std::fs::write(folder.path().join("hash"), "0123456789abcdef").unwrap();
        let mut objcopy = std::process::Command::new("objcopy");
        let status = objcopy.args(["--add-section", &section]).args([original, &copy]).status().unwrap();
        assert!(status.success());
        let found = |path| {
            let mapped = Mapped::before(std::fs::File::open(path).unwrap(), path).unwrap();
            find_linked(&[mapped]).iter().map(|found| found.library.name).collect::<Vec<_>>()
        };
        assert_eq!(found(original), ["OpenSSL"]);
        assert_eq!(found(&copy), [""; 0]);
    }

    #[test]
    fn a_library_that_is_not_read_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("source.c"), folder.path().join("libmbedtls.so.14"));
        std::fs::write(&source, "int mbedtls_ssl_read(void) { return 0; }").unwrap();
        let mut compiler = std::process::Command::new("cc");
        assert!(compiler.args(["-shared", "-o"]).args([&library, &source]).status().unwrap().success());
        let mapped = Mapped::before(std::fs::File::open(&library).unwrap(), &library).unwrap();
        let found = find_linked(&[mapped]);
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((found.library.name, found.library.is_read(), found.functions.len()), ("Mbed TLS", false, 0));
    }

    #[test]
    fn every_hook_has_its_programs() {
        let has = |name, kind| PROBES.iter().any(|probe| probe.name == name && probe.kind == kind);
        for library in LIBRARIES {
            if let Finder::Symbols { marker } = library.finder
                && library.is_read()
            {
                assert!(library.hooks.iter().any(|hook| hook.function == marker), "{}", library.name);
            }
            for hook in library.hooks {
                match hook.returns {
                    Returns::Instructions(program) => assert!(has(program, Kind::Function), "{program}"),
                    Returns::Function(program) => assert!(has(program, Kind::Return), "{program}"),
                    Returns::No => {}
                }
                assert!(has(hook.program, Kind::Function), "{}", hook.program);
            }
        }
    }
}
