//! `cargo xtask bench`: builds and runs the crate `bench`, which measures the overhead.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::{self, Profile};
use crate::{Verb, setup, shell};

/// Measure the overhead of tracing, and print it as a table.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Arguments of the benchmark: the parts to measure, or `--json`. `--help` lists the parts.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&setup::EBPF, &setup::PACKAGES])?;
        let agent = build::agent(Profile::Release)?;
        shell::run(shell::cargo()?.args(["build", "--release", "--package", "onlooker-bench"]))?;
        let bench = agent.with_file_name("onlooker-bench");
        let error = Command::new(&bench).args(&self.arguments).arg("--agent").arg(&agent).exec();
        Err(error).with_context(|| format!("cannot start {}", bench.display()))
    }
}
