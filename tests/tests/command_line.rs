//! What the agent answers to those who start it: what works here, what it can't do and why, and how it ended.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::client::Connection;
use onlooker_tests::servers::Nginx;
use onlooker_tests::wait::within;
use onlooker_tests::{Recording, World, agent_beside, as_nobody};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// What a program said, and its exit code.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn by(world: &World, command: &mut Command) -> Result<Self> {
        let Output { status, stdout, stderr } = world.ask(command)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let said = Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        ensure!(!said.stderr.contains("panicked"), "{}", said.stderr);
        Ok(said)
    }

    /// Fails unless it ended with `code` and one error that says all of `words`.
    fn is_error(&self, code: i32, words: &[&str]) -> Result<()> {
        let errors: Vec<_> = self.stderr.lines().filter(|line| line.contains("error: ")).collect();
        let [error] = errors[..] else { anyhow::bail!("not one error:\n{}", self.stderr) };
        ensure!(self.code == Some(code), "it ended with {:?}, not {code}: {error}", self.code);
        ensure!(words.iter().all(|word| error.contains(word)), "not {words:?}: {error}");
        Ok(())
    }
}

fn onlooker(world: &World, arguments: &[&str]) -> Result<Command> {
    let mut command = world.command(agent_beside()?);
    command.args(arguments);
    Ok(command)
}

/// The agent where anybody may execute it.
fn agent_for_everybody(world: &World) -> Result<PathBuf> {
    let copy = world.dir().join("onlooker");
    fs::copy(agent_beside()?, &copy).context("cannot copy the agent")?;
    Ok(copy)
}

/// The verdict of a finding of `doctor --json`.
fn verdict<'a>(report: &'a Value, finding: &str) -> &'a str {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = findings.iter().find(|found| found["name"] == finding);
    found.and_then(|found| found["verdict"].as_str()).unwrap_or_default()
}

#[test]
fn doctor_says_that_tracing_works_here() -> Result<()> {
    World::story("doctor", |world| {
        let said = Said::by(world, &mut onlooker(world, &["doctor"])?)?;
        ensure!(said.code == Some(0) && said.stdout.ends_with("Tracing works here.\n"), "{}", said.stdout);
        ensure!(!said.stdout.contains("MISSING"), "{}", said.stdout);

        let said = Said::by(world, &mut onlooker(world, &["doctor", "--json"])?)?;
        let report: Value = serde_json::from_str(&said.stdout).with_context(|| said.stdout.clone())?;
        ensure!(said.code == Some(0) && report["can_trace"] == true, "{report:#}");
        ensure!(report["kernel"] == fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(), "{report:#}");
        for finding in ["privileges", "btf", "lockdown", "load", "recorder"] {
            ensure!(verdict(&report, finding) == "works", "{finding} in {report:#}");
        }
        Ok(())
    })
}

#[test]
fn doctor_says_what_is_missing_and_why() -> Result<()> {
    World::story("doctor", |world| {
        let agent = agent_for_everybody(world)?;
        let said = Said::by(world, as_nobody(world.command(&agent).arg("doctor"))?)?;
        ensure!(said.code == Some(1) && said.stdout.ends_with("Tracing cannot work here.\n"), "{}", said.stdout);
        ensure!(said.stdout.contains("CAP_BPF and CAP_PERFMON missing: run as root"), "{}", said.stdout);
        let said = Said::by(world, as_nobody(world.command(&agent).args(["doctor", "--json"]))?)?;
        let report: Value = serde_json::from_str(&said.stdout).with_context(|| said.stdout.clone())?;
        ensure!(said.code == Some(1) && report["can_trace"] == false, "{report:#}");
        ensure!(verdict(&report, "privileges") == "missing" && verdict(&report, "btf") == "works", "{report:#}");

        let said = Said::by(world, &mut without_btf(world, "doctor")?)?;
        let btf = said.stdout.lines().find(|line| line.trim_start().starts_with("MISSING  btf"));
        ensure!(
            said.code == Some(1) && btf.is_some_and(|btf| btf.contains("CONFIG_DEBUG_INFO_BTF=y")),
            "{}",
            said.stdout
        );
        Ok(())
    })
}

/// The agent where the kernel's BTF is hidden, in a mount namespace of its own.
fn without_btf(world: &World, arguments: &str) -> Result<Command> {
    let script = format!("mount -t tmpfs none /sys/kernel/btf && exec \"$0\" {arguments}");
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(agent_beside()?);
    Ok(command)
}

