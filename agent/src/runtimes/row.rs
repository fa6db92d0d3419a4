//! The columns of the table of runtimes.

use std::fmt;
use std::path::Path;

use compact_str::CompactString;

use super::compiled;
use super::launch::{Launch, ServiceName};
use super::paths::{file_name, without_version};
use crate::attach::{Function, UnitOfWork, Unread};
use crate::discover::process::Process;

/// One runtime: an interpreter, a virtual machine, a compiler's standard library, or a server that is its own runtime.
pub struct Runtime {
    /// Identifies the row.
    pub name: &'static str,
    /// File names of its executables, without a version at the end: `python`, not `python3.11`.
    pub executables: &'static [&'static str],
    /// How the file names of the shared libraries that contain it begin.
    pub libraries: &'static [&'static str],
    /// Marks that prove this runtime whatever the executable is called. They are looked for in every executable, so
    /// they must be cheap to find ([`Mark::is_cheap`]).
    pub proof: &'static [Mark],
    /// Marks that count only where neither the executable's name nor its libraries say what it is.
    pub hints: &'static [Mark],
    /// Whether a process may have loaded another runtime that it is judged by instead, such as Apache with `mod_php`.
    pub may_host_another: bool,
    /// Where its version is found.
    pub version: Version,
    /// What the thread of an operation proves.
    pub work: Work,
    /// Exceptions to `work`. The first whose condition holds is taken.
    pub work_exceptions: &'static [(When, Work)],
    /// Whether it is a proxy: it passes each request on with the same method, target and host, unless it is configured to change
    /// them.
    pub is_proxy: bool,
    /// Whether its sockets may stay enrolled after their first request, if they never block: docs/propagation.md has what was tested.
    pub enrolment: Enrolment,
    /// The unit of work that the kernel programs read from the process besides its thread.
    pub unit_of_work: Option<UnitOfWork>,
    /// How it is known where a process has its unit of work, for users.
    pub unit_origin: Option<UnitOrigin>,
    /// Finds functions of a process that show which unit of work a call belongs to.
    pub functions: Option<fn(&Process) -> Vec<Function>>,
    /// Whether it runs programs with names of their own, so that its own name says nothing about the service.
    pub interprets: bool,
    /// Names the service of a process whose executable is the runtime's own or one of `hosts`. All others are named
    /// after their executable.
    pub service_name: fn(&Launch<'_>) -> ServiceName,
    /// How the names of servers begin that contain this runtime and are named like its own executables.
    pub hosts: &'static [&'static str],
    /// Environment variables that `service_name` reads. No others are kept.
    pub variables: &'static [&'static str],
    /// The value of `telemetry.sdk.language` (semantic conventions, telemetry).
    pub sdk_language: Option<&'static str>,
    /// The value of `process.runtime.name`. None where neither the semantic conventions nor the language's SDK fix it,
    /// or where it cannot be seen from outside: a JVM's vendor chooses its own.
    pub runtime_name: Option<&'static str>,
}

/// Says how it is known where a process has its unit of work, or why it is not known.
pub(super) type UnitOrigin = fn(&Process) -> Result<String, Unread>;

