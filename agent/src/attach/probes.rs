//! Attaches kernel programs to functions of selected processes.

use std::mem;
use std::path::PathBuf;

use rustc_hash::FxHashMap;

use crate::discover::process;
use crate::kernel::{FunctionLink, FunctionPrograms, Location};

/// A function that a kernel program observes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Name of the kernel program.
    pub program: &'static str,
    /// Opens the binary that has the function.
    pub path: PathBuf,
    /// Where the function begins in that file.
    pub offset: u64,
}

impl Function {
    fn location(&self) -> Location<'_> {
        Location { program: self.program, cookie: 0, path: &self.path, offset: self.offset }
    }
}

/// What is attached to functions, by process. An attachment applies to one process: others that have mapped the same file do
/// not notice.
#[derive(Debug)]
pub(super) struct Probes {
    programs: FunctionPrograms,
    links: FxHashMap<u32, Vec<FunctionLink>>,
}

impl Probes {
    pub(super) fn new(programs: FunctionPrograms) -> Self {
        Self { programs, links: FxHashMap::default() }
    }

    /// Attaches to functions of a process, in place of what was attached to it before. Returns how many failed.
    pub(super) fn attach(&mut self, tgid: u32, functions: &[Function]) -> u64 {
        self.detach(tgid);
        let locations: Vec<_> = functions.iter().map(Function::location).collect();
        // None: the agent is ending.
        let Some(attachment) = self.programs.attach(tgid, &locations) else { return 0 };
        for (_, error) in &attachment.failed {
            tracing::warn!(pid = tgid, %error, "cannot observe a function; calls may have no parent");
        }
        if !attachment.links.is_empty() {
            tracing::debug!(pid = tgid, functions = functions.len(), links = attachment.links.len(), "attached");
            self.links.insert(tgid, attachment.links);
        }
        attachment.failed.len() as u64
    }

    /// Detaches from processes whose end was not reported.
    pub(super) fn sweep(&mut self) {
        for tgid in process::ended(self.links.keys().copied()) {
            self.detach(tgid);
        }
    }

    /// The process ended, or executes another program.
    pub(super) fn detach(&mut self, tgid: u32) {
        if let Some(links) = self.links.remove(&tgid) {
            self.programs.detach(links);
        }
    }

    /// The agent is ending. Another process detaches: see `crate::detach`.
    pub(super) fn leave(self) {
        mem::forget(self.links);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_sweep_detaches_from_processes_that_have_ended() {
        let mut ended = Command::new("/bin/true").spawn().unwrap();
        ended.wait().unwrap();
        let mut probes = Probes::new(FunctionPrograms::new(Arc::new(Mutex::new(None))));
        probes.links.extend([(ended.id(), Vec::new()), (id(), Vec::new())]);
        probes.sweep();
        assert_eq!(probes.links.keys().copied().collect::<Vec<_>>(), [id()]);
    }
}
