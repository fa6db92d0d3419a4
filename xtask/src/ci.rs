//! `cargo xtask ci`: everything that must hold before a change is merged. `.ci/run` calls it.

use std::process::ExitCode;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::test::Tally;
use crate::{Verb, lint, package, setup, test, vm};

/// Set up, lint, run all tests, fuzz each target for 30 s, run the demo, check the packages, and check other kernels in QEMU (root).
///
/// The last line counts all tests, lint checks, fuzz targets, the demo and the checks of packages and of other kernels: `N passed, N failed, N skipped`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        test::need_root("ci")?;
        setup::make_ready(&setup::defaults())?;
        let mut tally = Tally::default();
        // A failed check does not stop the tests: one run reports everything.
        for (check, result) in lint::check(&lint::Options::default())? {
            tally.add(&format!("lint: {check}"), result);
        }
        test::run_all(true, false, &mut tally)?;
        let agent = build::agent(Profile::Release)?;
        package::check_in_ci(&agent, &mut tally)?;
        vm::check_in_ci(agent, &mut tally)?;
        Ok(tally.finish())
    }
}
