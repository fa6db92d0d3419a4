//! Goroutines: where the running goroutine's id is, and which function ties net/http's calls to goroutines.
//!
//! Offsets of struct members come from the executable's debug information, otherwise from a table by release. Wrong offsets
//! look plausible, so they are checked against the process: all goroutines must have different ids, the first must have id 1,
//! and a goroutine that it started must name it.

pub(crate) mod build_information;
mod dwarf;
mod goroutines;
mod members;
mod offsets;
mod origin;
mod pclntab;
mod processors;

use std::fs::File;
use std::path::Path;

use onlooker_common::unit::{self, UnitSource, go};
use onlooker_elf::Elf;

use self::members::Members;
use self::origin::Origin;
use crate::attach::{Found, Function, Lookup, Mapped, Memory, Unread, executables};
use crate::discover::process::Process;

/// The method by which a goroutine makes net/http send a request on a connection. The connection's own goroutine writes it.
const ROUND_TRIP: &str = "net/http.(*persistConn).roundTrip";
/// The methods in which a goroutine handles a request over HTTP/2: of net/http, of Go 1.27's, of golang.org/x/net, and of grpc-go.
const RUN_HANDLER: [&str; 3] = [
    "net/http.(*http2serverConn).runHandler",
    "net/http/internal/http2.(*serverConn).runHandler",
    "golang.org/x/net/http2.(*serverConn).runHandler",
];
/// The method in which the goroutine that reads from a connection of grpc-go's server begins a stream.
const GRPC_BEGIN: &str = "google.golang.org/grpc/internal/transport.(*http2Server).operateHeaders";
const GRPC_HANDLE: &str = "google.golang.org/grpc.(*Server).handleStream";
/// The method that returns the header fields of a call of grpc-go to the goroutine that makes it.
const GRPC_CALL: &str = "google.golang.org/grpc/internal/transport.(*http2Client).createHeaderFields";
/// The methods in which the goroutine of a connection of grpc-go takes the header fields of a stream, of newer and older releases.
const GRPC_HEADERS: [&str; 2] = [
    "google.golang.org/grpc/internal/transport.(*loopyWriter).clientHeaderHandler",
    "google.golang.org/grpc/internal/transport.(*loopyWriter).headerHandler",
];

/// Finds out how the goroutine of a process is read.
pub(crate) fn find(process: &Process) -> Result<UnitSource, Unread> {
    let program = Program::open(process)?;
    let file = program.mapped.open().ok_or_else(gone)?;
    let elf = Elf::open(&file).ok_or_else(gone)?;
    let (members, origin) = program.members(&file)?;
    let goid = members.goid().ok_or_else(|| unknown("its goroutines have no id"))?;
    let parent_goid = members.parent_goid();
    let largest = goroutines::largest_id(&elf, &program.mapped, &program.memory, goid, parent_goid)?;
    let mut words = [0; unit::SOURCE_WORDS];
    // The only thread-local variable of Go's runtime is the running goroutine. It is directly below the thread pointer. A
    // stripped executable without C code does not declare it. If C code has variables there too, the register that holds the
    // goroutine is read.
    words[go::G] = if elf.thread_local_length() <= 8 { 8_u64.wrapping_neg() } else { 0 };
    words[go::GOID] = goid;
    words[go::PARENT_GOID] = parent_goid.unwrap_or(0);
    let processors = members.next_goid().and_then(|offset| {
        Some(go::pack_processors(processors::slice(&elf, &program.mapped, &program.memory, offset, largest)?, offset))
    });
    words[go::PROCESSORS] = processors.unwrap_or(0);
    words[go::HTTP_CLIENT] = members.http_client().map_or(0, go::pack);
    tracing::debug!(pid = process.pid(), release = %program.release, ?origin, goid, parent_goid, processors, "goroutines are read");
    Ok(UnitSource { kind: unit::GOROUTINE, words, ..UnitSource::default() })
}

