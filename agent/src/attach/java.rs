//! Loads a library into JVMs that hands over the plaintext of their TLS (JSSE).
//!
//! TLS of a JVM is compiled Java code in anonymous memory: no kernel program can be attached to it. So, only if the user asked
//! for it, the JVM is made to load `java/native`, through the interface by which tools like jstack attach.
//!
//! | file | what it does |
//! |---|---|
//! | `jvms` | does this for the JVMs among the selected processes |
//! | `options` | reads the options of a JVM that forbid this |
//! | `listener` | talks to the JVM |
//! | `library` | puts the library where the JVM finds it, and removes it |
//!
//! Nothing is tried of which it is not known that the JVM can do it. A JVM that was loaded into once stays so: when the agent
//! ends, the woven methods do nothing, and the next agent attaches to the function that is still there.

mod jvms;
mod library;
mod listener;
mod options;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use self::jvms::Jvms;
use self::library::Placed;
use self::listener::Listener;
use self::options::Options;
use super::runtimes::jvm::structs::Structs;
use super::{Mapped, Memory, Unread, executables};
use crate::discover::process::Process;

/// The function in the library that kernel programs observe.
pub(crate) const OBSERVED: &str = "onlooker_java_observe";

/// The variable in the library with its outcome: `java/native/lib.rs`.
const OUTCOME: &str = "onlooker_java_outcome";

/// Threads that HotSpot starts when it can load libraries (`Threads::create_vm`), by the 15 bytes of their names that the
/// kernel keeps: since JDK 14 one, and before both.
const STARTED_LAST: [&[&[u8]]; 2] = [&[b"Notification Th"], &[b"VM Periodic Tas", b"Common-Cleaner"]];

/// Why TLS of a process cannot be read. The text is shown to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLoaded {
    /// It is no JVM, or one that has not started up. Nothing was tried.
    NotYet(String),
    /// This kind of JVM, or this build of Onlooker, cannot do it. Nothing was tried.
    Unsupported(String),
    /// An option of the JVM forbids it. Nothing was tried.
    Forbidden(String),
    /// It was tried, and the JVM goes on as before.
    Failed(String),
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotYet(why) | Self::Unsupported(why) | Self::Forbidden(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

/// The library has not returned yet.
const PENDING: i32 = -1;
/// The classes are woven.
const WOVEN: i32 = 0;
/// The JVM cannot change classes, or not yet.
const UNSUPPORTED: i32 = 101;

/// What the library returns when it is loaded: `java/native/lib.rs`.
fn meaning(outcome: i32) -> &'static str {
    match outcome {
        UNSUPPORTED => "the JVM cannot change classes that are loaded",
        102 => "the JVM refuses the classes of the library",
        103 => "this version of the JDK is not known: its TLS classes look different",
        104 => "the JVM refuses the changed TLS classes",
        _ => "the JVM cannot load the library; /tmp may be mounted noexec",
    }
}

/// Loads the library into a JVM, unless it is loaded. Takes about 100 ms, and at most 15 s.
///
/// A JVM that starts up answers before it can load the library. It shows that it has started up by a thread. One of which
/// `has_started` is known need not show it.
///
/// # Errors
/// If it cannot be loaded. Then the JVM is as before, except that its attach listener may run.
pub fn load(process: &Process, has_started: bool) -> Result<(), NotLoaded> {
    // Before that, also what is read of a JVM below may not be there yet.
    let has_thread = |wanted: &&[u8]| process.has_thread(|name| name == *wanted);
    if !has_started && !STARTED_LAST.iter().any(|threads| threads.iter().all(has_thread)) {
        return Err(NotLoaded::NotYet("the JVM starts up".to_owned()));
    }
    let jvm = jvm(process)?;
    if jvm.is_loaded {
        return Ok(());
    }
    if library::CONTENT.is_empty() {
        return Err(NotLoaded::Unsupported("Onlooker was built without the library for JVMs".to_owned()));
    }
    let failed = |what: &str, error: &io::Error| NotLoaded::Failed(format!("{what}: {error}"));
    let status = process.status().map_err(|error| NotLoaded::NotYet(error.to_string()))?;
    let folder = process
        .open_folder_inside(Path::new("/tmp"))
        .map_err(|error| failed("cannot open /tmp of the process", &error))?;
    let listener = Listener::of(process, &status, &folder)?;
    let placed = Placed::new(&folder).map_err(|error| failed("cannot write to /tmp of the process", &error))?;
    let outcome = listener.load(&placed.path())?;
    drop(placed);
    match outcome {
        listener::Outcome::Returned(WOVEN) => Ok(()),
        listener::Outcome::Nothing => Err(NotLoaded::NotYet("the JVM ends".to_owned())),
        listener::Outcome::Returned(UNSUPPORTED) if !has_started => {
            Err(NotLoaded::NotYet("the JVM starts up".to_owned()))
        }
        listener::Outcome::Returned(code) => Err(NotLoaded::Failed(meaning(code).to_owned())),
        listener::Outcome::Refused(text) => Err(NotLoaded::Failed(format!("the JVM refuses: {text}"))),
    }
}

/// Names of the libraries that are a JVM: HotSpot and OpenJ9.
const JVMS: [&str; 2] = ["libjvm.so", "libj9vm"];

