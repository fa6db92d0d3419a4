//! Virtual threads of a HotSpot JVM, from JDK 19 on.
//!
//! HotSpot exports a table of its own structs for debuggers, `gHotSpotVMStructs`. It gives all offsets except one: where an
//! object of class `Thread` has its id. That is found by comparing the objects of all threads.

mod colours;
pub(in crate::attach) mod structs;
mod threads;

use std::path::Path;

use onlooker_common::unit::{self, UnitSource, jvm};

use self::colours::Colours;
use self::structs::Structs;
use self::threads::Threads;
use crate::attach::{Memory, Unread, executables};
use crate::discover::process::Process;

/// Finds how the kernel programs read the id of the running virtual thread.
pub(crate) fn find(process: &Process) -> Result<UnitSource, Unread> {
    let unreadable = |error| Unread::Unknown(format!("the process cannot be read: {error}"));
    let binaries = executables(process).map_err(unreadable)?;
    let is_jvm = |name: &str| Path::new(name).file_name().is_some_and(|name| name == "libjvm.so");
    let Some(library) = binaries.iter().find(|binary| is_jvm(&binary.name)) else {
        return Err(Unread::NotYet("libjvm.so is not loaded".to_owned()));
    };
    let memory = Memory::open(process).map_err(unreadable)?;
    source(&memory, |symbol| library.symbol(symbol).map(|symbol| symbol.address))
}

/// Finds it in `memory`. `symbol` returns the address of a variable of the JVM.
fn source(memory: &Memory, symbol: impl Fn(&str) -> Option<u64>) -> Result<UnitSource, Unread> {
    let structs = Structs::read(memory, symbol)?;
    let virtual_thread = structs
        .offset("JavaThread", "_vthread")
        .ok_or_else(|| Unread::Absent("a JDK before 19 has no virtual threads".to_owned()))?;
    let thread_object = structs.need("JavaThread", "_threadObj")?;
    // Members of superclasses are listed with different classes, depending on the JDK.
    let os_thread =
        structs.offset("Thread", "_osthread").map_or_else(|| structs.need("JavaThread", "_osthread"), Ok)?;
    let pthread = structs.need("OSThread", "_pthread_id")?;
    let colours = Colours::of(memory, &structs)?;
    let threads = Threads::read(memory, &structs, &colours, [thread_object, virtual_thread])?;
    let id = threads.find_id()?;
    let current_id = structs.offset("JavaThread", "_monitor_owner_id").filter(|&at| threads.current_id_is_at(id, at));
    let mut words = [0; unit::SOURCE_WORDS];
    words[jvm::THREAD] = jvm::pair(os_thread, pthread);
    words[jvm::OBJECTS] = jvm::pair(thread_object, virtual_thread);
    words[jvm::IDS] = jvm::pair(id, current_id.unwrap_or(0));
    words[jvm::BAD_COLOURS] = colours.bad;
    words[jvm::SHIFT] = colours.shift;
    Ok(UnitSource { kind: unit::VIRTUAL_THREAD, words, ..UnitSource::default() })
}

/// The JVM has not created what is read here.
fn not_yet(what: &str) -> Unread {
    Unread::NotYet(format!("the JVM has not started: {what}"))
}

#[cfg(test)]
mod tests;
