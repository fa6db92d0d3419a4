//! What runs inside a process, and what the thread that read a request says about whose work it does.
//!
//! Judged by what the executable is made of (read once per executable), its name, and, where that does not tell, the
//! libraries mapped into the process. At an exec event only the executable is mapped: what it links counts too.

mod executable;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use compact_str::CompactString;
use rustc_hash::FxHashMap;

use self::executable::{Depth, Executable};
use super::process::Process;

/// Executables remembered: more than run on a host at a time, small change to read again.
const EXECUTABLES_KEPT: usize = 1024;
/// `release` of a JDK is half a KiB, a KiB with GraalVM's modules.
const RELEASE_READ_BYTES: u64 = 64 << 10;

/// The program of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    pub program: Program,
    /// As far as it is known without running anything: all of it, or its beginning.
    pub version: Option<CompactString>,
    pub work: Work,
}

/// Who executes: an interpreter or runtime, a server known by name, or a program that is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    Beam,
    Bun,
    Deno,
    DotNet,
    Go,
    Jvm,
    Nginx,
    Node,
    Perl,
    Php,
    Postgres,
    PyPy,
    Python,
    Redis,
    Ruby,
    Rust,
    /// A shell, running a script or a person's commands.
    Shell,
    /// Compiled, from what is not known.
    Native,
}

/// What the thread of a socket operation says about the request it is done for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Work goes on the thread that read it, until proven otherwise.
    ThreadUntilProvenOtherwise,
    /// One thread serves many requests by turns.
    EventLoop,
    /// As `EventLoop`, and what wants a connection of a full pool does not wait in a queue for another request's to
    /// come free: a turn of the loop is of the request whose connection woke it.
    EventLoopNoQueue,
    /// Units of work move between threads: the thread says nothing.
    Scheduler,
}

impl Program {
    /// The value of `telemetry.sdk.language` (semantic conventions, telemetry). None if the language is not known.
    #[must_use]
    pub fn language(self) -> Option<&'static str> {
        Some(match self {
            Self::Beam => "erlang",
            Self::Bun | Self::Deno | Self::Node => "nodejs",
            Self::DotNet => "dotnet",
            Self::Go => "go",
            Self::Jvm => "java",
            Self::Perl => "perl",
            Self::Php => "php",
            Self::PyPy | Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Rust => "rust",
            Self::Nginx | Self::Postgres | Self::Redis | Self::Shell | Self::Native => return None,
        })
    }

    /// The value of `process.runtime.name`, where the semantic conventions or the language's own SDK fix it and it can
    /// be told from outside: a JVM's is its vendor's to choose.
    #[must_use]
    pub fn runtime_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Beam => "BEAM",
            Self::Bun => "bun",
            Self::Deno => "deno",
            Self::DotNet => ".NET",
            Self::Go => "go",
            Self::Node => "nodejs",
            Self::Perl => "perl",
            Self::Php => "php",
            Self::PyPy => "pypy",
            Self::Python => "cpython",
            Self::Ruby => "ruby",
            Self::Jvm | Self::Nginx | Self::Postgres | Self::Redis | Self::Rust | Self::Shell | Self::Native => {
                return None;
            }
        })
    }

    /// Whether it runs other programs, by whose names it goes.
    pub(crate) fn interprets(self) -> bool {
        !matches!(self, Self::Go | Self::Native | Self::Nginx | Self::Postgres | Self::Redis | Self::Rust)
    }

    /// By the name of the executable file alone.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        // python3.11, php-fpm8.2, ruby3.1, perl5.36.0
        Some(match name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
            "nginx" | "angie" | "openresty" | "tengine" => Self::Nginx,
            "postgres" | "postmaster" => Self::Postgres,
            "redis-server" | "redis-sentinel" | "redis-check-rdb" | "valkey-server" | "keydb-server" => Self::Redis,
            "beam" | "beam.smp" => Self::Beam,
            "bun" => Self::Bun,
            "deno" => Self::Deno,
            "dotnet" => Self::DotNet,
            "java" => Self::Jvm,
            "node" | "nodejs" => Self::Node,
            "perl" => Self::Perl,
            "php" | "php-fpm" | "php-cgi" => Self::Php,
            "pypy" => Self::PyPy,
            "python" | "Python" => Self::Python,
            "ruby" => Self::Ruby,
            "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" | "fish" => Self::Shell,
            _ => return None,
        })
    }

    /// By the name of a library that is linked or mapped. Perl's says nothing: monitoring agents and databases load it
    /// for a corner of theirs.
    fn by_library(name: &str) -> Option<Self> {
        const LIBRARIES: [(&str, Program); 9] = [
            ("libpython", Program::Python),
            ("libpypy", Program::PyPy),
            ("libruby", Program::Ruby),
            ("libjvm.so", Program::Jvm),
            ("libjli.so", Program::Jvm),
            ("libcoreclr.so", Program::DotNet),
            ("libhostfxr.so", Program::DotNet),
            ("libnode.so", Program::Node),
            ("libphp", Program::Php),
        ];
        LIBRARIES.iter().find(|(library, _)| name.starts_with(library)).map(|(_, program)| *program)
    }
}

/// Recognises programs; remembers what each executable is made of.
#[derive(Debug, Default)]
pub struct Runtimes {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    executables: FxHashMap<FileVersion, Executable>,
    /// From the longest known to the latest.
    order: VecDeque<FileVersion>,
}

/// A file's content, as far as the file system tells it apart from an earlier one, and how far it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileVersion {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
    depth: Depth,
}

