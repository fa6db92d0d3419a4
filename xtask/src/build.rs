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
        let Built { agent, debug } = release()?;
        for file in [&agent, &debug] {
            let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
            shell::say(&format!("{} ({:.1} MB)", file.display(), size as f64 / 1e6));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The files of a release.
pub(crate) struct Built {
    pub(crate) agent: PathBuf,
    debug: PathBuf,
}

/// Builds the release, without paths of this machine in it.
pub(crate) fn release() -> Result<Built> {
    let whole = ["rustc", "--release", "--locked", "--package", "onlooker", "--bin", "onlooker", "--", "-Cstrip=none"];
    let mut cargo = shell::cargo()?;
    let [rust, c] = without_paths()?;
    // Panics name the source files of dependencies, and debug information names all.
    shell::run(cargo.args(whole).env("CARGO_ENCODED_RUSTFLAGS", rust).env("CFLAGS", c))?;
    let agent = target_dir()?.join("release/onlooker");
    let debug = split(&agent)?;
    Ok(Built { agent, debug })
}

/// Options for the compilers of Rust (separated as in CARGO_ENCODED_RUSTFLAGS) and C, with which the result contains no paths of this
/// machine.
fn without_paths() -> Result<[String; 2]> {
    let workspace = shell::workspace()?;
    let cargo_home = onlooker_ebpf_build::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let target = target_dir()?;
    let mut names = vec![(workspace.as_path(), "/onlooker"), (cargo_home.as_path(), "/cargo")];
    // Last, because the last one that matches is used: the folder may be in the workspace or not.
    names.push((target.as_path(), "/onlooker/target"));
    let option = |option: &str| {
        names.iter().map(|(path, name)| format!("{option}={}={name}", path.display())).collect::<Vec<_>>()
    };
    Ok([option("--remap-path-prefix").join("\u{1f}"), option("-ffile-prefix-map").join(" ")])
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

/// Builds a program of the tests for release, and returns the binary.
pub(crate) fn test_program(name: &str) -> Result<PathBuf> {
    shell::run(shell::cargo()?.args(["build", "--release", "--package", "onlooker-tests", "--bin", name]))?;
    Ok(target_dir()?.join("release").join(name))
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
pub(crate) fn target_dir() -> Result<PathBuf> {
    // This program is TARGET/debug/xtask.
    let this = env::current_exe().context("cannot find this program")?;
    let target = this.parent().and_then(Path::parent).context("cargo puts xtask two folders deep")?;
    Ok(target.to_path_buf())
}
