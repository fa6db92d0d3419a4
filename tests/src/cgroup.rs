//! The cgroups of one test: `watched` for what the agent traces, and `unwatched` for everything else, such as the agent.
//!
//! Both are inside an outer cgroup that is killed as a whole at the end. The outer cgroup is locked while its owner lives.
//! Creating a new one first removes unlocked ones, which were left by test runs that were killed.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::{self, within};

const PREFIX: &str = "onlooker-world-";

/// A killed process may first have to leave a system call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cgroup v2 folders. They are created empty, and removed with all their processes when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    root: PathBuf,
    watched: PathBuf,
    unwatched: PathBuf,
    _lock: File,
}

impl Cgroup {
    /// Creates the cgroups below the cgroup2 mount. Requires root.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mount = mount()?;
        remove_abandoned(&mount);
        let root = mount.join(format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&root).with_context(|| format!("cannot create the cgroup {}: run as root", root.display()))?;
        let lock = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", root.display()))?;
        let cgroup = Self { watched: root.join("watched"), unwatched: root.join("unwatched"), root, _lock: lock };
        for path in [&cgroup.watched, &cgroup.unwatched] {
            fs::create_dir(path).with_context(|| format!("cannot create the cgroup {}", path.display()))?;
        }
        Ok(cgroup)
    }

    /// The folder of the watched cgroup, as `onlooker run --cgroup` takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.watched
    }

    /// The same as a string, for a command line.
    pub(crate) fn name(&self) -> Result<&str> {
        self.watched.to_str().context("the path of the cgroup mount is not UTF-8")
    }

    /// Returns the ids of the watched threads.
    pub(crate) fn threads(&self) -> Result<Vec<String>> {
        let path = self.watched.join("cgroup.threads");
        let threads = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(threads.lines().map(str::to_owned).collect())
    }

    /// The prefix of temporary folders that belong to this cgroup. They are removed together with it.
    pub(crate) fn folder_prefix(&self) -> String {
        folder_prefix(&self.root)
    }

    /// Opens the `cgroup.procs` file for writing. A process joins the cgroup by writing "0" to it.
    pub(crate) fn procs(&self, watched: bool) -> Result<File> {
        let path = if watched { &self.watched } else { &self.unwatched }.join("cgroup.procs");
        File::options().write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // If this fails, the next call of `create` tries again.
        let _ = remove(&self.root);
    }
}

fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    mount_in(&mounts)
        .context("no cgroup v2 is mounted here: run `mount -t cgroup2 none /sys/fs/cgroup/unified` as root")
}

fn mount_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    })
}

fn remove_abandoned(mount: &Path) {
    let Ok(entries) = fs::read_dir(mount) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()) else { continue };
        // Check both: a cgroup is named before it is locked, and its owner may live in another pid namespace.
        let alive = Path::new("/proc").join(owner).exists();
        let locked = File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_err());
        if !alive && !locked && remove(&entry.path()).is_ok() {
            remove_folders(&folder_prefix(&entry.path()));
        }
    }
}

fn remove_folders(prefix: &str) {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            // If this fails the folder stays. No process uses it any more.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn folder_prefix(root: &Path) -> String {
    format!("{}-", root.file_name().unwrap_or_default().to_string_lossy())
}

/// Kills all processes in the cgroup at `path`, waits until it is empty, and removes it.
fn remove(path: &Path) -> Result<()> {
    let kill = path.join("cgroup.kill");
    fs::write(&kill, "1").with_context(|| format!("cannot write to {}", kill.display()))?;
    wait::until(within(PATIENCE).ignoring_signals(), "empty cgroup", || match remove_empty(path) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    })
}

/// Removes a cgroup and its children. Fails with `ResourceBusy` while processes are left.
fn remove_empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::mount_in;

    #[test]
    fn the_cgroup2_mount_is_found_beside_version_1() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mount_in(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mount_in("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }
}
