//! `onlooker exec` as whoever started a command without it would find it: its exit code, its signals.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use rstest::rstest;

fn exec(options: &[&str], command: &[&str]) -> Command {
    let mut exec = Command::new(env!("CARGO_BIN_EXE_onlooker"));
    exec.arg("exec").args(options).arg("--").args(command).env("OTEL_TRACES_EXPORTER", "none");
    exec
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[rstest]
#[case::its_own(&["sh", "-c", "exit 1"], 1)]
#[case::of_a_signal(&["sh", "-c", "kill -TERM $$"], 143)]
#[case::not_executable(&["/etc/passwd"], 126)]
#[case::not_found(&["onlooker-no-such-command"], 127)]
fn the_exit_code_is_the_commands(#[case] command: &[&str], #[case] code: i32) {
    let output = exec(&[], command).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
}

#[rstest]
#[case::option(&["--no-such-option"], "console", "--no-such-option")]
#[case::value(&["--ring-bytes", "5000"], "console", "not a power of two")]
#[case::environment(&[], "carrier-pigeon", "carrier-pigeon")]
fn what_fails_before_the_command_is_not_taken_for_its_failure(
    #[case] options: &[&str],
    #[case] exporter: &str,
    #[case] why: &str,
) {
    let output = exec(options, &["true"]).env("OTEL_TRACES_EXPORTER", exporter).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(said(&output).contains(why), "{}", said(&output));
}

#[test]
fn help_is_no_failure() {
    let output = Command::new(env!("CARGO_BIN_EXE_onlooker")).args(["exec", "--help"]).output().unwrap();
    assert!(output.status.success());
}

/// `nohup onlooker exec -- server`: the server is to survive the terminal as it would without us.
#[test]
fn a_signal_that_was_ignored_is_ignored_by_the_command_too() {
    let ignored = |hangup: libc::sighandler_t| {
        let mut exec = exec(&[], &["grep", "SigIgn", "/proc/self/status"]);
        // SAFETY: signal is async-signal-safe.
        unsafe {
            exec.pre_exec(move || {
                libc::signal(libc::SIGHUP, hangup);
                Ok(())
            });
        }
        let output = exec.output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let bits = found.strip_prefix("SigIgn:").unwrap_or_else(|| panic!("{found}{}", said(&output)));
        u64::from_str_radix(bits.trim(), 16).unwrap() & (1 << (libc::SIGHUP - 1)) != 0
    };
    assert!(ignored(libc::SIG_IGN));
    assert!(!ignored(libc::SIG_DFL));
}
