//! A clean Debian in which packages are installed. A layer over it receives all changes, so that they can be listed.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;
use onlooker_tests::World;

use super::in_own_mounts;
use crate::setup;

/// Where the folder of packages is in the root.
const PACKAGES: &str = "/mnt";

/// A root file system. Commands run in it one after the other.
pub(super) struct Root {
    clean: PathBuf,
    changes: PathBuf,
    whole: PathBuf,
    mounts: String,
}

/// Something that was not there before the package was installed, or is not there any more.
#[derive(Debug)]
pub(super) struct Left {
    /// Below the root. Read by the error message.
    #[expect(dead_code, reason = "shown in the error by Debug")]
    path: PathBuf,
    pub(super) is_folder: bool,
}

impl Root {
    /// Makes a root in `dir`. The packages in `packages` can be seen in it.
    pub(super) fn new(dir: &Path, packages: &Path) -> Result<Self> {
        let clean = setup::clean_root(&Cache::locate()?);
        let [changes, work, whole] = ["changes", "work", "whole"].map(|name| dir.join("root").join(name));
        for dir in [&changes, &work, &whole] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let (lower, upper, work, all) = (clean.display(), changes.display(), work.display(), whole.display());
        let mounts = format!(
            "mount -t overlay overlay -o 'lowerdir={lower},upperdir={upper},workdir={work}' '{all}'
             mount --bind '{}' '{all}{PACKAGES}'
             mount --rbind /proc '{all}/proc'
             mount --rbind /sys '{all}/sys'
             test -e '{all}/sys/kernel/tracing/events' || mount -t tracefs tracefs '{all}/sys/kernel/tracing'",
            packages.display()
        );
        Ok(Self { clean, changes, whole, mounts })
    }

    /// A shell in the root.
    pub(super) fn sh(&self, world: &World, script: &str) -> Command {
        let mut command =
            in_own_mounts(world, &[], &self.mounts, &format!("exec chroot '{}' sh -ec \"$@\"", self.whole.display()));
        command.args([script, "sh"]);
        command
    }

    /// The rpm of this machine, which works on the root.
    pub(super) fn rpm<'a>(&self, world: &World, arguments: impl Iterator<Item = &'a str>) -> Command {
        let mut command = in_own_mounts(world, &[], &self.mounts, "exec \"$@\"");
        // Debian's rpm has to be asked twice, and keeps its records at home otherwise.
        command.args(["rpm", "--force-debian", "--dbpath", "/var/lib/rpm", "--root"]).arg(&self.whole).args(arguments);
        command
    }

    /// Where a package of the folder is in the root.
    pub(super) fn package(&self, file: &Path) -> Result<String> {
        let name = file.file_name().and_then(|name| name.to_str()).context("packages have names")?;
        Ok(format!("{PACKAGES}/{name}"))
    }

    /// The place of a file that was created in the root.
    pub(super) fn changed(&self, path: &str) -> PathBuf {
        self.changes.join(path.trim_start_matches('/'))
    }

    /// What is different from the clean root, except for what is below `records`.
    pub(super) fn left(&self, records: &[&str]) -> Result<Vec<Left>> {
        let mut left = Vec::new();
        self.compare(Path::new(""), records, &mut left)?;
        Ok(left)
    }

    fn compare(&self, folder: &Path, records: &[&str], left: &mut Vec<Left>) -> Result<()> {
        let here = self.changes.join(folder);
        for entry in fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if records.iter().any(|record| path.starts_with(record)) {
                continue;
            }
            let (kind, before) = (entry.file_type()?, fs::symlink_metadata(self.clean.join(&path)).ok());
            // A device 0:0 in a layer hides a file below it. Nothing is hidden where nothing is.
            let hides = kind.is_char_device() && entry.metadata()?.rdev() == 0;
            let is_change = if kind.is_dir() { before.is_none() } else { !(hides && before.is_none()) };
            if is_change {
                left.push(Left { path: path.clone(), is_folder: kind.is_dir() });
            }
            if kind.is_dir() {
                self.compare(&path, records, left)?;
            }
        }
        Ok(())
    }
}
