//! What is known of one process, for `onlooker doctor --pid`.

use std::fmt;

use onlooker_common::unit;
use serde::Serialize;

use super::{Unread, java, tls};
use crate::discover::process::Process;
use crate::runtimes::{Recogniser, Work};

/// A TLS library of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsLibrary {
    pub name: &'static str,
    /// The file that contains it, in the process's mount namespace.
    pub file: String,
    /// The functions that are observed while the process is selected. Empty: the library is recognised, and not read.
    pub functions: Vec<&'static str>,
}

/// A process's runtime and unit of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    pub pid: u32,
    pub runtime: &'static str,
    /// The runtime's version, or the beginning of it.
    pub version: Option<String>,
    /// The unit of work that identifies the request of a call, besides the thread. None if the runtime has none that is
    /// known.
    pub unit: Option<&'static str>,
    /// Whether the unit is read.
    pub is_read: bool,
    /// Where the unit was found, or why it is not read.
    pub detail: String,
    /// Of a JVM: whether its TLS can be read, or why not.
    pub java_tls: Option<String>,
    /// The TLS libraries that it has loaded.
    pub tls: Vec<TlsLibrary>,
}

impl Description {
    /// Describes a process. Reads its executable and its memory.
    #[must_use]
    pub fn of(process: &Process, recogniser: &Recogniser) -> Self {
        let program = recogniser.recognise(process);
        let runtime = program.runtime;
        let found = runtime.unit_of_work.map(|unit| {
            (unit.find)(process)?;
            runtime.unit_origin.map_or_else(|| Ok("found in its memory".to_owned()), |origin| origin(process))
        });
        let (is_read, detail) = match found {
            Some(Ok(origin)) => (true, origin),
            Some(Err(why @ Unread::NotYet(_))) => (false, format!("{why} (yet)")),
            Some(Err(why)) => (false, why.to_string()),
            None => (false, threads(program.work).to_owned()),
        };
        Self {
            pid: process.pid(),
            runtime: runtime.name,
            version: program.version.map(String::from),
            unit: runtime.unit_of_work.map(|unit| name(unit.kind)),
            is_read,
            detail,
            java_tls: java::is_jvm(process).then(|| java_tls(process)),
            tls: tls::find(process).into_iter().map(TlsLibrary::from).collect(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "process {}", self.pid)?;
        writeln!(f, "  runtime  {} {}", self.runtime, self.version.as_deref().unwrap_or_default())?;
        match (self.unit, self.is_read) {
            (Some(unit), true) => write!(f, "  unit     {unit}: {}", self.detail),
            (Some(unit), false) => write!(f, "  unit     {unit}, not read: {}", self.detail),
            (None, _) => write!(f, "  unit     {}", self.detail),
        }?;
        for TlsLibrary { name, file, functions } in &self.tls {
            match functions.as_slice() {
                [] => write!(f, "\n  TLS      {name} in {file}: recognised, not read")?,
                functions => write!(f, "\n  TLS      {name} in {file}: {}", functions.join(", "))?,
            }
        }
        match &self.java_tls {
            Some(tls) => write!(f, "\n  TLS      {tls}"),
            None if self.tls.is_empty() => write!(f, "\n  TLS      no library that is read"),
            None => Ok(()),
        }
    }
}

impl From<tls::InProcess> for TlsLibrary {
    fn from(found: tls::InProcess) -> Self {
        let mut functions: Vec<_> = found.functions.iter().map(|place| place.function).collect();
        // Each has a place for its beginning, and one for each return.
        functions.sort_unstable();
        functions.dedup();
        Self { name: found.library.name, file: found.file, functions }
    }
}

fn java_tls(process: &Process) -> String {
    let connections = process.connections();
    match java::examine(process) {
        Ok(java::Readable::Now) => format!("the library for it is loaded; {connections} open connections"),
        Ok(java::Readable::WhenAskedFor) => {
            format!("read with --java only; of {connections} open connections, those with TLS are not read otherwise")
        }
        Err(why) => format!("{why}; of {connections} open connections, those with TLS cannot be read"),
    }
}

/// What threads prove where no other unit is known.
fn threads(work: Work) -> &'static str {
    match work {
        Work::ThreadUntilProvenOtherwise => "thread",
        _ => "none: its threads work on many requests in turn, and no other unit is known",
    }
}

fn name(kind: u32) -> &'static str {
    match kind {
        unit::GOROUTINE => "goroutine",
        unit::VIRTUAL_THREAD => "virtual thread",
        unit::PYTHON_CONTEXT => "Python context",
        unit::ASYNC_ID => "async id",
        unit::TOKIO_TASK => "tokio task",
        _ => "thread",
    }
}
