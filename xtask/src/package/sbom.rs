//! The lists of what is inside (SBOM), in the format CycloneDX, from the lock files.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

use super::Release;
use crate::setup::CYCLONEDX;
use crate::shell;

/// The crates whose dependencies are in the agent. The kernel programs have a lock file of their own.
const CRATES: [(&str, &str); 2] = [("agent/Cargo.toml", "onlooker"), ("ebpf/Cargo.toml", "onlooker-ebpf")];

/// The file that cargo-cyclonedx writes, beside the manifest of each crate.
const WRITTEN: &str = "packaged-sbom";

/// Writes `onlooker.cdx.json` and `onlooker-ebpf.cdx.json` to `dir`.
pub(super) fn make(release: &Release, dir: &Path) -> Result<()> {
    let workspace = shell::workspace()?;
    for (manifest, name) in CRATES {
        let manifest = workspace.join(manifest);
        let mut cyclonedx = shell::cargo_plugin(&CYCLONEDX.tool.path(&Cache::locate()?))?;
        cyclonedx.args([
            "cyclonedx",
            "--format",
            "json",
            "--no-build-deps",
            "--override-filename",
            WRITTEN,
            "--manifest-path",
        ]);
        cyclonedx.arg(&manifest);
        // Without the variable, the list contains the time and a random number.
        shell::read(cyclonedx.env("SOURCE_DATE_EPOCH", release.epoch.to_string()))?;
        let members = manifest.parent().and_then(Path::parent).context("the crate is in a folder of the workspace")?;
        let target = dir.join(format!("{name}-{}.cdx.json", release.version));
        let written = manifest.with_file_name(format!("{WRITTEN}.json"));
        let text = shell::file(&written)?.replace(&*members.to_string_lossy(), "/onlooker");
        fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))?;
    }
    remove_written(&workspace)
}

/// Removes the lists, which are written for all crates of a workspace.
fn remove_written(workspace: &Path) -> Result<()> {
    for entry in fs::read_dir(workspace).context("cannot read the workspace")? {
        let list = entry?.path().join(format!("{WRITTEN}.json"));
        if list.is_file() {
            fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
        }
    }
    Ok(())
}
