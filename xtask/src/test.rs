//! `cargo xtask test`: all tests, and a final line that counts them.

mod portable;
mod tally;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use onlooker_tests::{SKIPPED_FILE, SOAK};

use self::portable::Portable;
pub(crate) use self::tally::Tally;
use crate::build::{self, Profile};
use crate::{Verb, demo, fuzz, setup, shell};

/// Run all tests: of the crates, end to end with real servers, and the demo (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run only these suites, without the demo.
    #[arg(value_parser = names())]
    suites: Vec<String>,
    /// Also fuzz each target for 30 s, as CI does.
    #[arg(long)]
    fuzz: bool,
    /// Also let the worker that serves nothing work for ten minutes, instead of five seconds.
    #[arg(long)]
    soak: bool,
}

/// A call of `cargo test`.
struct Suite {
    name: &'static str,
    /// What is tested, and with which targets.
    cargo: &'static [&'static str],
    /// Arguments of the test runner.
    runner: &'static [&'static str],
    environment: Environment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Environment {
    /// That of this process.
    Own,
    /// No eBPF toolchain can be found.
    WithoutToolchain,
    /// No eBPF toolchain can be found, and the tests run as `nobody`.
    Unprivileged,
}

/// Every test is in exactly one suite.
const SUITES: &[Suite] = &[
    Suite {
        name: "portable",
        cargo: &[
            "--package",
            "onlooker-elf",
            "--package",
            "onlooker-engine",
            "--package",
            "onlooker-protocols",
            "--all-targets",
        ],
        runner: &[],
        environment: Environment::Unprivileged,
    },
    // rustdoc keeps the compiled examples in a folder that only its own user can read.
    Suite {
        name: "examples",
        cargo: &["--package", "onlooker-engine", "--package", "onlooker-protocols", "--doc"],
        runner: &[],
        environment: Environment::WithoutToolchain,
    },
    Suite {
        name: "crates",
        cargo: &[
            "--workspace",
            "--exclude",
            "onlooker-elf",
            "--exclude",
            "onlooker-engine",
            "--exclude",
            "onlooker-protocols",
            "--exclude",
            "onlooker-tests",
        ],
        runner: &[],
        environment: Environment::Own,
    },
    // One at a time: these tests measure times.
    Suite {
        name: "end-to-end",
        cargo: &["--package", "onlooker-tests"],
        runner: &["--test-threads=1"],
        environment: Environment::Own,
    },
];

/// How long the worker works with `--soak`, in seconds.
const SOAK_SECONDS: u32 = 600;

/// How long each target is fuzzed.
const FUZZ_SECONDS: u32 = 30;

impl Verb for Options {
    /// The exit code tells whether all tests passed. The last line is the count.
    fn run(&self) -> Result<ExitCode> {
        let mut tally = Tally::default();
        if self.suites.is_empty() {
            need_root("test")?;
            setup::make_ready(&[
                &setup::EBPF,
                &setup::PACKAGES,
                &setup::JAVA,
                &setup::PYTHON,
                &setup::JDKS,
                &setup::NODE,
                &setup::RUST,
                &setup::GO,
                &setup::ENVOY,
                &setup::COLLECTOR,
            ])?;
            run_all(self.fuzz, self.soak, &mut tally)?;
            return Ok(tally.finish());
        }
        let suites: Vec<_> = SUITES.iter().filter(|suite| self.suites.iter().any(|name| name == suite.name)).collect();
        let mut agent = None;
        if suites.iter().any(|suite| suite.environment == Environment::Own) {
            need_root("test")?;
            setup::make_ready(&[
                &setup::EBPF,
                &setup::PACKAGES,
                &setup::JAVA,
                &setup::PYTHON,
                &setup::JDKS,
                &setup::NODE,
                &setup::RUST,
                &setup::GO,
                &setup::ENVOY,
                &setup::COLLECTOR,
            ])?;
            agent = Some(build::agent(Profile::Release)?);
        }
        run_suites(&suites, agent.as_deref(), self.soak, &mut tally)?;
        Ok(tally.finish())
    }
}

