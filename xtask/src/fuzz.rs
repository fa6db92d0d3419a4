//! `cargo xtask fuzz`: tests with generated input.
//!
//! Each protocol with a parser is a target. One program fuzzes all of them and finds the parser in the table of protocols.
//! Every other target is a program of its own in `protocols/fuzz`.
//!
//! The corpus in the repository is only read. New inputs that reach new code go to `target/fuzz`, and inputs that break
//! something to `protocols/fuzz/artifacts`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_protocols::registry;

use crate::setup::{self, CARGO_FUZZ};
use crate::{Verb, shell};

/// Fuzz the parsers, and what else reads untrusted bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A protocol or another target. All targets in turn if none is given.
    target: Option<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// The program that fuzzes parsers, and the variable that tells it which.
const PARSER: &str = "parser";
const PROTOCOL_VARIABLE: &str = "ONLOOKER_FUZZ_PROTOCOL";

/// An input that takes longer than this many seconds is reported as a hang.
const HANG: u32 = 10;

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&setup::FUZZ])?;
        let targets = match &self.target {
            Some(target) => vec![target.clone()],
            None => targets()?,
        };
        let fails =
            |target: &String| fuzzer(target, self.seconds).and_then(|mut fuzzer| shell::run(&mut fuzzer)).is_err();
        let broken: Vec<_> = targets.into_iter().filter(fails).collect();
        if !broken.is_empty() {
            bail!("fuzzing broke {}", broken.join(", "));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Fuzzes every target for `seconds`, as many at a time as there are processors. Returns each with its result.
pub(crate) fn fuzz_all(seconds: u32) -> Result<Vec<(String, Result<()>)>> {
    let targets = targets()?;
    let results = shell::side_by_side(&targets, |target| {
        shell::say(&format!("fuzz: {target}, {seconds} s"));
        fuzz_quietly(target, seconds)
    });
    Ok(targets.into_iter().zip(results).collect())
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let workspace = shell::workspace()?;
    let programs = shell::read(cargo_fuzz(&workspace)?.args(["fuzz", "list", "--fuzz-dir", "protocols/fuzz"]))?;
    let protocols = registry::parsed().map(|(protocol, _)| protocol.name);
    Ok(protocols.chain(programs.lines().filter(|&program| program != PARSER)).map(str::to_owned).collect())
}

/// Fuzzes one target. Its output goes to a file in `target/fuzz`. The error has the last lines of it.
fn fuzz_quietly(target: &str, seconds: u32) -> Result<()> {
    /// Enough for a crash: the message, the stack and the input.
    const REPORTED_LINES: usize = 80;
    let mut fuzzer = fuzzer(target, seconds)?;
    let log = shell::workspace()?.join("target/fuzz").join(target).with_extension("log");
    let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    fuzzer.stdin(Stdio::null()).stdout(file.try_clone().context("cannot share the log file")?).stderr(file);
    shell::run(&mut fuzzer).map_err(|error| {
        let printed = shell::file(&log).unwrap_or_default();
        let lines: Vec<_> = printed.lines().collect();
        error.context(lines[lines.len().saturating_sub(REPORTED_LINES)..].join("\n"))
    })
}

/// The command that fuzzes one target for `seconds`.
fn fuzzer(target: &str, seconds: u32) -> Result<Command> {
    let workspace = shell::workspace()?;
    let found = workspace.join("target/fuzz/corpus").join(target);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let mut command = cargo_fuzz(&workspace)?;
    let is_protocol = registry::by_name(target).is_some_and(|protocol| protocol.parser.is_some());
    command.args(["fuzz", "run", "--fuzz-dir", "protocols/fuzz"]).env(PROTOCOL_VARIABLE, target);
    if !has_address_sanitizer() {
        shell::say("fuzz: this nightly has no AddressSanitizer: fuzzing without it");
        command.args(["--sanitizer", "none"]);
    }
    // libFuzzer writes to the first corpus and only reads the others.
    command.arg(if is_protocol { PARSER } else { target }).arg(&found);
    let seeds = workspace.join("protocols/fuzz/corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args(["--", &format!("-max_total_time={seconds}"), &format!("-timeout={HANG}")]);
    Ok(command)
}

fn cargo_fuzz(workspace: &Path) -> Result<Command> {
    let mut command = Command::new(CARGO_FUZZ.path(&Cache::locate()?));
    command
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", workspace.join("target/fuzz"))
        // The variable names a stable cargo. Only a nightly compiler instruments code.
        .env("CARGO", "cargo")
        .env("RUSTUP_TOOLCHAIN", "nightly");
    Ok(command)
}

/// Whether the nightly has the runtime of AddressSanitizer. Not every distribution of it does.
fn has_address_sanitizer() -> bool {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let sysroot = shell::read(Command::new("rustc").args(["--print", "sysroot"]).env("RUSTUP_TOOLCHAIN", "nightly"));
    sysroot.is_ok_and(|sysroot| {
        let runtime = "lib/librustc-nightly_rt.asan.a";
        Path::new(sysroot.trim()).join("lib/rustlib").join(target).join(runtime).is_file()
    })
}
