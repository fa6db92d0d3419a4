//! `cargo xtask test`: all tests, and a count at the end that leaves none out.

mod tally;

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use onlooker_tests::SKIPPED_FILE;

use self::tally::Tally;
use crate::setup::{self, Part};
use crate::{demo, fuzz, run, shell};

/// Runs all tests: of the crates, end to end with real servers, the demo, and in CI a minute of every fuzz target.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fuzz as in CI (where the variable CI is set).
    #[arg(long)]
    fuzz: bool,
}

/// How long CI fuzzes each target.
const FUZZ_SECONDS: u32 = 60;

/// The exit code says whether all passed; the last line, the count, is the last that is said.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if !shell::is_root() {
        bail!(
            "the end-to-end tests load programs into the kernel and need root: run `sudo -E env PATH=\"$PATH\" cargo xtask test`"
        );
    }
    setup::make_ready(&[Part::Ebpf, Part::Packages, Part::Python, Part::Collector])?;
    let agent = run::build_agent()?;

    let mut tally = Tally::default();
    cargo_test(&["--workspace", "--exclude", "onlooker-tests"], &[], &agent, &mut tally)?;
    // One at a time: they measure times, and each is to have the machine to itself.
    cargo_test(&["--package", "onlooker-tests"], &["--test-threads=1"], &agent, &mut tally)?;
    if options.fuzz || env::var_os("CI").is_some() {
        fuzz_all(&mut tally)?;
    }
    // Last, because from then on signals are heeded.
    match demo::show(&agent) {
        Ok(()) => tally.pass(),
        Err(error) => tally.fail(&format!("the demo: {error:#}")),
    }

    for line in tally.summary() {
        shell::say(&line);
    }
    Ok(if tally.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `cargo test`, passing on what it prints and counting along.
fn cargo_test(packages: &[&str], arguments: &[&str], agent: &Path, tally: &mut Tally) -> Result<()> {
    let skipped = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    let mut command = shell::cargo()?;
    command.args(["test", "--no-fail-fast"]).args(packages).arg("--").args(arguments);
    // The end-to-end tests take the agent as it is shipped.
    command.env("ONLOOKER", agent).env(SKIPPED_FILE, skipped.path()).stdout(Stdio::piped());

    let mut child = command.spawn().context("cannot start cargo")?;
    let failed_before = tally.failed();
    let stdout = child.stdout.take().context("its stdout is a pipe")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what cargo prints")?;
        tally.count(&line);
        shell::say(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    for line in shell::file(skipped.path())?.lines() {
        tally.skip_a_passed_one(line);
    }
    if !status.success() && tally.failed() == failed_before {
        tally.fail(&format!("`cargo test {}` did not come to its end ({status})", packages.join(" ")));
    }
    Ok(())
}

fn fuzz_all(tally: &mut Tally) -> Result<()> {
    setup::make_ready(&[Part::Fuzz])?;
    for target in fuzz::targets()? {
        shell::say(&format!("fuzz: {target}, {FUZZ_SECONDS} s"));
        match fuzz::fuzz_quietly(&target, FUZZ_SECONDS) {
            Ok(()) => tally.pass(),
            Err(error) => tally.fail(&format!("fuzz target {target}: {error:#}")),
        }
    }
    Ok(())
}
