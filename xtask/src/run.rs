//! `cargo xtask run`: builds the agent and executes it in place of xtask.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::{self, Profile};
use crate::{Verb, setup};

/// Build the agent and run it with the given arguments, such as `run --port 8080`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Arguments of `onlooker`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&setup::EBPF])?;
        let agent = build::agent(Profile::Release)?;
        // The agent replaces this process, so that it has its own signals, terminal and exit code.
        let error = Command::new(&agent).args(&self.arguments).exec();
        Err(error).with_context(|| format!("cannot start {}", agent.display()))
    }
}