impl Runtimes {
    /// What runs inside `process`. Reads its executable the first time it is seen: a few milliseconds for a large one
    /// whose name says nothing.
    pub fn of(&self, process: &Process) -> Runtime {
        let path = process.executable().ok().flatten().unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let depth = if Program::by_name(&name).is_some() { Depth::Headers } else { Depth::Constants };
        let executable = self.executable(process, depth);
        judge(
            &path,
            &executable,
            || process.mapped_files(),
            |file| {
                let text = process.read_inside(file, RELEASE_READ_BYTES)?;
                Some(String::from_utf8_lossy(&text).into_owned())
            },
            |is| process.has_thread(is),
        )
    }

    fn executable(&self, process: &Process, depth: Depth) -> Executable {
        let Ok(file) = process.open_executable() else { return Executable::default() };
        let Ok(metadata) = file.metadata() else { return Executable::default() };
        let version = FileVersion {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            depth,
        };
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = lock().executables.get(&version) {
            return executable.clone();
        }
        let executable = executable::examine(&file, depth);
        let mut known = lock();
        if known.executables.insert(version, executable.clone()).is_none() {
            known.order.push_back(version);
        }
        if known.order.len() > EXECUTABLES_KEPT
            && let Some(oldest) = known.order.pop_front()
        {
            known.executables.remove(&oldest);
        }
        executable
    }
}

/// What a process runs, from the path and the making of its executable; `mapped`, `read` and `has_thread` are asked only
/// where these don't tell.
fn judge(
    path: &Path,
    executable: &Executable,
    mapped: impl FnOnce() -> Vec<PathBuf>,
    read: impl FnOnce(&Path) -> Option<String>,
    has_thread: impl FnOnce(fn(&[u8]) -> bool) -> bool,
) -> Runtime {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let by_making = executable.program();
    // A Go program may be called `node`; hardly anything else about an executable is as sure.
    let program = match by_making {
        Some(Program::Go) => Some(Program::Go),
        _ => Program::by_name(&name)
            .or_else(|| executable.links.iter().find_map(|library| Program::by_library(library)))
            .or(by_making),
    };
    let mut version = match program {
        Some(Program::Go) => executable.go.clone().flatten(),
        Some(program) => version_in(&name).or_else(|| {
            let mut own = executable.links.iter().filter(|library| Program::by_library(library) == Some(program));
            own.find_map(|library| library_version(library))
        }),
        None => None,
    };
    let (program, mapped) = match program {
        // Apache with mod_php, an app host of .NET: the runtime is loaded by name at start.
        None | Some(Program::Rust) => {
            let mapped = mapped();
            let embedded = mapped.iter().filter_map(|file| file.file_name()?.to_str()).find_map(|library| {
                let program = Program::by_library(library)?;
                version = library_version(library);
                Some(program)
            });
            (embedded.or(program).unwrap_or(Program::Native), mapped)
        }
        Some(program @ (Program::Nginx | Program::DotNet)) => (program, mapped()),
        Some(program) => (program, Vec::new()),
    };
    match program {
        Program::Jvm => version = java_version(path, read),
        Program::DotNet => version = mapped.iter().find_map(|file| dotnet_version(file)),
        _ => {}
    }
    let work = match work(program, executable, &mapped) {
        Work::ThreadUntilProvenOtherwise if program == Program::Jvm && has_thread(serves_virtual_threads) => {
            Work::Scheduler
        }
        work => work,
    };
    Runtime { program, version, work }
}

/// What a JVM calls the threads that wake virtual ones, by the clock and when a socket is ready (JDK 21 to 25). They are
/// there from the first virtual thread on that waits.
fn serves_virtual_threads(thread: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [b"VirtualThread-", b"MasterPoller", b"Master-Poller", b"Read-Poller", b"Write-Poller"];
    NAMES.iter().any(|name| thread.starts_with(name))
}

fn work(program: Program, executable: &Executable, mapped: &[PathBuf]) -> Work {
    match program {
        Program::Node | Program::Deno | Program::Bun | Program::Redis => Work::EventLoop,
        // OpenResty's sockets have pools with a backlog.
        Program::Nginx if mapped.iter().any(|file| file.to_string_lossy().contains("lua")) => Work::EventLoop,
        Program::Nginx => Work::EventLoopNoQueue,
        // Goroutines, BEAM processes, tokio's tasks and .NET's go on wherever a thread is free.
        Program::Go | Program::Beam | Program::DotNet => Work::Scheduler,
        Program::Rust if executable.tokio => Work::Scheduler,
        Program::Jvm
        | Program::Perl
        | Program::Php
        | Program::Postgres
        | Program::PyPy
        | Program::Python
        | Program::Ruby
        | Program::Rust
        | Program::Shell
        | Program::Native => Work::ThreadUntilProvenOtherwise,
    }
}

/// `3.11` of python3.11; None of python3, which says less than a version.
fn version_in(name: &str) -> Option<CompactString> {
    let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    (version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit())).then(|| version.into())
}

/// `3.11` of libpython3.11.so.1.0, `3.1` of libruby-3.1.so.3.1.
fn library_version(library: &str) -> Option<CompactString> {
    let (stem, _) = library.split_once(".so")?;
    version_in(stem)
}

/// `8.0.1` of /usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so.
fn dotnet_version(mapped: &Path) -> Option<CompactString> {
    let folder = mapped.parent()?;
    (folder.parent()?.file_name()? == OsStr::new("Microsoft.NETCore.App")).then_some(())?;
    folder.file_name()?.to_str().map(CompactString::from)
}

/// JAVA_VERSION in the file `release` of the JDK or JRE that holds bin/java.
fn java_version(path: &Path, read: impl FnOnce(&Path) -> Option<String>) -> Option<CompactString> {
    let release = read(&path.parent()?.parent()?.join("release"))?;
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?.trim().trim_matches('"');
    (!version.is_empty() && version.len() <= 64).then(|| version.into())
}

#[cfg(test)]
mod tests;
