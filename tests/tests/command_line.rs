//! The command line: what `doctor` reports, which errors are printed, and with which codes the commands exit.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::RawClient;
use onlooker_tests::servers::{App, Nginx};
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, agent_binary, as_nobody, record_skip};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// The output and the exit code of a finished command.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn run(world: &World, command: &mut Command) -> Result<Self> {
        let Output { status, stdout, stderr } = world.output_of(command)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let finished = Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        Ok(finished)
    }

    /// Fails unless the exit code is `code` and exactly one error was printed, which contains all of `words`.
    fn expect_error(&self, code: i32, words: &[&str]) -> Result<()> {
        let errors: Vec<_> = self.stderr.lines().filter(|line| line.contains("error: ")).collect();
        let [error] = errors[..] else { anyhow::bail!("not exactly one error:\n{}", self.stderr) };
        ensure!(self.code == Some(code), "the exit code is {:?}, not {code}: {error}", self.code);
        ensure!(words.iter().all(|word| error.contains(word)), "the error does not contain {words:?}: {error}");
        Ok(())
    }
}

fn onlooker(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = world.command(agent_binary()?);
    command.args(arguments);
    Ok(command)
}

/// Copies the agent to a place where every user may execute it.
fn agent_for_all_users(world: &World) -> Result<PathBuf> {
    let copy = world.dir().join("onlooker");
    fs::copy(agent_binary()?, &copy).context("cannot copy the agent")?;
    Ok(copy)
}

/// Returns the verdict of a finding in the output of `doctor --json`.
fn verdict<'a>(report: &'a Value, finding: &str) -> &'a str {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = findings.iter().find(|found| found["name"] == finding);
    found.and_then(|found| found["verdict"].as_str()).unwrap_or_default()
}

/// The ids that it would select there belong to other processes of the host.
#[test]
fn a_pid_namespace_of_its_own_is_refused() -> Result<()> {
    World::story("namespace", |world| {
        let mut command = world.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(agent_binary()?);
        command.args(["run", "--cgroup"]).arg(world.cgroup().path());
        Finished::run(world, &mut command)?.expect_error(1, &["pid namespace", "hostPID: true"])
    })
}

#[test]
fn doctor_reports_that_tracing_works() -> Result<()> {
    World::story("doctor", |world| {
        let finished = Finished::run(world, &mut onlooker(world, &["doctor"])?)?;
        ensure!(finished.code == Some(0) && finished.stdout.ends_with("Tracing works here.\n"), "{}", finished.stdout);
        ensure!(!finished.stdout.contains("MISSING"), "{}", finished.stdout);

        let finished = Finished::run(world, &mut onlooker(world, &["doctor", "--json"])?)?;
        let report: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stdout.clone())?;
        ensure!(finished.code == Some(0) && report["can_trace"] == true, "{report:#}");
        ensure!(report["kernel"] == fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(), "{report:#}");
        for finding in ["privileges", "btf", "lockdown", "load", "recorder"] {
            ensure!(verdict(&report, finding) == "works", "{finding} in {report:#}");
        }
        Ok(())
    })
}

#[test]
fn doctor_reports_how_the_unit_of_work_of_a_process_is_read() -> Result<()> {
    let app = App::go("caller");
    if let Some(reason) = app.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    World::story("doctor --pid", |world| {
        let stripped = app.clone().go_arguments(&["-ldflags=-s -w"]);
        for (app, origin) in [(&app, "the executable's debug information"), (&stripped, "the table of Go releases")] {
            let mut app = app.start(world)?;
            let pid = app.process().pid().to_string();
            let finished = Finished::run(world, &mut onlooker(world, &["doctor", "--pid", &pid])?)?;
            let read = finished.code == Some(0) && finished.stdout.contains("unit     goroutine: go1.");
            ensure!(read && finished.stdout.contains(&format!("offsets from {origin}")), "{}", finished.stdout);
        }
        Ok(())
    })
}

#[test]
fn doctor_reports_the_tls_libraries_of_a_process() -> Result<()> {
    World::story("doctor --pid", |world| {
        // Its library is part of the executable.
        let mut node = App::node("caller").start(world)?;
        let pid = node.process().pid().to_string();
        let finished = Finished::run(world, &mut onlooker(world, &["doctor", "--pid", &pid])?)?;
        let line = finished.stdout.lines().find(|line| line.starts_with("  TLS      OpenSSL in ")).unwrap_or_default();
        ensure!(line.contains("SSL_read, ") && line.contains("SSL_write, "), "{}", finished.stdout);
        Ok(())
    })
}

