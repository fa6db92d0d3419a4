//! Recognises what runs inside a process, by the table.
//!
//! In this order: proof in the executable, its name, the libraries it is linked with, hints in it, and the libraries that
//! are mapped into the process. At an exec event only the executable is mapped, so what it is linked with counts too.
//! Executables are read once.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use compact_str::CompactString;

use super::executable::{self, Depth, Executable, Marked};
use super::paths::file_name;
use super::row::{Runtime, Version, When, Work};
use super::table::{self, NATIVE, RUNTIMES};
use crate::discover::process::Process;
use crate::file_version::FileVersion;
use crate::recent::Recent;

/// How many executables are remembered: more than run on a host at a time. One that is forgotten is read again.
const EXECUTABLES_KEPT: usize = 1024;
/// The largest file that is read for a version: a JDK's `release` has half a KiB, one KiB with GraalVM's modules.
const VERSION_FILE_BYTES: u64 = 64 << 10;

/// What runs inside a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub runtime: &'static Runtime,
    /// The runtime's version, or the beginning of it.
    pub version: Option<CompactString>,
    pub work: Work,
    /// The executable itself contains the runtime, not a library.
    pub in_executable: bool,
}

/// Recognises programs, and remembers what was found in each executable.
#[derive(Debug, Default)]
pub struct Recogniser {
    /// By file and by how much of it was read.
    executables: Mutex<Recent<(FileVersion, Depth), Executable, EXECUTABLES_KEPT>>,
}

impl Recogniser {
    /// Recognises what runs inside `process`. Reads an executable the first time it is seen, which takes a few
    /// milliseconds for a large one whose name says nothing.
    pub fn recognise(&self, process: &Process) -> Program {
        let path = process.executable().ok().flatten().unwrap_or_default();
        let depth = if table::by_executable(file_name(&path)).is_some() { Depth::Headers } else { Depth::Constants };
        let seen = Seen {
            path: &path,
            executable: &self.executable(process, depth),
            mapped: OnceCell::new(),
            read_mapped: &|| process.mapped_files(),
            read: &|file| {
                let text = process.read_inside(file, VERSION_FILE_BYTES)?;
                Some(String::from_utf8_lossy(&text).into_owned())
            },
            has_thread: &|names| {
                process.has_thread(|thread| names.iter().any(|name| thread.starts_with(name.as_bytes())))
            },
        };
        seen.judge()
    }

    fn executable(&self, process: &Process, depth: Depth) -> Executable {
        let Ok(file) = process.open_executable() else { return Executable::default() };
        let Ok(version) = FileVersion::of(&file) else { return Executable::default() };
        let lock = || self.executables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = lock().get(&(version, depth)) {
            return executable.clone();
        }
        let executable = executable::examine(&file, depth, RUNTIMES);
        lock().insert((version, depth), executable.clone());
        executable
    }
}

/// What can be seen of a process. The functions are called only where the rest does not decide.
struct Seen<'a> {
    path: &'a Path,
    executable: &'a Executable,
    mapped: OnceCell<Vec<PathBuf>>,
    read_mapped: &'a dyn Fn() -> Vec<PathBuf>,
    read: &'a dyn Fn(&Path) -> Option<String>,
    /// Whether a thread's name begins with one of these.
    has_thread: &'a dyn Fn(&[&str]) -> bool,
}

impl Seen<'_> {
    fn judge(&self) -> Program {
        let (runtime, library) = self.runtime();
        let marked = self.executable.marked.as_ref().filter(|marked| marked.runtime == runtime);
        Program {
            runtime,
            version: self.version(runtime, marked, library),
            work: self.work(runtime, marked),
            in_executable: marked.is_some(),
        }
    }

    /// The runtime, and the library in which it was found if it was found in one.
    fn runtime(&self) -> (&'static Runtime, Option<&str>) {
        let marked = self.executable.marked.as_ref();
        let runtime = marked
            .filter(|marked| marked.proven)
            .map(|marked| marked.runtime)
            .or_else(|| table::by_executable(file_name(self.path)))
            .or_else(|| self.executable.libraries.iter().find_map(|library| table::by_library(library)))
            .or_else(|| marked.map(|marked| marked.runtime))
            .unwrap_or(&NATIVE);
        if runtime.may_host_another {
            // Apache with mod_php, an app host of .NET: the runtime is loaded by name at the start.
            let mut libraries = self.mapped().iter().filter_map(|file| file.file_name()?.to_str());
            if let Some(found) = libraries.find_map(|library| Some((table::by_library(library)?, Some(library)))) {
                return found;
            }
        }
        let mut libraries = self.executable.libraries.iter();
        (runtime, libraries.find(|library| runtime.is_in_library(library)).map(CompactString::as_str))
    }

    fn version(&self, runtime: &Runtime, marked: Option<&Marked>, library: Option<&str>) -> Option<CompactString> {
        match &runtime.version {
            Version::Unknown => None,
            Version::FileName if runtime.is_named(file_name(self.path)) => {
                version_in(file_name(self.path)).or_else(|| version_of_library(library?))
            }
            Version::FileName => version_of_library(library?),
            Version::Section(..) => marked?.version.clone(),
            Version::MappedPath(read) => self.mapped().iter().find_map(|file| read(file)),
            Version::Installation(file, read) => read(&(self.read)(&self.path.parent()?.parent()?.join(file))?),
        }
    }

    fn work(&self, runtime: &Runtime, marked: Option<&Marked>) -> Work {
        let exception = runtime.work_exceptions.iter().find(|(when, work)| match when {
            When::HasMark(_) => marked.is_some_and(|marked| marked.work == Some(*work)),
            When::MapsFile(part) => self.mapped().iter().any(|file| file.to_string_lossy().contains(part)),
            When::HasThread(names) => (self.has_thread)(names),
        });
        exception.map_or(runtime.work, |(_, work)| *work)
    }

    fn mapped(&self) -> &[PathBuf] {
        self.mapped.get_or_init(self.read_mapped)
    }
}

/// `3.11` of python3.11. None of python3, which is less than a version.
fn version_in(name: &str) -> Option<CompactString> {
    let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    (version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit())).then(|| version.into())
}

/// `3.11` of libpython3.11.so.1.0, `3.1` of libruby-3.1.so.3.1.
fn version_of_library(library: &str) -> Option<CompactString> {
    let (stem, _) = library.split_once(".so")?;
    version_in(stem)
}

#[cfg(test)]
mod tests;
