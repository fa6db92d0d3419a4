//! Control groups of our own: one that the agent is told to watch, one beside it for what is not watched, such as the agent,
//! and one around both that is killed at once and entirely at the end.
//!
//! The outer one is locked as long as its owner lives. A new one first removes those that nobody has locked: what a harness
//! left that was killed itself.

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

/// A process that was sent SIGKILL may first have to finish a system call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Cgroup v2 folders that are empty when they are made, and removed with everything in them when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    root: PathBuf,
    watched: PathBuf,
    beside: PathBuf,
    _lock: File,
}

impl Cgroup {
    /// Makes them below the mount of type cgroup2. Needs root.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mount = mount()?;
        sweep(&mount);
        let root = mount.join(format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&root).with_context(|| format!("cannot create the cgroup {}: run as root", root.display()))?;
        let lock = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", root.display()))?;
        let cgroup = Self { watched: root.join("watched"), beside: root.join("beside"), root, _lock: lock };
        for path in [&cgroup.watched, &cgroup.beside] {
            fs::create_dir(path).with_context(|| format!("cannot create the cgroup {}", path.display()))?;
        }
        Ok(cgroup)
    }

    /// The folder of what is watched, as `onlooker run --cgroup` takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.watched
    }

    /// The same as text, for a command line.
    pub(crate) fn name(&self) -> Result<&str> {
        self.watched.to_str().context("the path of the cgroup mount is not UTF-8")
    }

    /// The ids of the threads that are watched.
    pub(crate) fn threads(&self) -> Result<Vec<String>> {
        let path = self.watched.join("cgroup.threads");
        let threads = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(threads.lines().map(str::to_owned).collect())
    }

    /// What a folder elsewhere that belongs to this one begins its name with: it is swept with it.
    pub(crate) fn prefix_of_folders(&self) -> String {
        prefix_of_folders(&self.root)
    }

    /// The file that a process joins by writing "0" to it, opened for writing.
    pub(crate) fn procs(&self, watched: bool) -> Result<File> {
        let path = if watched { &self.watched } else { &self.beside }.join("cgroup.procs");
        File::options().write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Where this fails the next world's sweep tries again.
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

fn sweep(mount: &Path) {
    let Ok(entries) = fs::read_dir(mount) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()) else { continue };
        // Both, because a world is named before it is locked, and because an owner may live in another pid namespace.
        let alive = Path::new("/proc").join(owner).exists();
        let locked = File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_err());
        if !alive && !locked && remove(&entry.path()).is_ok() {
            sweep_folders(&prefix_of_folders(&entry.path()));
        }
    }
}

fn sweep_folders(prefix: &str) {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            // Not ours to mend if it can't be removed; nothing runs in it any more.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn prefix_of_folders(root: &Path) -> String {
    format!("{}-", root.file_name().unwrap_or_default().to_string_lossy())
}

/// Kills what is in the cgroup at `path`, waits until the kernel says that nothing is, and removes it.
fn remove(path: &Path) -> Result<()> {
    let kill = path.join("cgroup.kill");
    fs::write(&kill, "1").with_context(|| format!("cannot write to {}", kill.display()))?;
    wait::until(within(PATIENCE).despite_signals(), "empty cgroup", || match remove_empty(path) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    })
}

/// Removes a cgroup and those in it, which have no files of their own. Busy while a process is left.
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
    fn the_mount_is_found_by_its_type_also_beside_version_1() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mount_in(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(mount_in("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }
}
