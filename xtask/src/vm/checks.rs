//! What is checked on every kernel: one row each. All checks of a kernel run in one guest, one after the other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::quoted;
use crate::shell;

/// A row of [`CHECKS`].
pub(super) struct Check {
    /// What reports call it.
    pub(super) name: &'static str,
    program: Program,
    /// How long it may take in a guest on a busy machine.
    within: Duration,
}

enum Program {
    /// The agent with these arguments.
    Agent(&'static [&'static str]),
    /// The demo's servers, requests and judgement.
    Demo,
    /// The tests in `tests/tests/FILE.rs` whose names contain this filter. At least one must run.
    Tests { file: &'static str, filter: &'static str },
}

const fn tests(name: &'static str, file: &'static str, filter: &'static str) -> Check {
    Check { name, program: Program::Tests { file, filter }, within: Duration::from_secs(600) }
}

/// The check whose output names the programs. It takes seconds.
const LOAD: Check = Check {
    name: "all programs load and attach",
    program: Program::Agent(&["-vv", "doctor"]),
    within: Duration::from_secs(300),
};

pub(super) const LOADED: &str = LOAD.name;

pub(super) const LOAD_ONLY: &[Check] = &[LOAD];

/// Times that tests measure mean nothing under emulation, so none of these checks durations.
pub(super) const CHECKS: &[Check] = &[
    LOAD,
    Check { name: "the demo's trace is whole", program: Program::Demo, within: Duration::from_secs(600) },
    tests("every system call's bytes are reported or counted", "system_calls", "whatever_call_moves_it"),
    tests("unix sockets are traced", "sockets", "a_server_on_a_unix_socket"),
    tests("MPTCP connections are traced", "mptcp", "an_mptcp_connection"),
    tests("pipelined requests are exported or counted", "http_limits", "pipelined_requests"),
];

/// The programs that the checks run, as they are named here and in the guest.
pub(super) struct Built {
    pub(super) agent: PathBuf,
    xtask: PathBuf,
    /// Test binaries by the file that each is made from.
    tests: HashMap<String, PathBuf>,
}

impl Built {
    /// Compiles the end-to-end tests. `agent` is there already, and so is this program.
    pub(super) fn new(agent: PathBuf) -> Result<Self> {
        let mut cargo = shell::cargo()?;
        cargo.args(["test", "--package", "onlooker-tests", "--no-run", "--message-format=json-render-diagnostics"]);
        let tests = test_binaries(&shell::read(&mut cargo)?);
        Ok(Self { agent, xtask: std::env::current_exe().context("cannot find this program")?, tests })
    }
}

/// The integration tests among cargo's messages.
fn test_binaries(messages: &str) -> HashMap<String, PathBuf> {
    let binary = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
        let file = is_test.then(|| target["name"].as_str())??.to_owned();
        Some((file, PathBuf::from(message["executable"].as_str()?)))
    };
    messages.lines().filter_map(binary).collect()
}

/// A shell script that runs `checks`, with the lines between them that [`Results`] reads.
pub(super) fn script(checks: &[Check], built: &Built) -> Result<String> {
    let mut script = "check() {\n  echo \"@check $1\"\n  limit=$2\n  shift 2\n  \
                      timeout --kill-after=10 \"$limit\" \"$@\" 2>&1\n  echo \"@ended $?\"\n}\n"
        .to_owned();
    for check in checks {
        let words = check.command(built)?;
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        writeln!(script, "check {} {} {}", quoted(check.name), check.within.as_secs(), words.join(" "))?;
    }
    Ok(script)
}

impl Check {
    fn command(&self, built: &Built) -> Result<Vec<String>> {
        let text = |path: &Path| path.display().to_string();
        let words = |program: &Path, arguments: &[&str]| {
            let arguments = arguments.iter().map(|word| (*word).to_owned());
            [text(program)].into_iter().chain(arguments).collect::<Vec<_>>()
        };
        Ok(match self.program {
            Program::Agent(arguments) => words(&built.agent, arguments),
            Program::Demo => words(&built.xtask, &["demo", "--agent", &text(&built.agent)]),
            Program::Tests { file, filter } => {
                let binary = built.tests.get(file).with_context(|| format!("there is no tests/tests/{file}.rs"))?;
                words(binary, &[filter, "--test-threads=1"])
            }
        })
    }
}

/// How one check ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    /// Why it failed.
    pub(super) fault: Option<String>,
    pub(super) took: Duration,
    pub(super) printed: Vec<String>,
}

/// What the script of some checks has printed so far, cut into checks.
pub(super) struct Results<'a> {
    checks: &'a [Check],
    ended: Vec<Outcome>,
    started: Instant,
    printed: Vec<String>,
}

