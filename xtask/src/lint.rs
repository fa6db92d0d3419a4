//! `cargo xtask lint`: formatting, clippy, rustdoc and the dependencies' licences and sources.

use std::process::ExitCode;

use anyhow::{Result, bail};
use onlooker_ebpf_build::Cache;

use crate::setup::{self, DENY};
use crate::{Verb, shell};

/// Check formatting, clippy, documentation and dependencies. Warnings are errors.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Run only these checks.
    #[arg(value_parser = names())]
    checks: Vec<String>,
    /// Leave out what needs the eBPF toolchain: the kernel programs, and the crates that embed them.
    #[arg(long)]
    without_ebpf: bool,
    /// Check the dependencies against the advisory database too, which is fetched over the network.
    #[arg(long)]
    advisories: bool,
}

/// A check, and what it needs.
struct Check {
    name: &'static str,
    needs_ebpf: bool,
    run: fn(&Options) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { name: "format", needs_ebpf: false, run: format },
    Check { name: "clippy", needs_ebpf: false, run: clippy },
    Check { name: "clippy-ebpf", needs_ebpf: true, run: |_| onlooker_ebpf_build::lint(&shell::workspace()?) },
    Check { name: "documentation", needs_ebpf: false, run: documentation },
    Check { name: "dependencies", needs_ebpf: false, run: dependencies },
];

/// The manifests of all workspaces. `--workspace` reaches only the members of one.
const WORKSPACES: [&str; 3] = ["Cargo.toml", "ebpf/Cargo.toml", "protocols/fuzz/Cargo.toml"];

/// The crates that embed the kernel programs.
const EMBEDDING: [&str; 2] = ["onlooker", "onlooker-bench"];

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        let failed: Vec<_> =
            check(self)?.into_iter().filter_map(|(name, result)| result.is_err().then_some(name)).collect();
        if !failed.is_empty() {
            bail!("failed checks: {}", failed.join(", "));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn names() -> Vec<&'static str> {
    CHECKS.iter().map(|check| check.name).collect()
}

/// Runs the checks, also after one failed, and returns each with its result.
pub(crate) fn check(options: &Options) -> Result<Vec<(&'static str, Result<()>)>> {
    setup::make_ready(&[&DENY.part])?;
    let is_wanted = |check: &&Check| {
        (options.checks.is_empty() || options.checks.iter().any(|name| name == check.name))
            && !(options.without_ebpf && check.needs_ebpf)
    };
    Ok(CHECKS.iter().filter(is_wanted).map(|check| (check.name, timed(check, options))).collect())
}

fn timed(check: &Check, options: &Options) -> Result<()> {
    shell::timed(&format!("lint: {}", check.name), || (check.run)(options))
}

fn format(_: &Options) -> Result<()> {
    for manifest in WORKSPACES {
        shell::run(shell::cargo()?.args(["fmt", "--all", "--check", "--manifest-path", manifest]))?;
    }
    Ok(())
}

fn clippy(options: &Options) -> Result<()> {
    let mut clippy = shell::cargo()?;
    clippy.args(["clippy", "--workspace", "--all-targets"]).args(excluded(options));
    shell::run(clippy.args(["--", "-Dwarnings"]))
}

fn documentation(options: &Options) -> Result<()> {
    let mut doc = shell::cargo()?;
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]).args(excluded(options));
    shell::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Checks each workspace's dependencies against deny.toml.
fn dependencies(options: &Options) -> Result<()> {
    let deny = DENY.tool.path(&Cache::locate()?);
    let mut checks = vec!["licenses", "bans", "sources"];
    if options.advisories {
        checks.push("advisories");
    }
    for manifest in WORKSPACES {
        let mut command = shell::cargo_plugin(&deny)?;
        command.args([
            "--workspace",
            "--all-features",
            "--locked",
            "--config",
            "deny.toml",
            "--manifest-path",
            manifest,
        ]);
        // The file serves three workspaces, none of which has everything that it names.
        command.args(["check", "--allow=unmatched-skip", "--allow=license-exception-not-encountered"]);
        shell::run(command.args(&checks))?;
    }
    Ok(())
}

fn excluded(options: &Options) -> Vec<&'static str> {
    let packages = if options.without_ebpf { &EMBEDDING[..] } else { &[] };
    packages.iter().flat_map(|package| ["--exclude", package]).collect()
}
