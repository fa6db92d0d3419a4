//! Archives that depend on nothing but the files in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Release;
use crate::shell;

/// Makes the tar.gz. Its files are below one folder, which has its name. It has no entries of folders, because unpacking them would change
/// the modes of folders that exist, such as `/usr/local/bin`.
pub(super) fn make(release: &Release, stage: &Path, dir: &Path) -> Result<PathBuf> {
    let name = release.name();
    let tar = dir.join(format!("{name}.tar"));
    let mut files = files(stage, Path::new(""))?;
    files.sort();
    // Not the targets of symbolic links.
    let top = format!("--transform=flags=r;s,^,{name}/,");
    shell::run(create(release, stage, &tar).arg(top).arg("--").args(files))?;
    // Without -n, gzip writes the time and the name.
    shell::run(Command::new("gzip").args(["-n", "-9"]).arg(&tar))?;
    Ok(dir.join(format!("{name}.tar.gz")))
}

/// Packs everything that is in `folder`.
pub(super) fn pack(release: &Release, folder: &Path, tar: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        names.push(entry?.file_name());
    }
    names.sort();
    shell::run(create(release, folder, tar).arg("--").args(names))
}

/// A command that packs files of `folder`, without what depends on the machine or the time.
fn create(release: &Release, folder: &Path, tar: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args(["--create", "--sort=name", "--owner=root:0", "--group=root:0", "--numeric-owner", "--format=gnu"]);
    // Whoever builds may have another umask.
    command.args(["--mode=u+rwX,go+rX,go-w", &format!("--mtime=@{}", release.epoch)]);
    command.arg("--file").arg(tar).arg("--directory").arg(folder);
    command
}

/// The files below `folder`, as paths below `root`.
fn files(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let here = root.join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(files(root, &path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
