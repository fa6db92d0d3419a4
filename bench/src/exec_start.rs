//! How long `onlooker exec` takes until its command runs, compared with starting the command directly.
//!
//! The command is this program, which prints the time of its first instructions. Both kinds of starts alternate.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use onlooker_tests::agent_binary;

use crate::not_interrupted;
use crate::report::{Aim, Row};
use crate::statistics::median;

const ROUNDS: usize = 20;
const NANOS_PER_MILLI: f64 = 1e6;

pub(crate) fn measure(agent: Option<&Path>) -> Result<Vec<Row>> {
    let agent = agent.map_or_else(agent_binary, |path| Ok(path.to_owned()))?;
    let own = std::env::current_exe().context("cannot find this program")?;
    let (mut direct, mut traced) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        direct.push(start(Command::new(&own).arg("--now"))?);
        traced.push(start(Command::new(&agent).args(["exec", "--export", "none", "--"]).arg(&own).arg("--now"))?);
        not_interrupted()?;
    }
    let (direct, traced) = (median(direct), median(traced));
    Ok(vec![
        Row::new("a command by itself", direct, "ms"),
        Row::new("a command of `onlooker exec`", traced, "ms").aim(Aim::AtMost(100.0)),
        Row::new("a command of `onlooker exec`, relative", traced, "ms").beside(direct, "times"),
    ])
}

/// Prints the time: what the started program does.
pub(crate) fn print_now() -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{}", now()?).context("cannot print the time")
}

/// Milliseconds from before the start of `command` until the program that it ends up executing runs.
fn start(command: &mut Command) -> Result<f64> {
    let began = now()?;
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let ran: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("the program prints a time")?;
    Ok(ran.saturating_sub(began) as f64 / NANOS_PER_MILLI)
}

/// `CLOCK_MONOTONIC`, nanoseconds: the same in all processes.
fn now() -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for one timespec.
    ensure!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } == 0, "cannot read the clock");
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}
