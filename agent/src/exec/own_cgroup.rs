//! A cgroup for one command, below the agent's own, so that all limits of the agent's cgroup still apply.
//!
//! Many runtimes size themselves by the limits of their own cgroup, and a new cgroup has none: controllers cannot be
//! passed down, because a cgroup that does so may contain no processes (cgroups(7), "no internal processes"), and the
//! agent's contains the agent. So if the agent's own cgroup has a limit that runtimes use, the command stays in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::discover::cgroup::{self, CgroupError, Hierarchy};
use crate::discover::process::Process;

/// Folders are named `onlooker-exec-PID`, after the agent's pid.
const PREFIX: &str = "onlooker-exec-";
/// The same for the agent's own tests.
const TEST_PREFIX: &str = "onlooker-test-";

#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnCgroupError {
    #[error(transparent)]
    Hierarchy(#[from] CgroupError),
    #[error("cannot create the cgroup {folder}: {why}", folder = folder.display())]
    Create { folder: PathBuf, why: io::Error },
    #[error("in its own cgroup the command would not see {limit} of {folder}", folder = folder.display())]
    HidesLimit { limit: &'static str, folder: PathBuf },
}

/// The files by which runtimes size their heaps and pools, and their content where there is no limit.
const LIMITS: [(&str, &str); 5] = [
    ("memory.max", "max"),
    ("memory.high", "max"),
    ("memory.swap.max", "max"),
    // A quota and its period.
    ("cpu.max", "max"),
    ("cpu.weight", "100"),
];

/// A cgroup that is removed when this is dropped, if it is empty.
#[derive(Debug)]
pub(crate) struct OwnCgroup {
    folder: PathBuf,
    path: PathBuf,
    removed: bool,
}

impl OwnCgroup {
    /// For a command.
    pub(super) fn create() -> Result<Self, OwnCgroupError> {
        Self::named(PREFIX, true)
    }

    /// For a process of the agent's own, which does not size itself by limits.
    pub(crate) fn for_test() -> Result<Self, OwnCgroupError> {
        Self::named(TEST_PREFIX, false)
    }

    fn named(prefix: &str, respects_limits: bool) -> Result<Self, OwnCgroupError> {
        let hierarchy = Hierarchy::find()?;
        let cgroups = Process::myself().and_then(|myself| myself.cgroups()).map_err(CgroupError::from)?;
        let above = cgroup::path_in(&cgroups).ok_or(CgroupError::NotMounted)?;
        let around = hierarchy.folder(&above);
        sweep(&around);
        if respects_limits && let Some(limit) = limit(&around) {
            return Err(OwnCgroupError::HidesLimit { limit, folder: around });
        }
        let own = std::process::id();
        // The name gets a number if the cgroup of an earlier agent with this pid still has processes.
        let mut attempt = 0;
        loop {
            let name = if attempt == 0 { format!("{prefix}{own}") } else { format!("{prefix}{own}-{attempt}") };
            let path = above.join(name);
            let folder = hierarchy.folder(&path);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { folder, path, removed: false }),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                Err(why) => return Err(OwnCgroupError::Create { folder, why }),
            }
        }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its path in the hierarchy.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that processes enter it with.
    pub(super) fn open(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.folder.join("cgroup.procs"))
    }

    /// Removes it. If processes are still in it or below it, returns its path and their pids instead.
    pub(super) fn remove(mut self) -> Option<(PathBuf, Vec<u32>)> {
        self.removed = true;
        if remove_tree(&self.folder).is_ok() {
            return None;
        }
        let members = members(&self.folder);
        if members.is_empty() {
            // The last process was just ending. If removal fails again, the next agent removes the empty folder.
            let _ = remove_tree(&self.folder);
            return None;
        }
        Some((self.path.clone(), members))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if !self.removed {
            let _ = remove_tree(&self.folder);
        }
    }
}

/// A limit of the cgroup itself. Limits of the cgroups above are invisible from inside in either case.
fn limit(folder: &Path) -> Option<&'static str> {
    let is_set = |(file, unlimited): &(&str, &str)| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.split_ascii_whitespace().next().is_some_and(|value| value != *unlimited)
    };
    LIMITS.iter().find(|limit| is_set(limit)).map(|(file, _)| *file)
}

/// Removes empty cgroups of agents that were killed.
fn sweep(above: &Path) {
    let Ok(entries) = fs::read_dir(above) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = |name: &str, prefix| name.strip_prefix(prefix)?.split('-').next()?.parse().ok();
        let pid = name.to_str().and_then(|name| number(name, PREFIX).or_else(|| number(name, TEST_PREFIX)));
        // One that was just created is empty too, but its agent is running.
        if pid.is_some_and(|pid| Process::open(pid).is_err()) {
            let _ = remove_tree(&entry.path());
        }
    }
}

/// Removes a cgroup and those that the command created below it. The kernel refuses if one has processes.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for below in folders(folder) {
        remove_tree(&below)?;
    }
    fs::remove_dir(folder)
}

fn members(folder: &Path) -> Vec<u32> {
    let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut members: Vec<u32> = procs.lines().filter_map(|pid| pid.parse().ok()).collect();
    for below in folders(folder) {
        members.extend(self::members(&below));
    }
    members
}

fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::without_controllers(&[("cgroup.procs", "1\n")], None)]
    #[case::unlimited(&[("memory.max", "max\n"), ("memory.high", "max\n"), ("cpu.max", "max 100000\n"), ("cpu.weight", "100\n")], None)]
    #[case::memory(&[("memory.max", "536870912\n"), ("cpu.max", "max 100000\n")], Some("memory.max"))]
    #[case::processors(&[("memory.max", "max\n"), ("cpu.max", "200000 100000\n")], Some("cpu.max"))]
    #[case::weight(&[("cpu.weight", "50\n")], Some("cpu.weight"))]
    #[case::not_used_by_runtimes(&[("pids.max", "100\n"), ("io.weight", "default 50\n")], None)]
    fn a_limit_that_runtimes_use_is_found(#[case] files: &[(&str, &str)], #[case] expected: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(folder.path().join(file), text).unwrap();
        }
        assert_eq!(limit(folder.path()), expected);
    }
}