fn names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

/// Fails with the command to use instead, unless this process runs as root.
pub(crate) fn need_root(verb: &str) -> Result<()> {
    shell::need_root(verb, "the end-to-end tests load programs into the kernel, which needs root")
}

/// Runs every suite, the fuzz targets if `fuzz` is set, and the demo. `soak`: the longest test runs for ten minutes.
pub(crate) fn run_all(fuzz: bool, soak: bool, tally: &mut Tally) -> Result<()> {
    let agent = build::agent(Profile::Release)?;
    run_suites(&SUITES.iter().collect::<Vec<_>>(), Some(&agent), soak, tally)?;
    if fuzz {
        setup::make_ready(&[&setup::FUZZ])?;
        for (target, result) in shell::timed("fuzzing", || fuzz::fuzz_all(FUZZ_SECONDS))? {
            tally.add(&format!("fuzz target {target}"), result);
        }
    }
    // Last, because the demo changes how signals are handled.
    tally.add("the demo", demo::show(&agent, false));
    Ok(())
}

fn run_suites(suites: &[&Suite], agent: Option<&Path>, soak: bool, tally: &mut Tally) -> Result<()> {
    let portable = Portable::prepare()?;
    if let Some(reason) = portable.privileged_because() {
        tally.skip("unprivileged tests of the portable crates", reason);
    }
    suites.iter().try_for_each(|suite| {
        shell::timed(&format!("the suite {}", suite.name), || run_suite(suite, &portable, agent, soak, tally))
    })
}

/// Compiles the test programs of all suites.
pub(crate) fn compile() -> Result<()> {
    let portable = Portable::prepare()?;
    // Examples are compiled when they run.
    for suite in SUITES.iter().filter(|suite| !suite.cargo.contains(&"--doc")) {
        shell::run(suite.cargo(&portable)?.arg("--no-run"))?;
    }
    Ok(())
}

impl Suite {
    /// The call of `cargo test`, up to the options of what runs.
    fn cargo(&self, portable: &Portable) -> Result<Command> {
        let mut command = shell::cargo()?;
        command.arg("test").args(self.cargo);
        match self.environment {
            Environment::Own => {}
            Environment::WithoutToolchain => portable.hide_toolchain(&mut command),
            Environment::Unprivileged => {
                portable.hide_toolchain(&mut command);
                portable.drop_privileges(&mut command);
            }
        }
        Ok(command)
    }
}

/// Runs `cargo test`, prints what it prints, and counts the tests.
fn run_suite(suite: &Suite, portable: &Portable, agent: Option<&Path>, soak: bool, tally: &mut Tally) -> Result<()> {
    let skipped = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    let mut command = suite.cargo(portable)?;
    command.args(["--no-fail-fast", "--"]).args(suite.runner);
    command.env(SKIPPED_FILE, skipped.path());
    if let Some(agent) = agent {
        // The end-to-end tests run the release binary.
        command.env("ONLOOKER", agent);
    }
    if soak {
        command.env(SOAK, SOAK_SECONDS.to_string());
    }
    let failed_before = tally.failed();
    let status = count_tests(&mut command, tally)?;
    for line in shell::file(skipped.path())?.lines() {
        tally.skip_passed(line);
    }
    if !status && tally.failed() == failed_before {
        tally.fail(&format!("`cargo test {}` did not run all its tests", suite.cargo.join(" ")));
    }
    Ok(())
}

/// Runs a command that ends in test runners. Returns whether it succeeded.
fn count_tests(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("its stdout is a pipe")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what cargo prints")?;
        tally.count(&line);
        shell::say(&line);
    }
    Ok(child.wait().context("cannot wait for cargo")?.success())
}
