//! `cargo xtask vm`: boots other kernels in QEMU and runs Onlooker on them.

mod checks;
mod guest;
pub(crate) mod kernels;
mod report;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use onlooker_ebpf_build::Cache;
use onlooker_tests::wait::{self, PATIENCE_FACTOR};

use self::checks::{Built, CHECKS, Check, LOAD_ONLY, Outcome, Results};
use self::kernels::{GuestKernel, KERNELS, Unpacked};
use self::report::Row;
use crate::build::{self, Profile};
use crate::test::Tally;
use crate::{Verb, setup, shell};

/// Boot Debian's kernels in QEMU under software emulation and check Onlooker on each, or run a command there (root).
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this kernel, such as 6.12-cloud; may be repeated.
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Take this agent instead of building one.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Also check the kernel of this machine, and write the results of all to docs/kernels.md.
    #[arg(long, conflicts_with_all = ["kernels", "command"])]
    write: bool,
    /// Run this command in the guest instead of the checks, such as `onlooker doctor`.
    #[arg(last = true)]
    command: Vec<String>,
}

/// More than all checks may take on a busy machine. Each has its own limit.
const GUEST_ENDS_WITHIN: Duration = Duration::from_secs(1800);

/// How much longer the tests wait in a guest. Emulation takes six to twelve times as long; their deadlines are generous.
const SLOWNESS: u32 = 5;

/// How much of a failed check's output is shown.
const LINES_SHOWN: usize = 40;

