//! `cargo xtask build-ebpf`: compiles the kernel programs as `agent`'s build script does.

use std::process::ExitCode;

use anyhow::Result;

use crate::{Verb, shell};

/// Compile the kernel programs if they are stale, and print the path of the object.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        let object = onlooker_ebpf_build::build(&shell::workspace()?)?;
        shell::say(&object.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}
