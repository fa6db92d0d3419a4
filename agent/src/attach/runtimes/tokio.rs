//! Tasks of tokio: where each thread has the id of the task that it runs, and which functions wake tasks.
//!
//! Everything is found by symbols. tokio names no offsets, so these are taken from its code, and checked against the process:
//!
//! - The id is in a thread-local struct, `CONTEXT`. The compiler chooses where. The function that replaces the id loads it and
//!   stores another one at the same place.
//! - Each kind of task has a table of functions and offsets (`Vtable`), which says where a task has its id. The tables must look as
//!   those of tokio 1.26 and later.

mod code;
mod program;
mod tables;
mod threads;

use std::sync::{LazyLock, Mutex, PoisonError};

use onlooker_common::unit::{self, UnitSource, tokio};
use onlooker_elf::Elf;

use self::program::Program;
use crate::attach::{Function, Mapped, Memory, Unread, executables, mappings};
use crate::discover::process::Process;
use crate::file_version::FileVersion;
use crate::recent::Recent;

/// What was found in executables. Reading the symbols of a large one takes a tenth of a second.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
type Known = Recent<FileVersion, Result<Program, Unread>, EXECUTABLES_KEPT>;
const EXECUTABLES_KEPT: usize = 1024;

/// Finds how the task of a process is read.
pub(crate) fn find(process: &Process) -> Result<UnitSource, Unread> {
    let unreadable = |error: std::io::Error| Unread::Unknown(format!("the process cannot be read: {error}"));
    let (mapped, program) = open(process)?;
    let memory = Memory::open(process).map_err(unreadable)?;
    let address = |at: u64| at.wrapping_add(mapped.bias);
    tables::check(&memory, &program, mapped.bias)?;
    let next_id: u64 = memory.read(address(program.next_id)).map_err(unreadable)?;
    threads::check(&memory, &mappings(process).map_err(unreadable)?, program.task_id, next_id)?;
    let mut words = [0; unit::SOURCE_WORDS];
    words[tokio::TASK_ID] = program.task_id;
    words[tokio::IMAGE_START] = address(program.image.start);
    words[tokio::IMAGE_END] = address(program.image.end);
    Ok(UnitSource { kind: unit::TOKIO_TASK, words, ..UnitSource::default() })
}

/// The functions by which a task wakes another.
pub(crate) fn functions(process: &Process) -> Vec<Function> {
    let Ok((mapped, program)) = open(process) else { return Vec::new() };
    let function = |&offset: &u64| Function { program: "tokio_wake", path: mapped.path.clone(), offset };
    program.wakers.iter().map(function).collect()
}

/// How the places are known, for users.
pub(crate) fn describe(process: &Process) -> Result<String, Unread> {
    let (_, program) = open(process)?;
    let version = program.version.as_deref().unwrap_or("of an unknown version");
    Ok(format!("tokio {version}, found by symbols"))
}

/// The executable of a process, and what was found in it.
fn open(process: &Process) -> Result<(Mapped, Program), Unread> {
    let gone = || Unread::Unknown("its executable cannot be read any more".to_owned());
    let path = process.executable().ok().flatten().ok_or_else(gone)?;
    let found = executables(process).map_err(|_| gone())?;
    let mapped = found.into_iter().find(|mapped| path.as_os_str() == mapped.name.as_str()).ok_or_else(gone)?;
    let file = mapped.open().ok_or_else(gone)?;
    let version = FileVersion::of(&file).map_err(|_| gone())?;
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let program = known().get(&version).cloned();
    let program = match program {
        Some(program) => program,
        None => {
            let program = Program::read(&Elf::open(&file).ok_or_else(gone)?);
            known().insert(version, program.clone());
            program
        }
    };
    Ok((mapped, program?))
}
