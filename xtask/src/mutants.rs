//! `cargo xtask mutants`: changes the code in small ways and finds changes that no test notices.
//!
//! cargo-mutants makes the changes, one at a time, in a copy of the workspace. A mutant is caught when a test fails,
//! and a survivor otherwise. The results are collected in `target/mutants` and summarised in docs/mutants.md.

mod report;

use std::path::Path;
use std::process::{Child, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::wait::{self, within};

use self::report::Report;
use crate::setup::{self, MUTANTS};
use crate::{Verb, shell};

/// Find changes of the code that no test notices, and summarise them in docs/mutants.md.
///
/// The mutants are tested in random order until the time is up: a run that ends early is a random sample.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Test only these files, as globs. By default the parsers and the search for parents.
    files: Vec<String>,
    /// Test only the k-th of n parts of the mutants, such as 0/4.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Stop after this time. What was not reached is listed.
    #[arg(long, default_value_t = 170)]
    minutes: u64,
    /// How many mutants to test at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Continue the last run: skip what its tests caught.
    #[arg(long)]
    resume: bool,
}

/// Where a wrong result is worst and the tests need no kernel.
const FILES: [&str; 3] = ["protocols/src/**", "engine/src/parent.rs", "engine/src/parent/**"];

/// A mutant whose tests take this many times as long as those of the unchanged code counts as hanging.
const HANGS_AFTER: &str = "5";

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        setup::make_ready(&[&MUTANTS.part])?;
        let workspace = shell::workspace()?;
        let output = workspace.join("target/mutants");
        // So that Ctrl-C stops cargo-mutants and still writes the summary.
        wait::handle_signals()?;
        let mut child = self.start(&output)?;
        let mut status = None;
        let ended = wait::until(within(Duration::from_secs(self.minutes * 60)), "end of cargo-mutants", || {
            status = child.try_wait().context("cannot wait for cargo-mutants")?;
            Ok(status.map(|_| ()))
        });
        if ended.is_err() {
            stop(&mut child)?;
        }
        /// No test or build of the unchanged code succeeded.
        const BASELINE_FAILED: i32 = 4;
        /// The arguments were wrong.
        const USAGE: i32 = 1;
        if let Some(code @ (BASELINE_FAILED | USAGE)) = status.and_then(|status| status.code()) {
            bail!("cargo-mutants failed with code {code}: see {}", output.join("mutants.out/log").display());
        }
        let report = Report::read(&output.join("mutants.out"))?;
        shell::say(&report.write(&workspace.join("docs/mutants.md"))?);
        Ok(ExitCode::SUCCESS)
    }
}

impl Options {
    fn start(&self, output: &Path) -> Result<Child> {
        let mut command = shell::cargo_plugin(&MUTANTS.tool.path(&Cache::locate()?))?;
        command.args(["mutants", "--no-config", "--colors=never", "--shuffle", "--output"]).arg(output);
        command.args(["--jobs", &self.jobs.to_string(), "--timeout-multiplier", HANGS_AFTER]);
        // Half of the time of a build goes into debug information.
        command.args(["--cargo-arg=--config", "--cargo-arg=profile.dev.debug=false"]);
        let files: Vec<&str> = match &self.files[..] {
            [] => FILES.to_vec(),
            files => files.iter().map(String::as_str).collect(),
        };
        command.args(files.iter().flat_map(|file| ["--file", file]));
        if let Some(shard) = &self.shard {
            command.args(["--shard", shard]);
        }
        if self.resume {
            command.arg("--iterate");
        }
        // Documentation examples are slow to build and catch little.
        command.args(["--", "--lib", "--tests"]);
        command.spawn().context("cannot start cargo-mutants")
    }
}

/// Interrupts cargo-mutants, which then stops its builds and tests.
fn stop(child: &mut Child) -> Result<()> {
    let pid = libc::pid_t::try_from(child.id()).context("a process id fits in pid_t")?;
    // SAFETY: no pointers. The child has not been waited for, so the number is still its own.
    unsafe { libc::kill(pid, libc::SIGINT) };
    child.wait().context("cannot wait for cargo-mutants")?;
    Ok(())
}
