//! `onlooker run` and its signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onlooker_tests::wait::{until, within};

/// A program that ends when its stdin is closed.
struct Started(Child);

impl Started {
    /// SIGHUP has its default action, also if the tests run under `nohup`.
    fn new(command: &mut Command) -> Self {
        // SAFETY: signal is async-signal-safe, and the default action is valid for every signal.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            });
        }
        Self(command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// A shell that runs a program for each line it gets.
    fn shell() -> Self {
        Self::new(Command::new("sh").args(["-c", "while read line; do env true; echo done >&2; done"]))
    }

    /// Makes the shell run a program. The kernel reports what selected processes start, so this counts as an event.
    fn run_a_program(&mut self) {
        self.0.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
        self.0.stderr.as_mut().unwrap().read_exact(&mut [0; "done\n".len()]).unwrap();
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
    let mut shell = Started::shell();
    let mut run = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    run.args(["run", "--pid", &shell.0.id().to_string()]).env("OTEL_TRACES_EXPORTER", "none");
    let mut agent = Started::new(&mut run);
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "onlooker: ready: 1 processes selected");
    shell.run_a_program();
    agent.signal(libc::SIGUSR1);
    assert_eq!(lines.next().unwrap(), "onlooker: so far:");
    agent.signal(libc::SIGTERM);
    assert!(lines.any(|line| line.starts_with("onlooker: events ")));
    assert!(agent.0.wait().unwrap().success());
}

/// The terminal was closed.
#[test]
fn sighup_ends_the_agent_that_writes_no_file() {
    let mut shell = Started::shell();
    let mut run = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    run.args(["run", "--pid", &shell.0.id().to_string()]).env("OTEL_TRACES_EXPORTER", "none");
    let mut agent = Started::new(&mut run);
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "onlooker: ready: 1 processes selected"));
    shell.run_a_program();
    agent.signal(libc::SIGHUP);
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

/// Issue 7, fault 16: logrotate sends SIGHUP after it renamed the file.
#[test]
fn sighup_reopens_the_file_of_spans() {
    let folder = tempfile::tempdir().unwrap();
    let (file, renamed) = (folder.path().join("spans"), folder.path().join("spans.1"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Each line that it reads is a request.
    let script = "while read line; do curl --silent --noproxy '*' --output /dev/null \"$0\"; done";
    let mut shell = Started::new(Command::new("sh").args(["-c", script, &url]));
    let mut run = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    run.args(["run", "--pid", &shell.0.id().to_string(), "--file", file.to_str().unwrap()]);
    let mut agent = Started::new(run.env("OTEL_TRACES_EXPORTER", "none"));
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "onlooker: ready: 1 processes selected"));

    let mut request = || {
        shell.0.stdin.as_mut().unwrap().write_all(b"request\n").unwrap();
        let (mut client, _) = listener.accept().unwrap();
        assert_ne!(client.read(&mut [0; 4096]).unwrap(), 0);
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    };
    let written = |file: &Path| {
        let ready = || Ok(file.metadata().is_ok_and(|metadata| metadata.len() > 0).then_some(()));
        until(within(Duration::from_secs(20)), "a span in the file", ready).unwrap();
    };
    request();
    written(&file);
    fs::rename(&file, &renamed).unwrap();
    agent.signal(libc::SIGHUP);
    // The answer comes after the signal before it was handled.
    agent.signal(libc::SIGUSR1);
    assert!(lines.any(|line| line == "onlooker: so far:"));
    request();
    written(&file);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    agent.signal(libc::SIGTERM);
    assert!(agent.0.wait().unwrap().success());
}
