//! cargo-fuzz, and a nightly compiler, which can instrument code.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_tests::machine::find_program;

use super::Part;
use super::cargo_tool::CargoTool;
use crate::shell;

pub(crate) const FUZZ: Part = Part {
    name: "fuzz",
    about: "cargo-fuzz and a nightly compiler",
    by_default: true,
    make_ready: |cache| {
        install_nightly()?;
        CARGO_FUZZ.make_ready(cache)
    },
};

/// Builds and runs the fuzz targets.
pub(crate) const CARGO_FUZZ: CargoTool = CargoTool { name: "cargo-fuzz", version: "0.13.1", optimised: false };

fn install_nightly() -> Result<()> {
    const INSTALL: [&str; 5] = ["toolchain", "install", "nightly", "--profile", "minimal"];
    if has_nightly() {
        shell::say("nightly compiler: (already there)");
        return Ok(());
    }
    if find_program("rustup").is_none() {
        bail!("fuzzing needs a nightly compiler: install rustup from https://rustup.rs, then `cargo xtask setup fuzz`");
    }
    shell::say("nightly compiler: installing it with rustup");
    shell::run(Command::new("rustup").args(INSTALL)).with_context(|| {
        format!("fuzzing needs a nightly compiler: run `rustup {}`, then `cargo xtask setup fuzz`", INSTALL.join(" "))
    })
}

/// Whether the compiler that `crate::fuzz` uses is a nightly. Without rustup, that is the one on PATH.
fn has_nightly() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.arg("--version").env("RUSTUP_TOOLCHAIN", "nightly").env("RUSTUP_AUTO_INSTALL", "0");
    shell::read(&mut rustc).is_ok_and(|version| version.contains("-nightly"))
}
