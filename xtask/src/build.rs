//! `cargo xtask build`: the agent as it is released, with its debug information in a file of its own.
//!
//! `cargo build --release` strips the binary at the link, and its debug information is lost. This verb links once
//! more without stripping, and splits the result. Only the last link is repeated: the crates are compiled as before.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{Verb, setup, shell};

/// Build the agent for release: a stripped binary, and beside it `onlooker.debug` for debuggers and backtraces.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&setup::EBPF])?;
        let whole = ["rustc", "--release", "--package", "onlooker", "--bin", "onlooker", "--", "-Cstrip=none"];
        shell::run(shell::cargo()?.args(whole))?;
        let agent = target_dir()?.join("release/onlooker");
        let debug = split(&agent)?;
        for file in [&agent, &debug] {
            let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
            shell::say(&format!("{} ({:.1} MB)", file.display(), size as f64 / 1e6));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How the agent is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly: most dependencies are those of xtask and of the tests.
    Dev,
    /// As it is released.
    Release,
}

/// Builds the agent and returns the binary.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    let mut cargo = shell::cargo()?;
    cargo.args(["build", "--package", "onlooker"]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    shell::run(&mut cargo)?;
    Ok(target_dir()?.join(folder).join("onlooker"))
}

/// Moves the debug information of `binary` into a file beside it, and returns that file.
///
/// The binary keeps a debug link with the name and checksum of the file. Debuggers and the backtraces of Rust follow it.
fn split(binary: &Path) -> Result<PathBuf> {
    let debug = binary.with_extension("debug");
    shell::run(Command::new("objcopy").arg("--only-keep-debug").arg(binary).arg(&debug))?;
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    // Cargo keeps a hard link to the binary among its own files, which must stay as they are.
    let stripped = binary.with_extension("stripped");
    shell::run(Command::new("objcopy").arg("--strip-all").arg(link).arg(binary).arg(&stripped))?;
    fs::rename(&stripped, binary).with_context(|| format!("cannot replace {}", binary.display()))?;
    Ok(debug)
}

/// Cargo's target folder.
fn target_dir() -> Result<PathBuf> {
    // This program is TARGET/debug/xtask.
    let this = env::current_exe().context("cannot find this program")?;
    let target = this.parent().and_then(Path::parent).context("cargo puts xtask two folders deep")?;
    Ok(target.to_path_buf())
}
