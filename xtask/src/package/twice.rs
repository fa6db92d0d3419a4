//! Whether the same sources give the same packages.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::CHECKSUMS;
use crate::shell;

/// Fails unless both folders have the same files with the same contents.
pub(super) fn same(first: &Path, second: &Path) -> Result<()> {
    let [first, second] = [first, second].map(|dir| shell::file(&dir.join(CHECKSUMS)));
    let (first, second) = (first?, second?);
    let differing: Vec<_> = first.lines().filter(|line| !second.contains(line)).collect();
    ensure!(differing.is_empty(), "the packages differ; the first has\n{}", differing.join("\n"));
    ensure!(first.lines().count() == second.lines().count(), "the second has more packages:\n{second}");
    Ok(())
}

/// Builds the last commit again, from a checkout and with a target folder elsewhere, and compares the packages.
pub(super) fn compare(first: &Path) -> Result<()> {
    let workspace = shell::workspace()?;
    let changed = shell::read(Command::new("git").args(["status", "--porcelain"]).current_dir(&workspace))?;
    if !changed.is_empty() {
        bail!("there are changes that the last commit does not have:\n{changed}");
    }
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let checkout = Checkout::make(&workspace, &scratch.path().join("elsewhere"))?;
    let target = scratch.path().join("target");
    shell::say(&format!("building the last commit once more in {}", checkout.dir.display()));
    let mut again = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    again.args(["xtask", "package"]).current_dir(&checkout.dir).env("CARGO_TARGET_DIR", &target);
    shell::run(&mut again)?;
    same(first, &target.join("package"))?;
    shell::say("both are identical");
    Ok(())
}

/// A second checkout of the repository, which is removed when this is dropped.
struct Checkout<'a> {
    workspace: &'a Path,
    dir: PathBuf,
}

impl<'a> Checkout<'a> {
    fn make(workspace: &'a Path, dir: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.args(["worktree", "add", "--quiet", "--detach"]).arg(dir).arg("HEAD").current_dir(workspace);
        shell::run(&mut git)?;
        Ok(Self { workspace, dir: dir.to_owned() })
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        let mut git = Command::new("git");
        git.args(["worktree", "remove", "--force"]).arg(&self.dir).current_dir(self.workspace);
        if let Err(error) = shell::run(&mut git) {
            shell::error(&error);
        }
    }
}