/// Whether a process has loaded a JVM.
pub(crate) fn is_jvm(process: &Process) -> bool {
    let name = |path: &PathBuf| path.file_name().is_some_and(|name| is_jvm_library(&name.to_string_lossy()));
    process.mapped_files().iter().any(name)
}

fn is_jvm_library(name: &str) -> bool {
    JVMS.iter().any(|jvm| name.starts_with(jvm))
}

/// Whether the library could be loaded into a process. Looks only.
///
/// # Errors
/// As [`load`].
pub fn examine(process: &Process) -> Result<Readable, NotLoaded> {
    let jvm = jvm(process)?;
    Ok(if jvm.is_loaded { Readable::Now } else { Readable::WhenAskedFor })
}

/// Whether TLS of a JVM is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// The library is loaded.
    Now,
    /// With `--java`.
    WhenAskedFor,
}

struct Jvm {
    is_loaded: bool,
}

/// Finds the JVM in a process, and checks that its options allow to load the library.
fn jvm(process: &Process) -> Result<Jvm, NotLoaded> {
    let unreadable = |error| NotLoaded::NotYet(format!("the process cannot be read: {error}"));
    let binaries = executables(process).map_err(unreadable)?;
    let memory = Memory::open(process).map_err(unreadable)?;
    if let Some(is_loaded) = is_loaded(&libraries(&memory, &binaries).map(|(_, outcome)| outcome).collect::<Vec<_>>()) {
        return is_loaded.map(|()| Jvm { is_loaded: true });
    }
    let has = |is: fn(&str) -> bool| binaries.iter().find(|binary| file_name(binary).is_some_and(is));
    if has(|name| name.starts_with("libj9vm")).is_some() {
        return Err(NotLoaded::Unsupported("the JVM is OpenJ9, and only HotSpot is supported".to_owned()));
    }
    let Some(library) = has(|name| name == "libjvm.so") else {
        let is_image = binaries.first().is_some_and(|binary| binary.symbol("graal_create_isolate").is_some());
        return Err(if is_image {
            NotLoaded::Unsupported("a GraalVM native image has no JVM that could load anything".to_owned())
        } else {
            NotLoaded::NotYet("libjvm.so is not loaded".to_owned())
        });
    };
    let structs = Structs::read(&memory, |symbol| library.symbol(symbol).map(|symbol| symbol.address));
    let options = structs.and_then(|structs| Options::read(&memory, &structs));
    let options = options.map_err(|error| match error {
        Unread::NotYet(why) => NotLoaded::NotYet(why),
        Unread::Unknown(why) | Unread::Absent(why) => NotLoaded::Unsupported(why),
    })?;
    match options.forbids() {
        Some(option) => Err(NotLoaded::Forbidden(format!("the JVM was started with {option}"))),
        None => Ok(Jvm { is_loaded: false }),
    }
}

/// The copies of the library that a JVM has mapped, with their outcomes. An agent that was killed may have left one that is still being
/// loaded, and a copy that failed stays.
fn libraries<'binary>(memory: &Memory, binaries: &'binary [Mapped]) -> impl Iterator<Item = (&'binary Mapped, i32)> {
    binaries.iter().filter(|binary| binary.symbol(OBSERVED).is_some()).map(|binary| {
        let outcome = binary.symbol(OUTCOME).and_then(|outcome| memory.read(outcome.address).ok());
        (binary, outcome.unwrap_or(PENDING))
    })
}

/// The copies of the library that hand over plaintext.
pub(crate) fn woven<'binary>(process: &Process, binaries: &'binary [Mapped]) -> Vec<&'binary Mapped> {
    let Ok(memory) = Memory::open(process) else { return Vec::new() };
    libraries(&memory, binaries).filter(|&(_, outcome)| outcome == WOVEN).map(|(binary, _)| binary).collect()
}

/// Whether the library is loaded, by the outcomes of its copies. None if it can be loaded, or loaded again.
fn is_loaded(outcomes: &[i32]) -> Option<Result<(), NotLoaded>> {
    if outcomes.contains(&WOVEN) {
        return Some(Ok(()));
    }
    if outcomes.contains(&PENDING) {
        return Some(Err(NotLoaded::NotYet("the JVM is loading the library".to_owned())));
    }
    // Another copy would find the classes of this one.
    let failure = outcomes.iter().find(|&&outcome| outcome != UNSUPPORTED)?;
    Some(Err(NotLoaded::Failed(meaning(*failure).to_owned())))
}

fn file_name(binary: &Mapped) -> Option<&str> {
    Path::new(&binary.name).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], None)]
    #[case::woven(&[WOVEN], Some("loaded"))]
    #[case::woven_after_a_failure(&[UNSUPPORTED, WOVEN], Some("loaded"))]
    #[case::half_loaded(&[UNSUPPORTED, PENDING], Some("the JVM is loading the library"))]
    #[case::tried_too_early(&[UNSUPPORTED], None)]
    #[case::unknown_jdk(&[UNSUPPORTED, 103], Some(meaning(103)))]
    fn a_library_counts_as_loaded_when_it_is_woven(#[case] outcomes: &[i32], #[case] expected: Option<&str>) {
        let found =
            is_loaded(outcomes).map(|loaded| loaded.map_or_else(|why| why.to_string(), |()| "loaded".to_owned()));
        assert_eq!(found.as_deref(), expected);
    }
}
