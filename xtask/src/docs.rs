//! `cargo xtask docs`: writes the generated parts of `docs/`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{Verb, setup, shell};

/// Write the generated parts of docs/: the page of options, and the table of kernel programs.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

impl Verb for Options {
    /// The tests that compare the pages with the tables write them with this variable.
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&setup::EBPF])?;
        let mut cargo = shell::cargo()?;
        cargo.args(["test", "--quiet", "--package", "onlooker", "--lib", "the_documentation_has"]);
        shell::run(cargo.env("WRITE_DOCS", "1"))?;
        Ok(ExitCode::SUCCESS)
    }
}
