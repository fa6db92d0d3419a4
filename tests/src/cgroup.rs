//! A control group of our own: what the agent is told to watch, and what is killed at once and entirely at the end.
//!
//! The folder is locked as long as its owner lives. A new one first removes those that nobody has locked: what a harness left that
//! was killed itself.

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

/// A cgroup v2 folder that is empty when it is made, and removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _lock: File,
}

impl Cgroup {
    /// Makes one below the mount of type cgroup2. Needs root.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mount = mount()?;
        sweep(&mount);
        let path = mount.join(format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).with_context(|| format!("cannot create the cgroup {}: run as root", path.display()))?;
        let lock = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Its folder, as `onlooker run --cgroup` takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text, for a command line.
    pub(crate) fn name(&self) -> Result<&str> {
        self.path.to_str().context("the path of the cgroup mount is not UTF-8")
    }

    /// The file that a process joins by writing "0" to it, opened for writing.
    pub(crate) fn procs(&self) -> Result<File> {
        let path = self.path.join("cgroup.procs");
        File::options().write(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Where this fails the next world's sweep tries again.
        let _ = remove(&self.path);
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
        if !alive && !locked {
            let _ = remove(&entry.path());
        }
    }
}

/// Kills what is in the cgroup at `path`, waits until the kernel says that nothing is, and removes it.
fn remove(path: &Path) -> Result<()> {
    let kill = path.join("cgroup.kill");
    fs::write(&kill, "1").with_context(|| format!("cannot write to {}", kill.display()))?;
    wait::until(within(PATIENCE).despite_signals(), "empty cgroup", || match fs::remove_dir(path) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    })
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