/// The functions that show which goroutine a call belongs to, if the process has them.
pub(crate) fn functions(process: &Process) -> Vec<Function> {
    let find = || {
        let program = Program::open(process).ok()?;
        let file = program.mapped.open()?;
        let members = program.members(&file).ok()?.0;
        let path = &program.mapped.path;
        let names = [&[ROUND_TRIP, GRPC_BEGIN, GRPC_HANDLE, GRPC_CALL][..], &RUN_HANDLER, &GRPC_HEADERS].concat();
        let mut functions = Vec::new();
        for Found { name, offset, returns, .. } in program.functions(&names) {
            let is_of = |names: &[&str]| names.contains(&name);
            let (program, places) = match name {
                ROUND_TRIP if members.http_client().is_some() => ("go_round_trip", vec![offset]),
                GRPC_BEGIN => ("go_grpc_begin", vec![offset]),
                GRPC_HANDLE => ("go_grpc_handle", vec![offset]),
                GRPC_CALL => ("go_grpc_call", returns.unwrap_or_default()),
                _ if is_of(&RUN_HANDLER) && members.parent_goid().is_some() => ("go_run_handler", vec![offset]),
                _ if is_of(&GRPC_HEADERS) => ("go_grpc_headers", vec![offset]),
                _ => continue,
            };
            functions.extend(places.into_iter().map(|offset| Function { program, path: path.clone(), offset }));
        }
        Some(functions)
    };
    find().unwrap_or_default()
}

/// Functions of a Go program by their names: its executable, and those that it contains.
pub(crate) fn functions_named(process: &Process, names: &[&'static str]) -> Option<(Mapped, Vec<Found>)> {
    let program = Program::open(process).ok()?;
    let found = program.functions(names);
    Some((program.mapped, found))
}

/// How the offsets of a process are known, for users.
pub(crate) fn describe(process: &Process) -> Result<String, Unread> {
    let program = Program::open(process)?;
    let file = program.mapped.open().ok_or_else(gone)?;
    let (_, origin) = program.members(&file)?;
    let from = match origin {
        Origin::DebugInformation => "the executable's debug information",
        Origin::Table => "the table of Go releases",
    };
    let started = match find(process)?.words[go::PROCESSORS] {
        0 => {
            "; calls of goroutines that a handler of HTTP/1 starts have no parent by goroutine: the program has no list of processors that can be read"
        }
        _ => "",
    };
    Ok(format!("{}, offsets from {from}{started}", program.release))
}

/// A process whose executable is a Go program.
struct Program {
    mapped: Mapped,
    memory: Memory,
    release: String,
}

impl Program {
    fn open(process: &Process) -> Result<Self, Unread> {
        let unreadable =
            |error: &dyn std::fmt::Display| Unread::Unknown(format!("the process cannot be read: {error}"));
        let path = process.executable().map_err(|error| unreadable(&error))?.unwrap_or_default();
        let found = executables(process).map_err(|error| unreadable(&error))?;
        let mapped = found.into_iter().find(|mapped| Path::new(&mapped.name) == path).ok_or_else(gone)?;
        let memory = Memory::open(process).map_err(|error| unreadable(&error))?;
        let file = mapped.open().ok_or_else(gone)?;
        let elf = Elf::open(&file).ok_or_else(gone)?;
        let information = elf.section_bytes(build_information::SECTION);
        let release = build_information::release(&information)
            .ok_or_else(|| unknown("it does not contain its Go release, or was built by Go 1.17 or earlier"))?;
        Ok(Self { mapped, memory, release: release.into() })
    }

    /// Functions by their names: those that it contains.
    fn functions(&self, names: &[&'static str]) -> Vec<Found> {
        let found = self.mapped.functions(names);
        if !found.is_empty() {
            return found;
        }
        let find = || {
            let file = self.mapped.open()?;
            let elf = Elf::open(&file)?;
            let table = pclntab::Functions::read(&elf, &self.mapped, &self.memory)?;
            let found = names.iter().filter_map(|name| Found::at(&elf, name, &table.find(name)?, Lookup::Pclntab));
            Some(found.collect())
        };
        find().unwrap_or_default()
    }

    fn members(&self, file: &File) -> Result<(Members, Origin), Unread> {
        origin::find(file, &self.release).ok_or_else(|| {
            Unread::Unknown(format!(
                "{} is not in the table of releases, and it has no debug information",
                self.release
            ))
        })
    }
}

fn gone() -> Unread {
    unknown("its executable cannot be read any more")
}

fn unknown(why: &str) -> Unread {
    Unread::Unknown(why.to_owned())
}
