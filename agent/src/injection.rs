//! Which cgroups the program is attached to that adds the trace context to requests.
//!
//! It is attached to the cgroups of selected processes, and sees the connections of all processes there. It enrols only those of
//! selected ones. It is never attached to the root cgroup, where it would see all connections of the host.

pub mod client;
pub mod destinations;
pub mod propagators;
pub mod self_test;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use onlooker_common::capture::Capture;
use onlooker_engine::model::counters::Counters;
use onlooker_protocols::propagation::FORMATS;

use crate::discover::cgroup::{self, CgroupError, Hierarchy};
use crate::discover::process::Process;
use crate::kernel::{CgroupLink, Kernel, Lines, Options, Selection, SharedKernel};

/// Loads the programs, and tries whether they add `lines` here as they should. To be called before anything is selected.
///
/// # Errors
/// Why they cannot be added.
pub fn prepare(kernel: &mut Kernel, selection: &mut Selection, lines: &Lines) -> anyhow::Result<()> {
    kernel.prepare_injection()?;
    self_test::run(kernel, selection, lines).context("the self-test failed")?;
    Ok(kernel.reset_losses()?)
}

/// Tries whether it works here, with every format, for `onlooker doctor`. Loads the kernel side and removes it again.
///
/// # Errors
/// Why no `traceparent` can be added.
pub fn examine() -> Result<(), String> {
    let tried = || -> anyhow::Result<()> {
        let lines = Lines::of(FORMATS).context("there are no formats")?;
        let mut kernel = Kernel::load(&Options { lines: Some(lines.clone()), ..Options::default() })?;
        let mut selection = kernel.selection(Capture::default())?;
        kernel.attach(&[])?;
        prepare(&mut kernel, &mut selection, &lines)
    };
    tried().map_err(|error| format!("{error:#}"))
}

/// Cgroups attached to. A host with more selected cgroups has a common one above them.
const MOST: usize = 1024;

/// Attaches to cgroups, and keeps the links.
#[derive(Debug)]
pub struct Injection {
    kernel: SharedKernel,
    hierarchy: Hierarchy,
    counters: Arc<Counters>,
    /// Paths in the hierarchy. Dropping a link detaches the program.
    covered: Vec<(PathBuf, CgroupLink)>,
    /// Paths that could not be attached to.
    refused: Vec<PathBuf>,
}

impl Injection {
    /// Attaches to nothing yet. The kernel side must be prepared.
    ///
    /// # Errors
    /// If there is no hierarchy of cgroups v2.
    pub fn new(kernel: SharedKernel, counters: Arc<Counters>) -> Result<Self, CgroupError> {
        Ok(Self { kernel, hierarchy: Hierarchy::find()?, counters, covered: Vec::new(), refused: Vec::new() })
    }

    /// Covers the cgroup of a process that was selected.
    pub fn cover_process(&mut self, process: &Process) {
        let path = process.cgroups().ok().and_then(|cgroups| cgroup::path_in(&cgroups));
        if !path.is_some_and(|path| self.cover(&path)) {
            self.counters.processes_not_injected.add(1);
        }
    }

    /// Covers a cgroup and those below it. Returns whether it is covered.
    pub fn cover(&mut self, path: &Path) -> bool {
        let is_root = path == Path::new("/") || !path.is_absolute() || path.starts_with("/..");
        if is_root || self.refused.iter().any(|refused| refused == path) {
            return false;
        }
        if self.covered.iter().any(|(above, _)| cgroup::contains(above, path)) {
            return true;
        }
        // Cgroups that were removed need no link.
        self.covered.retain(|(path, _)| self.hierarchy.folder(path).is_dir());
        match self.attach(path) {
            Ok(link) => {
                self.covered.push((path.to_owned(), link));
                true
            }
            Err(error) => {
                tracing::warn!(cgroup = %path.display(), %error, "requests from this cgroup get no traceparent");
                self.refused.push(path.to_owned());
                false
            }
        }
    }

    fn attach(&self, path: &Path) -> anyhow::Result<CgroupLink> {
        anyhow::ensure!(self.covered.len() < MOST, "more than {MOST} cgroups have selected processes");
        let folder = File::open(self.hierarchy.folder(path))?;
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = kernel.as_mut().ok_or_else(|| anyhow::anyhow!("the agent is ending"))?;
        Ok(kernel.inject_into(&folder)?)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The root cgroup has all processes of the host.
    #[rstest]
    #[case::root("/")]
    #[case::outside_of_the_namespace("/../elsewhere")]
    #[case::relative("elsewhere")]
    fn the_root_cgroup_is_never_covered(#[case] path: &str) {
        let Ok(mut injection) = Injection::new(SharedKernel::default(), Arc::default()) else {
            return onlooker_tests::record_skip("no cgroup v2 is mounted");
        };
        assert!(!injection.cover(Path::new(path)));
        assert!(injection.refused.is_empty(), "it was not tried");
    }

    #[test]
    fn a_cgroup_that_cannot_be_attached_to_is_tried_once() {
        let Ok(mut injection) = Injection::new(SharedKernel::default(), Arc::default()) else {
            return onlooker_tests::record_skip("no cgroup v2 is mounted");
        };
        let path = Path::new("/onlooker-no-such-cgroup");
        assert!(!injection.cover(path) && !injection.cover(path));
        assert_eq!(injection.refused, [path]);
    }
}
