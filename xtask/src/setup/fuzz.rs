//! cargo-fuzz, in the cache, and a nightly, whose compiler can instrument.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::machine::find_program;

use crate::shell;

/// The cargo-fuzz that the targets are run with.
const VERSION: &str = "0.13.1";

pub(super) fn make_ready(cache: &Cache) -> Result<()> {
    install_nightly()?;
    install_cargo_fuzz(cache)
}

fn install_nightly() -> Result<()> {
    const INSTALL: [&str; 5] = ["toolchain", "install", "nightly", "--profile", "minimal"];
    if has_nightly() {
        shell::say("fuzzing compiler: nightly (already there)");
        return Ok(());
    }
    if find_program("rustup").is_none() {
        bail!("fuzzing needs a nightly compiler: install rustup from https://rustup.rs, then `cargo xtask setup fuzz`");
    }
    shell::say("fuzzing compiler: installing rustup's nightly");
    shell::run(Command::new("rustup").args(INSTALL)).with_context(|| {
        format!("fuzzing needs a nightly compiler: run `rustup {}`, then `cargo xtask setup fuzz`", INSTALL.join(" "))
    })
}

/// Whether what `crate::fuzz` compiles with is a nightly: rustup's, or whatever is on PATH where there is no rustup.
fn has_nightly() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.arg("--version").env("RUSTUP_TOOLCHAIN", "nightly").env("RUSTUP_AUTO_INSTALL", "0");
    shell::read(&mut rustc).is_ok_and(|version| version.contains("-nightly"))
}

fn install_cargo_fuzz(cache: &Cache) -> Result<()> {
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
