//! `cargo xtask lint`: what a reviewer should not have to say.

use anyhow::Result;

use crate::shell;

/// Checks formatting, clippy and the documentation, in the kernel programs too; warnings are errors.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// The workspaces of their own, which `--all` and `--workspace` do not reach.
const APART: [&str; 2] = ["ebpf/Cargo.toml", "protocols/fuzz/Cargo.toml"];

pub(crate) fn run(_: &Options) -> Result<()> {
    shell::run(shell::cargo()?.args(["fmt", "--all", "--check"]))?;
    for manifest in APART {
        shell::run(shell::cargo()?.args(["fmt", "--check", "--manifest-path", manifest]))?;
    }
    shell::run(shell::cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))?;
    onlooker_ebpf_build::lint(&shell::workspace()?)?;
    shell::run(shell::cargo()?.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}
