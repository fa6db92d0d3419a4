//! `cargo xtask lint`: what a reviewer should not have to say.

use anyhow::{Result, bail};

use crate::shell;

/// Checks formatting, clippy and the documentation, in the kernel programs too; warnings are errors.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// The workspaces of their own, which `--all` and `--workspace` do not reach.
const APART: [&str; 2] = ["ebpf/Cargo.toml", "protocols/fuzz/Cargo.toml"];

pub(crate) fn run(_: &Options) -> Result<()> {
    let mut checks = vec![("format", shell::run(shell::cargo()?.args(["fmt", "--all", "--check"])))];
    for manifest in APART {
        checks.push(("format", shell::run(shell::cargo()?.args(["fmt", "--check", "--manifest-path", manifest]))));
    }
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"];
    checks.push(("clippy", shell::run(shell::cargo()?.args(clippy))));
    checks.push(("clippy of ebpf", onlooker_ebpf_build::lint(&shell::workspace()?)));
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    checks.push(("documentation", shell::run(shell::cargo()?.args(doc).env("RUSTDOCFLAGS", "-Dwarnings"))));

    // All of them, so that one run tells everything that is to be mended.
    let mut failed: Vec<_> = checks.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| *name).collect();
    failed.dedup();
    if !failed.is_empty() {
        bail!("not clean: {}", failed.join(", "));
    }
    Ok(())
}
