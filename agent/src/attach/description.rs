//! What is known of one process, for `onlooker doctor --pid`.

use std::fmt;

use onlooker_common::unit;
use serde::Serialize;

use super::{Unread, java};
use crate::discover::process::Process;
use crate::runtimes::{Recogniser, Work};

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
        self.java_tls.as_ref().map_or(Ok(()), |tls| write!(f, "\n  TLS      {tls}"))
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
