//! `cargo xtask ci`: everything that must hold before a change is merged. `.ci/run` calls it.

use std::process::ExitCode;
use std::thread;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::test::Tally;
use crate::{Verb, lint, package, setup, shell, test, vm};

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
        // The release is linked by one thread, which takes minutes. Meanwhile the other processors check and compile.
        let (agent, checks) = thread::scope(|scope| {
            let agent = scope.spawn(|| shell::timed("the release", || build::agent(Profile::Release)));
            let checks = lint::check(&lint::Options::default());
            let compiled = shell::timed("the tests are compiled", test::compile);
            if let Err(error) = compiled {
                // It fails again where it counts.
                shell::error(&error);
            }
            (agent.join().expect("building returns its errors"), checks)
        });
        // A failed check does not stop the tests: one run reports everything.
        for (check, result) in checks? {
            tally.add(&format!("lint: {check}"), result);
        }
        let agent = agent?;
        test::run_all(true, false, &mut tally)?;
        shell::timed("the packages", || package::check_in_ci(&agent, &mut tally))?;
        shell::timed("other kernels", || vm::check_in_ci(agent, &mut tally))?;
        Ok(tally.finish())
    }
}
