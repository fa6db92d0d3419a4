//! Attaches kernel programs to functions of selected processes.

use std::path::PathBuf;
use std::sync::PoisonError;

use rustc_hash::FxHashMap;

use crate::kernel::{FunctionLink, SharedKernel};

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

/// What is attached to functions, by process. An attachment applies to one process: others that have mapped the same file do
/// not notice.
#[derive(Debug)]
pub(super) struct Probes {
    kernel: SharedKernel,
    links: FxHashMap<u32, Vec<FunctionLink>>,
}

impl Probes {
    pub(super) fn new(kernel: SharedKernel) -> Self {
        Self { kernel, links: FxHashMap::default() }
    }

    /// Attaches to functions of a process, in place of what was attached to it before. Returns how many failed.
    pub(super) fn attach(&mut self, tgid: u32, functions: &[Function]) -> u64 {
        self.detach(tgid);
        let mut failed = 0;
        for function in functions {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            // None: the agent is ending.
            let Some(kernel) = kernel.as_mut() else { return failed };
            match kernel.attach_function(function.program, &function.path, function.offset, tgid) {
                Ok(link) => {
                    tracing::debug!(pid = tgid, program = function.program, offset = function.offset, "attached");
                    self.links.entry(tgid).or_default().push(link);
                }
                Err(error) => {
                    failed += 1;
                    tracing::warn!(pid = tgid, %error, "cannot observe a function; calls may have no parent");
                }
            }
        }
        failed
    }

    /// The process ended, or executes another program.
    pub(super) fn detach(&mut self, tgid: u32) {
        self.links.remove(&tgid);
    }
}
