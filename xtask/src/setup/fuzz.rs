//! cargo-fuzz, in the cache. It needs a nightly, whose compiler can instrument.

use std::process::Command;

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

use crate::shell;

/// The cargo-fuzz that the targets are run with.
const VERSION: &str = "0.13.1";

pub(super) fn make_ready(cache: &Cache) -> Result<()> {
    let root = cache.dir().join("cargo-fuzz");
    let version = shell::read(Command::new(root.join("bin/cargo-fuzz")).arg("--version")).ok();
    if version.as_deref().map(str::trim) == Some(&format!("cargo-fuzz {VERSION}")) {
        shell::say(&format!("cargo-fuzz: {VERSION} (already there)"));
        return Ok(());
    }
    shell::say(&format!("cargo-fuzz: building {VERSION}"));
    shell::run(
        shell::cargo()?
            .args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--force", "--root"])
            .arg(&root)
            .current_dir(cache.dir()),
    )
    .context("cargo-fuzz can't be installed")
}
