//! `cargo xtask fuzz`: feeds the parsers what nobody would send.
//!
//! The corpus in the repository is only read; what a run finds worth keeping goes to `target/fuzz`, input that broke
//! something to `protocols/fuzz/artifacts`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;

use crate::setup::{self, Part};
use crate::shell;

/// Fuzzes the parsers.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this target; each of them in turn unless one is named.
    target: Option<String>,
    /// For how long, each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// One input may take this many seconds before it counts as a hang.
const HANG: u32 = 10;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::make_ready(&[Part::Fuzz])?;
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    let fails = |target: &String| command(target, options.seconds).and_then(|mut fuzz| shell::run(&mut fuzz)).is_err();
    let broken: Vec<_> = targets.into_iter().filter(fails).collect();
    if !broken.is_empty() {
        bail!("fuzzing broke {}", broken.join(", "));
    }
    Ok(())
}

/// The names of all fuzz targets.
pub(crate) fn targets() -> Result<Vec<String>> {
    let workspace = shell::workspace()?;
    let names = shell::read(cargo_fuzz(&workspace)?.args(["fuzz", "list", "--fuzz-dir", "protocols/fuzz"]))?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// Fuzzes one target for `seconds`. Fails when an input breaks it, with the end of what the fuzzer printed; all of it is in
/// `target/fuzz`.
pub(crate) fn fuzz_quietly(target: &str, seconds: u32) -> Result<()> {
    /// Lines that tell of a crash: the message, the stack, the input.
    const TOLD: usize = 80;
    let mut command = command(target, seconds)?;
    let log = shell::workspace()?.join("target/fuzz").join(target).with_extension("log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    command.stdout(file.try_clone().context("cannot use a file twice")?).stderr(file);
    shell::run(&mut command).map_err(|error| {
        let printed = shell::file(&log).unwrap_or_default();
        let lines: Vec<_> = printed.lines().collect();
        error.context(lines[lines.len().saturating_sub(TOLD)..].join("\n"))
    })
}

/// The fuzzer of one target, to run for `seconds`.
fn command(target: &str, seconds: u32) -> Result<Command> {
    let workspace = shell::workspace()?;
    let found = workspace.join("target/fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let mut command = cargo_fuzz(&workspace)?;
    command.args(["fuzz", "run", "--fuzz-dir", "protocols/fuzz"]);
    if !has_address_sanitizer() {
        shell::say("fuzz: this nightly has no AddressSanitizer: fuzzing without");
        command.args(["--sanitizer", "none"]);
    }
    // libFuzzer writes to the first corpus and only reads the others.
    command.arg(target).arg(&found);
    let seeds = workspace.join("protocols/fuzz/corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args(["--", &format!("-max_total_time={seconds}"), &format!("-timeout={HANG}")]);
    Ok(command)
}

fn cargo_fuzz(workspace: &Path) -> Result<Command> {
    let mut command = Command::new(Cache::locate()?.dir().join("cargo-fuzz/bin/cargo-fuzz"));
    command
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", workspace.join("target/fuzz"))
        // Ours is a stable one; only a nightly instruments.
        .env("CARGO", "cargo")
        .env("RUSTUP_TOOLCHAIN", "nightly");
    Ok(command)
}

/// Whether the nightly has the runtime of AddressSanitizer, which not every distribution of it brings.
fn has_address_sanitizer() -> bool {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let sysroot = shell::read(Command::new("rustc").args(["--print", "sysroot"]).env("RUSTUP_TOOLCHAIN", "nightly"));
    sysroot.is_ok_and(|sysroot| {
        let runtime = "lib/librustc-nightly_rt.asan.a";
        Path::new(sysroot.trim()).join("lib/rustlib").join(target).join(runtime).is_file()
    })
}