impl<'a> Results<'a> {
    pub(super) fn new(checks: &'a [Check]) -> Self {
        Self { checks, ended: Vec::new(), started: Instant::now(), printed: Vec::new() }
    }

    /// Takes the next line. Returns the check that it ended.
    pub(super) fn line(&mut self, line: &str) -> Option<&Outcome> {
        if line.starts_with("@check ") {
            self.printed.clear();
            self.started = Instant::now();
            return None;
        }
        let Some(code) = line.strip_prefix("@ended ") else {
            self.printed.push(line.to_owned());
            return None;
        };
        let check = self.checks.get(self.ended.len())?;
        let printed = std::mem::take(&mut self.printed);
        let fault = check.fault(code, &printed);
        self.ended.push(Outcome { name: check.name, fault, took: self.started.elapsed(), printed });
        self.ended.last()
    }

    /// How many checks have ended.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Every check's outcome. Those that did not run failed because of `reason`.
    pub(super) fn finish(mut self, reason: &str) -> Vec<Outcome> {
        for check in &self.checks[self.ended.len()..] {
            let (fault, printed) = (Some(reason.to_owned()), std::mem::take(&mut self.printed));
            self.ended.push(Outcome { name: check.name, fault, took: Duration::ZERO, printed });
        }
        self.ended
    }
}

impl Check {
    fn fault(&self, code: &str, printed: &[String]) -> Option<String> {
        /// What timeout(1) exits with.
        const TIMED_OUT: &str = "124";
        let tests =
            |end: &'static str| printed.iter().filter_map(move |line| line.strip_prefix("test ")?.strip_suffix(end));
        let test_ran = tests(" ... ok").next().is_some();
        // The case is what distinguishes the tests of a table.
        let failed: Vec<_> = tests(" ... FAILED").filter_map(|test| test.rsplit("::").next()).collect();
        match code {
            "0" if matches!(self.program, Program::Tests { .. }) && !test_ran => Some("no test ran".to_owned()),
            "0" => printed.iter().find_map(|line| reduced(line)).map(|line| format!("unexpectedly {line}")),
            TIMED_OUT => Some(format!("it took longer than {} s", self.within.as_secs())),
            _ if !failed.is_empty() => Some(format!("failed: {}", failed.join(", "))),
            _ => Some(format!("exit code {code}")),
        }
    }
}

/// A line of `doctor` that says that something is reduced that these kernels can do, such as a program that the kernel refuses.
fn reduced(line: &str) -> Option<&str> {
    /// They need Linux 6.16 and 6.3.
    const NEWER: [&str; 2] = ["long sends", "traceparent"];
    let line = line.trim_start();
    let part = line.strip_prefix("reduced ")?.trim_start();
    (!NEWER.iter().any(|newer| part.starts_with(newer))).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, LOADED, Results, reduced};

    #[test]
    fn a_program_that_a_kernel_refuses_is_a_fault() {
        assert_eq!(reduced("  works    tokio        uprobe tokio_wake"), None);
        assert_eq!(reduced("  reduced  long sends   a call that begins"), None);
        let refused = "reduced  tokio        calls have no parent: tokio_wake (cannot load)";
        assert_eq!(reduced(&format!("  {refused}")), Some(refused));
    }

    #[test]
    fn each_check_has_an_outcome_also_if_the_guest_dies() {
        let mut results = Results::new(&CHECKS[..4]);
        let printed = [
            "@check a",
            "DEBUG loaded",
            "@ended 0",
            "@check b",
            "@ended 124",
            "@check c",
            "test calls::case_1_read ... ok",
            "test calls::case_2_write ... FAILED",
            "@ended 101",
            "@check d",
            "running 0 tests",
        ];
        let ended: Vec<_> = printed.iter().filter_map(|line| Some(results.line(line)?.name)).collect();
        assert_eq!(ended, [CHECKS[0].name, CHECKS[1].name, CHECKS[2].name]);
        let outcomes = results.finish("panic");
        assert_eq!((outcomes[0].name, &outcomes[0].printed[..]), (LOADED, &["DEBUG loaded".to_owned()][..]));
        let faults: Vec<_> = outcomes.iter().map(|outcome| outcome.fault.as_deref()).collect();
        assert_eq!(faults[0], None);
        assert!(faults[1].is_some_and(|fault| fault.starts_with("it took longer than")), "{faults:?}");
        assert_eq!(faults[2..], [Some("failed: case_2_write"), Some("panic")]);
    }

    #[test]
    fn a_filter_that_selects_no_test_is_a_fault() {
        let mut results = Results::new(&CHECKS[2..]);
        let outcome = ["@check c", "running 0 tests", "@ended 0"]
            .iter()
            .find_map(|line| results.line(line).map(|o| o.fault.clone()));
        assert_eq!(outcome, Some(Some("no test ran".to_owned())));
    }
}
