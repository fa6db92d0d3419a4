//! `cargo xtask run`: builds the agent and becomes it.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;

/// Builds the agent and runs it with the arguments that follow, such as `run --port 8080`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Arguments of `onlooker`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let agent = build_agent()?;
    // Its signals, its terminal and its exit code are its own: there is nothing left for us to do.
    let error = Command::new(&agent).args(&options.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", agent.display()))
}

/// Builds the agent as it is shipped, and returns the binary.
pub(crate) fn build_agent() -> Result<PathBuf> {
    shell::run(shell::cargo()?.args(["build", "--release", "--package", "onlooker"]))?;
    // This program is TARGET/debug/xtask.
    let here = env::current_exe().context("cannot find this program")?;
    let target = here.parent().and_then(|profile| profile.parent()).context("cargo puts xtask two folders deep")?;
    Ok(target.join("release").join("onlooker"))
}
