//! `cargo xtask bench`: what Onlooker costs, as ratios within one run. What is measured, and how, is the `bench` crate's.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::setup::{self, Part};
use crate::{run, shell};

/// Measures what Onlooker costs; writes nothing but the table.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these parts (probes, nginx, pipeline, parsers; all of them unless some are named), or `--json`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Those that need no kernel, and so no root.
const USER_SIDE: [&str; 2] = ["pipeline", "parsers"];

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut parts = options.arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    let all = parts.peek().is_none();
    if (all || parts.any(|part| !USER_SIDE.contains(&part.as_str()))) && !shell::is_root() {
        bail!(
            "the probes and nginx are measured with programs in the kernel, which needs root: run `sudo -E env PATH=\"$PATH\" cargo xtask bench`, or `cargo xtask bench {}`",
            USER_SIDE.join(" ")
        );
    }
    setup::make_ready(&[Part::Ebpf, Part::Packages])?;
    let agent = run::build_agent()?;
    shell::run(shell::cargo()?.args(["build", "--release", "--package", "onlooker-bench"]))?;
    let bench = agent.with_file_name("onlooker-bench");
    let error = Command::new(&bench).args(&options.arguments).arg("--agent").arg(&agent).exec();
    Err(error).with_context(|| format!("cannot start {}", bench.display()))
}