/// Something in an executable by which its runtime is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A section of this name.
    Section(&'static str),
    /// A note that contains these bytes. Notes survive stripping of the section headers.
    Note(&'static [u8]),
    /// A name in the dynamic symbol table.
    Symbol(&'static str),
    /// Text in `.comment`, where compilers leave their names.
    Compiler(&'static str),
    /// Text among the constants.
    Constant(&'static str),
}

/// Where a runtime's version is found. All or the beginning of it, as far as it is known without running anything.
#[derive(Debug)]
pub enum Version {
    Unknown,
    /// In the name of the executable or library: `python3.11`, `libruby-3.1.so`.
    FileName,
    /// In the executable's section of this name.
    Section(&'static str, fn(&[u8]) -> Option<CompactString>),
    /// In the path of a mapped file.
    MappedPath(fn(&Path) -> Option<CompactString>),
    /// In a text file of the folder that holds the executable's folder: `release` for `bin/java`.
    Installation(&'static str, fn(&str) -> Option<CompactString>),
}

/// How long the sockets of a runtime stay enrolled, so that their requests get a trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// Until the first request has gone.
    OfFirstRequest,
    /// As long as requests may follow. The runtime never asks FIONREAD.
    OfEveryRequest,
    /// The same, unless a file is mapped whose name begins with one of these: libraries that ask it. Judged when the process makes calls.
    Without(&'static [&'static str]),
}

/// What the thread of a socket operation proves about the request that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// A thread works on the request it read last, until the kernel side sees otherwise.
    ThreadUntilProvenOtherwise,
    /// One thread works on many requests in turn.
    EventLoop,
    /// As [`Work::EventLoop`], and nothing waits in a queue for a free connection of a pool. So each tick works on the
    /// request whose connection woke the loop.
    EventLoopNoQueue,
    /// Units of work move between threads: the thread proves nothing.
    Scheduler,
    /// Virtual threads move between some of the threads. Which ones is known if the kernel programs read the unit of work.
    VirtualThreads,
}

/// When an exception to a runtime's [`Work`] applies.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// The executable has one of these marks. Judged only where the runtime was recognised by its marks.
    HasMark(&'static [Mark]),
    /// The path of a mapped file contains this.
    MapsFile(&'static str),
    /// A thread's name begins with one of these.
    HasThread(&'static [&'static str]),
}

impl Enrolment {
    /// Whether the sockets of a process stay enrolled. `makes_calls`: it has loaded what it calls with.
    #[must_use]
    pub fn stays(self, process: &Process, makes_calls: bool) -> bool {
        match self {
            Self::OfFirstRequest => false,
            Self::OfEveryRequest => true,
            Self::Without(libraries) => {
                makes_calls && !process.mapped_files().iter().any(|file| is_one_of(file, libraries))
            }
        }
    }
}

fn is_one_of(file: &Path, libraries: &[&str]) -> bool {
    libraries.iter().any(|library| file_name(file).starts_with(library))
}

impl Runtime {
    /// A compiled program that nothing else is known about. Rows state only what differs.
    pub(super) const COMPILED: Self = Self {
        name: "compiled",
        executables: &[],
        libraries: &[],
        proof: &[],
        hints: &[],
        may_host_another: false,
        version: Version::Unknown,
        work: Work::ThreadUntilProvenOtherwise,
        work_exceptions: &[],
        is_proxy: false,
        enrolment: Enrolment::OfFirstRequest,
        unit_of_work: None,
        unit_origin: None,
        functions: None,
        interprets: false,
        service_name: compiled::service_name,
        hosts: &[],
        variables: &[],
        sdk_language: None,
        runtime_name: None,
    };

    /// Whether an executable of this file name is the runtime's own.
    #[must_use]
    pub fn is_named(&self, file_name: &str) -> bool {
        self.executables.contains(&without_version(file_name))
    }

    /// Whether the library of this file name contains the runtime.
    #[must_use]
    pub fn is_in_library(&self, file_name: &str) -> bool {
        self.libraries.iter().any(|library| file_name.starts_with(library))
    }

    /// Names the service of a process that this runtime executes.
    #[must_use]
    pub fn name_service(&self, launch: &Launch<'_>) -> ServiceName {
        let executable = file_name(launch.executable);
        if self.is_named(executable) || self.hosts.iter().any(|host| executable.starts_with(host)) {
            return (self.service_name)(launch);
        }
        // A server that contains an interpreter is still that server: apache2 with mod_php. A renamed interpreter is
        // recognised by the script that it runs.
        match launch.runs_a_file().then(|| (self.service_name)(launch)) {
            Some(name @ ServiceName::Known(_)) => name,
            _ => compiled::service_name(launch),
        }
    }
}

impl Mark {
    /// Whether finding it takes no search through the program's constants, which may have many MiB.
    #[must_use]
    pub const fn is_cheap(self) -> bool {
        matches!(self, Self::Section(_) | Self::Note(_) | Self::Symbol(_))
    }
}

impl PartialEq for Runtime {
    /// Rows are equal by name: comparing functions says nothing.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Runtime {}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({})", self.name)
    }
}
