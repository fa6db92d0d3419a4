//! `onlooker run` and its signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A program that ends when its stdin is closed.
struct Started(Child);

impl Started {
    fn new(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill accepts any two integers. The pid of a child that was not waited for is not reused.
        assert_eq!(unsafe { libc::kill(self.0.id().cast_signed(), signal) }, 0);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn counters_are_printed_on_sigusr1_and_at_the_end() {
    let cat = Started::new(&mut Command::new("cat"));
    let mut run = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    run.args(["run", "--pid", &cat.0.id().to_string()]).env("OTEL_TRACES_EXPORTER", "none");
    let mut agent = Started::new(&mut run);
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "onlooker: ready: 1 processes selected");
    // The kernel reports every exec, so this counts as an event.
    assert!(Command::new("true").status().unwrap().success());
    agent.signal(libc::SIGUSR1);
    assert_eq!(lines.next().unwrap(), "onlooker: so far:");
    agent.signal(libc::SIGTERM);
    assert!(lines.any(|line| line.starts_with("onlooker: events ")));
    assert!(agent.0.wait().unwrap().success());
}

#[test]
fn sighup_is_ignored_under_nohup() {
    let cat = Started::new(&mut Command::new("cat"));
    let mut run = Command::new("nohup");
    run.args([env!("CARGO_BIN_EXE_onlooker"), "run", "--pid", &cat.0.id().to_string()]);
    let mut agent = Started::new(run.env("OTEL_TRACES_EXPORTER", "none"));
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "onlooker: ready: 1 processes selected"));
    agent.signal(libc::SIGHUP);
    // If SIGHUP ended the agent, at most one answer would follow.
    for _ in 0..2 {
        agent.signal(libc::SIGUSR1);
        assert!(lines.any(|line| line == "onlooker: so far:"));
    }
    agent.signal(libc::SIGTERM);
    assert!(agent.0.wait().unwrap().success());
}