#[test]
fn without_privileges_or_btf_there_is_one_clear_error() -> Result<()> {
    World::story("not allowed", |world| {
        let agent = agent_for_everybody(world)?;
        let said = Said::by(world, as_nobody(world.command(&agent).args(["run", "--port", "8080"]))?)?;
        said.is_error(1, &["not permitted", "run as root", "CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE"])?;
        let said = Said::by(world, &mut without_btf(world, "run --port 8080")?)?;
        said.is_error(1, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"])?;
        Ok(())
    })
}

#[test]
fn what_cannot_be_meant_is_one_clear_error() -> Result<()> {
    // Not the agent's own: clap's, which ends with 2 and says how it is used.
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
    World::story("not meant", |world| {
        for (arguments, code, words) in table {
            let said = Said::by(world, &mut onlooker(world, arguments)?)?;
            said.is_error(*code, words).with_context(|| arguments.join(" "))?;
        }
        Ok(())
    })
}

#[test]
fn exec_ends_as_its_command_does() -> Result<()> {
    let ends: &[(&[&str], i32)] = &[
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
    World::story("ends", |world| {
        for (command, code) in ends {
            let said = Said::by(world, onlooker(world, &["exec", "--"])?.args(*command))?;
            ensure!(said.code == Some(*code), "{command:?} ended with {:?}: {}", said.code, said.stderr);
        }
        for (command, code, words) in errors {
            Said::by(world, onlooker(world, &["exec", "--"])?.args(*command))?.is_error(*code, words)?;
        }
        Ok(())
    })
}

#[test]
fn exec_that_cannot_trace_answers_125_and_does_not_run_the_command() -> Result<()> {
    World::story("cannot trace", |world| {
        let ran = world.dir().join("ran");
        let agent = agent_for_everybody(world)?;
        let exec = |options: &[&str]| {
            let mut exec = world.command(&agent);
            exec.arg("exec").args(options).args(["--", "touch"]).arg(&ran);
            exec
        };
        let said = Said::by(world, &mut exec(&["--endpoint", "nonsense"]))?;
        said.is_error(125, &["--endpoint", "is not a URL"])?;
        let said = Said::by(world, exec(&[]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "me:s3cret@collector:4318"))?;
        said.is_error(125, &["OTEL_EXPORTER_OTLP_ENDPOINT", "does not begin with http:// or https://"])?;
        ensure!(!said.stderr.contains("s3cret"), "{}", said.stderr);
        Said::by(world, as_nobody(&mut exec(&[]))?)?.is_error(125, &["not permitted", "run as root"])?;
        ensure!(!ran.exists(), "the command ran");
        Ok(())
    })
}

#[test]
fn a_variable_that_cannot_be_right_is_warned_of_once_and_the_command_runs() -> Result<()> {
    World::story("variable", |world| {
        let mut exec = onlooker(world, &["exec", "--", "sh", "-c", "exit 7"])?;
        exec.env("OTEL_TRACES_EXPORTER", "console,zipkin").env("OTEL_BSP_SCHEDULE_DELAY", "soon");
        let said = Said::by(world, &mut exec)?;
        ensure!(said.code == Some(7), "it ended with {:?}: {}", said.code, said.stderr);
        for (variable, value) in [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_BSP_SCHEDULE_DELAY", "soon")] {
            let warnings = said.stderr.lines().filter(|line| line.contains("WARN") && line.contains(variable));
            let warnings: Vec<_> = warnings.collect();
            ensure!(warnings.len() == 1 && warnings[0].contains(value), "{variable}:\n{}", said.stderr);
        }
        Ok(())
    })
}

#[test]
fn an_agent_that_is_ended_tells_what_it_counted() -> Result<()> {
    // The last by a terminal that is closed.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        World::story(&format!("ended by {signal}"), |world| {
            let nginx = Nginx::site("location / { return 200 hello; }").start(world)?;
            let mut recording = Recording::start(world)?;
            Connection::open(&nginx.address())?.get("/")?;
            recording.wait_for(1)?;
            let agent = recording.agent().process();
            agent.signal(signal)?;
            ensure!(agent.wait(within(PATIENCE))?.success());
            // It has said what it counted already.
            recording.stop(1)?;
            Ok(())
        })?;
    }
    Ok(())
}