#[test]
fn doctor_reports_what_is_missing_and_why() -> Result<()> {
    World::story("doctor", |world| {
        let agent = agent_for_all_users(world)?;
        let finished = Finished::run(world, as_nobody(world.command(&agent).arg("doctor"))?)?;
        ensure!(
            finished.code == Some(1) && finished.stdout.ends_with("Tracing cannot work here.\n"),
            "{}",
            finished.stdout
        );
        ensure!(finished.stdout.contains("CAP_BPF and CAP_PERFMON missing: run as root"), "{}", finished.stdout);
        let finished = Finished::run(world, as_nobody(world.command(&agent).args(["doctor", "--json"]))?)?;
        let report: Value = serde_json::from_str(&finished.stdout).with_context(|| finished.stdout.clone())?;
        ensure!(finished.code == Some(1) && report["can_trace"] == false, "{report:#}");
        ensure!(verdict(&report, "privileges") == "missing" && verdict(&report, "btf") == "works", "{report:#}");

        let finished = Finished::run(world, &mut without_btf(world, "doctor")?)?;
        let btf = finished.stdout.lines().find(|line| line.trim_start().starts_with("MISSING  btf"));
        ensure!(
            finished.code == Some(1) && btf.is_some_and(|btf| btf.contains("CONFIG_DEBUG_INFO_BTF=y")),
            "{}",
            finished.stdout
        );
        Ok(())
    })
}

/// Runs the agent in a mount namespace that hides the kernel's BTF.
fn without_btf(world: &World, arguments: &str) -> Result<Command> {
    let script = format!("mount -t tmpfs none /sys/kernel/btf && exec \"$0\" {arguments}");
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(agent_binary()?);
    Ok(command)
}

#[test]
fn without_privileges_or_btf_one_clear_error_is_printed() -> Result<()> {
    World::story("not allowed", |world| {
        let agent = agent_for_all_users(world)?;
        let finished = Finished::run(world, as_nobody(world.command(&agent).args(["run", "--port", "8080"]))?)?;
        finished.expect_error(1, &["not permitted", "run as root", "CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE"])?;
        let finished = Finished::run(world, &mut without_btf(world, "run --port 8080")?)?;
        finished.expect_error(1, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"])?;
        Ok(())
    })
}

#[test]
fn invalid_arguments_print_one_clear_error() -> Result<()> {
    // Errors of the argument parser (clap), which exits with 2 and prints the usage.
    const USAGE: i32 = 2;
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["run"], 1, &["nothing is selected", "--pid, --exe, --port, --cgroup or --all"]),
        (&["run", "--pid", "99999999"], 1, &["--pid 99999999", "does not exist"]),
        (&["run", "--pid", "2"], 1, &["--pid 2", "kernel thread"]),
        (&["run", "--exe", "["], 1, &["--exe `[`"]),
        (&["run", "--cgroup", "/no/such"], 1, &["--cgroup /no/such", "no cgroup"]),
        (&["run", "--port", "0"], USAGE, &["--port", "a number from 1 to 65535"]),
        (&["run", "--port", "90-80"], USAGE, &["--port", "ends before it begins"]),
        (&["run", "--port", "80", "--ring-bytes", "5000"], USAGE, &["--ring-bytes", "power of two"]),
        (&["run", "--no-such-option"], USAGE, &["--no-such-option"]),
        (&["no-such-verb"], USAGE, &["no-such-verb"]),
        (&["run", "--port", "80", "--export", "smoke"], 1, &["--export", "smoke", "otlp, console and none"]),
        (&["run", "--port", "80", "--endpoint", "nonsense"], 1, &["--endpoint", "is not a URL"]),
        (&["run", "--port", "80", "--file", "/no/such/spans"], 1, &["/no/such/spans", "No such file"]),
    ];
    World::story("invalid arguments", |world| {
        for (arguments, code, words) in table {
            let finished = Finished::run(world, &mut onlooker(world, arguments)?)?;
            finished.expect_error(*code, words).with_context(|| arguments.join(" "))?;
        }
        Ok(())
    })
}

