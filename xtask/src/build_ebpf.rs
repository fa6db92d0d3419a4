//! `cargo xtask build-ebpf`: compiles the kernel programs, as `agent`'s build script does.

use anyhow::Result;

use crate::shell;

/// Compiles the kernel programs where they are stale and prints where the object is.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> Result<()> {
    let object = onlooker_ebpf_build::build(&shell::workspace()?)?;
    shell::say(&format!("{}", object.display()));
    Ok(())
}