impl Verb for Options {
    fn run(&self) -> Result<ExitCode> {
        shell::need_root("vm", "serving the host's files to a guest needs root")?;
        let chosen = chosen(&self.kernels)?;
        setup::make_ready(&[&setup::EBPF, &setup::PACKAGES, &setup::PYTHON, &setup::vm::VM])?;
        let agent = match &self.agent {
            Some(agent) => agent.canonicalize().with_context(|| format!("cannot find {}", agent.display()))?,
            None => build::agent(Profile::Release)?,
        };
        if !self.command.is_empty() {
            return run_command(&chosen, &agent, &self.command);
        }
        let built = Built::new(agent)?;
        wait::handle_signals()?;
        let mut rows = Vec::new();
        for kernel in chosen {
            rows.push(check_in_guest(kernel, CHECKS, &built)?);
        }
        if self.write {
            rows.push(check_here(&built)?);
            report::write(&rows)?;
        }
        let failed = rows.iter().flat_map(|row| &row.outcomes).any(|outcome| outcome.fault.is_some());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Runs one command on each kernel. Fails if one of them does.
fn run_command(kernels: &[&GuestKernel], agent: &Path, command: &[String]) -> Result<ExitCode> {
    // From here on Ctrl-C too ends the guests.
    wait::handle_signals()?;
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let script = format!("{}exec {}\n", prelude(agent)?, words.join(" "));
    let mut failed = false;
    for kernel in kernels {
        let code = guest::run(&unpacked(kernel)?, &script, GUEST_ENDS_WITHIN, &mut shell::say)?;
        if code != 0 {
            failed = true;
            shell::say(&format!("{}: exit code {code}", kernel.name));
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs `checks` on a kernel in a guest.
fn check_in_guest(kernel: &GuestKernel, checks: &[Check], built: &Built) -> Result<Row> {
    let unpacked = unpacked(kernel)?;
    let patience = format!("export {PATIENCE_FACTOR}={SLOWNESS}\n");
    let script = prelude(&built.agent)? + &patience + &checks::script(checks, built)?;
    collect(kernel.name, &unpacked.release, checks, |line| {
        guest::run(&unpacked, &script, GUEST_ENDS_WITHIN, line).map(drop)
    })
}

/// Runs all checks on the kernel of this machine.
fn check_here(built: &Built) -> Result<Row> {
    let script = prelude(&built.agent)? + &checks::script(CHECKS, built)?;
    let release = shell::file(Path::new("/proc/sys/kernel/osrelease"))?;
    // What follows the version names the build.
    let version = release.trim().split('-').next().unwrap_or_default();
    collect("not emulated", version, CHECKS, |line| {
        let mut sh = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = sh.stdout.take().context("its stdout is a pipe")?;
        let followed = guest::follow(output, GUEST_ENDS_WITHIN, line);
        if followed.is_err() {
            sh.kill().context("cannot stop the checks")?;
        }
        sh.wait().context("cannot wait for the checks")?;
        followed
    })
}

/// Cuts the lines that `run` passes on into the outcomes of `checks`, and prints each.
fn collect(
    name: &str,
    release: &str,
    checks: &[Check],
    run: impl FnOnce(&mut dyn FnMut(&str)) -> Result<()>,
) -> Result<Row> {
    let mut results = Results::new(checks);
    let ended = run(&mut |line| {
        if let Some(outcome) = results.line(line) {
            say(name, outcome);
        }
    });
    if wait::interrupted() {
        bail!("interrupted");
    }
    let died = ended.err().map_or_else(|| "it did not run".to_owned(), |error| format!("{error:#}"));
    let before = results.ended();
    let outcomes = results.finish(&died);
    outcomes[before..].iter().for_each(|outcome| say(name, outcome));
    Ok(Row { name: name.to_owned(), release: release.to_owned(), outcomes })
}

/// Loads and attaches the programs on each kernel, and counts that. A kernel that cannot be had is skipped. The other checks
/// depend on the speed of the emulation, and are left to `cargo xtask vm`.
///
/// As many kernels at a time as there are processors: a kernel that boots or loads programs keeps one busy.
pub(crate) fn check_in_ci(agent: PathBuf, tally: &mut Tally) -> Result<()> {
    if let Err(error) = setup::make_ready(&[&setup::vm::VM]) {
        for kernel in &KERNELS {
            tally.skip(&format!("kernel {}", kernel.name), &format!("{error:#}"));
        }
        return Ok(());
    }
    let built = Built::new(agent)?;
    wait::handle_signals()?;
    let cache = Cache::locate()?;
    let rows = shell::side_by_side(&KERNELS, |kernel| {
        kernel.dir(&cache).exists().then(|| check_in_guest(kernel, LOAD_ONLY, &built))
    });
    for (kernel, row) in KERNELS.iter().zip(rows) {
        let what = format!("kernel {}", kernel.name);
        let Some(row) = row else {
            tally.skip(&what, "its package is not in this machine's apt");
            continue;
        };
        for outcome in row?.outcomes {
            let result = outcome.fault.map_or(Ok(()), |fault| Err(anyhow!(fault)));
            tally.add(&format!("{what}: {}", outcome.name), result);
        }
    }
    Ok(())
}

fn say(kernel: &str, outcome: &Outcome) {
    let Some(fault) = &outcome.fault else {
        shell::say(&format!("{kernel}: {} ({} s)", outcome.name, outcome.took.as_secs()));
        return;
    };
    let printed = &outcome.printed[outcome.printed.len().saturating_sub(LINES_SHOWN)..];
    printed.iter().for_each(|line| shell::say(&format!("    {line}")));
    shell::say(&format!("{kernel}: FAILED: {}: {fault}", outcome.name));
}

fn unpacked(kernel: &GuestKernel) -> Result<Unpacked> {
    let dir = kernel.dir(&Cache::locate()?);
    let found = Unpacked::find(&dir).with_context(|| format!("the kernel {} is not here", kernel.name))?;
    shell::say(&format!("{}: booting {}", kernel.name, found.release));
    Ok(found)
}

/// The rows of these names; all of them if none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static GuestKernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let row = |name: &String| {
        KERNELS.iter().find(|kernel| kernel.name == name).with_context(|| {
            let known = KERNELS.map(|kernel| kernel.name).join(", ");
            format!("no kernel is called {name}: the table has {known}")
        })
    };
    names.iter().map(row).collect()
}

/// The beginning of a guest's script: the variables by which programs and the cache are found here.
fn prelude(agent: &Path) -> Result<String> {
    let folder = agent.parent().context("the agent is in a folder")?;
    if agent.starts_with("/tmp") {
        bail!("{} cannot be seen by the guest, which has a /tmp of its own", agent.display());
    }
    let path = env::var("PATH").context("PATH is not text")?;
    let mut script = format!("export PATH={}\n", quoted(&format!("{}:{path}", folder.display())));
    writeln!(script, "export ONLOOKER={}", quoted(&agent.display().to_string()))?;
    for name in ["HOME", "XDG_CACHE_HOME"] {
        if let Ok(value) = env::var(name) {
            writeln!(script, "export {name}={}", quoted(&value))?;
        }
    }
    writeln!(script, "cd {}", quoted(&shell::workspace()?.display().to_string()))?;
    Ok(script)
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