#[test]
fn exec_exits_like_its_command() -> Result<()> {
    let commands: &[(&[&str], i32)] = &[
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
    ];
    let errors: &[(&[&str], i32, &[&str])] = &[
        (&["onlooker-no-such-command"], 127, &["onlooker-no-such-command", "no such command in PATH"]),
        (&["/no/such/command"], 127, &["/no/such/command", "No such file"]),
        (&["/etc/passwd"], 126, &["/etc/passwd", "Permission denied"]),
    ];
    World::story("exit codes", |world| {
        for (command, code) in commands {
            let finished = Finished::run(world, onlooker(world, &["exec", "--"])?.args(*command))?;
            ensure!(finished.code == Some(*code), "{command:?} exited with {:?}: {}", finished.code, finished.stderr);
        }
        for (command, code, words) in errors {
            Finished::run(world, onlooker(world, &["exec", "--"])?.args(*command))?.expect_error(*code, words)?;
        }
        Ok(())
    })
}

/// The agent needs a descriptor for each library that it attaches to. Programs that use select(2) must not have more than 1,024.
#[test]
fn exec_raises_its_own_limit_of_descriptors_and_not_that_of_the_command() -> Result<()> {
    World::story("descriptors", |world| {
        let script = "ulimit -Sn; ulimit -Hn; grep 'open files' /proc/$PPID/limits";
        let mut limited = world.command("prlimit");
        limited.arg("--nofile=300:4000").arg(agent_binary()?);
        let finished = Finished::run(world, limited.args(["exec", "--export", "none", "--", "sh", "-c", script]))?;
        let words: Vec<_> = finished.stdout.split_whitespace().collect();
        ensure!(words == ["300", "4000", "Max", "open", "files", "4000", "4000", "files"], "{}", finished.stdout);
        Ok(())
    })
}

#[test]
fn exec_that_cannot_trace_exits_with_125_and_does_not_run_the_command() -> Result<()> {
    World::story("cannot trace", |world| {
        let ran = world.dir().join("ran");
        let agent = agent_for_all_users(world)?;
        let exec = |options: &[&str]| {
            let mut exec = world.command(&agent);
            exec.arg("exec").args(options).args(["--", "touch"]).arg(&ran);
            exec
        };
        let finished = Finished::run(world, &mut exec(&["--endpoint", "nonsense"]))?;
        finished.expect_error(125, &["--endpoint", "is not a URL"])?;
        let finished = Finished::run(world, exec(&[]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "me:s3cret@collector:4318"))?;
        finished.expect_error(125, &["OTEL_EXPORTER_OTLP_ENDPOINT", "does not begin with http:// or https://"])?;
        ensure!(!finished.stderr.contains("s3cret"), "{}", finished.stderr);
        Finished::run(world, as_nobody(&mut exec(&[]))?)?.expect_error(125, &["not permitted", "run as root"])?;
        ensure!(!ran.exists(), "the command ran");
        Ok(())
    })
}

#[test]
fn an_invalid_variable_is_warned_about_once_and_the_command_runs() -> Result<()> {
    World::story("variable", |world| {
        let mut exec = onlooker(world, &["exec", "--", "sh", "-c", "exit 7"])?;
        exec.env("OTEL_TRACES_EXPORTER", "console,zipkin").env("OTEL_BSP_SCHEDULE_DELAY", "soon");
        let finished = Finished::run(world, &mut exec)?;
        ensure!(finished.code == Some(7), "the exit code is {:?}: {}", finished.code, finished.stderr);
        for (variable, value) in [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_BSP_SCHEDULE_DELAY", "soon")] {
            let warnings = finished.stderr.lines().filter(|line| line.contains("WARN") && line.contains(variable));
            let warnings: Vec<_> = warnings.collect();
            ensure!(warnings.len() == 1 && warnings[0].contains(value), "{variable}:\n{}", finished.stderr);
        }
        Ok(())
    })
}

#[test]
fn an_agent_that_is_stopped_prints_its_counters() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        World::story(&format!("stopped by signal {signal}"), |world| {
            let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
            let mut recording = Recording::start(world)?;
            RawClient::open(&nginx.address())?.get("/")?;
            recording.wait_for_spans(1)?;
            let agent = recording.agent().process();
            agent.signal(signal)?;
            ensure!(agent.wait_for_exit(within(PATIENCE))?.success());
            // The agent has printed its counters already.
            recording.stop(1)?;
            Ok(())
        })?;
    }
    Ok(())
}
