//! The agent under test: the `onlooker` binary, outside of the cgroup that it watches.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{Launch, Process, Stdout};
use crate::wait::{Deadline, within};
use crate::world::World;

/// Loading and verifying the programs takes a second or two, more on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// From the signal to the end: flushing, and printing the summary.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A running agent. Its stdout (the traces, with no exporter configured) and its stderr are kept apart.
#[derive(Debug)]
pub struct Agent(Process);

impl Agent {
    /// Starts `onlooker` on everything in `world`, with more options after the selector and these environment variables,
    /// and waits until it says that it is ready.
    pub fn watch(world: &World, binary: &Path, more: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::select(world, binary, &[&["--cgroup", world.cgroup().name()?], more].concat(), environment)
    }

    /// The same on what these options select.
    pub fn select(world: &World, binary: &Path, options: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = world.command(binary);
        command.arg("run").args(only_ours(options)?).envs(environment.iter().copied());
        Self::start_by(world, &mut command)
    }

    /// The same by a command that becomes it.
    pub fn start_by(world: &World, command: &mut Command) -> Result<Self> {
        Self::ready(world, command, Stdout::File)
    }

    /// As [`Agent::select`], for a person who looks on: its stdout is ours, and so is what it knows of the terminal.
    pub fn select_aloud(world: &World, binary: &Path, options: &[&str]) -> Result<Self> {
        let mut command = world.command(binary);
        let of_the_terminal = ["TERM", "NO_COLOR"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
        command.arg("run").args(only_ours(options)?).envs(of_the_terminal);
        Self::ready(world, &mut command, Stdout::Ours)
    }

    fn ready(world: &World, command: &mut Command, stdout: Stdout) -> Result<Self> {
        let launch = Launch { name: "onlooker", watched: false, stdout, stop_signal: libc::SIGTERM };
        let mut process = Process::start(world, &launch, command)?;
        process.logged(within(STARTS_WITHIN), "ready", 1)?;
        Ok(Self(process))
    }

    /// What it has printed on stdout so far.
    pub fn stdout(&self) -> Result<String> {
        self.0.stdout()
    }

    /// What it has printed on stderr so far.
    pub fn stderr(&self) -> Result<String> {
        self.0.log()
    }

    /// Waits until a line on stderr contains `text`.
    pub fn says(&mut self, deadline: Deadline, text: &str) -> Result<()> {
        self.0.logged(deadline, text, 1)
    }

    /// Lets it flush, waits for its end, and returns all of its stderr: the summary is last. Fails unless it exits with 0.
    pub fn finish(&mut self) -> Result<String> {
        let status = self.0.stop_within(STOPS_WITHIN)?;
        if !status.success() {
            bail!("the agent did not end well ({status})");
        }
        self.0.log()
    }

    /// Its process, to be measured, signalled or killed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

/// The same options, unless they would have the agent watch what else this machine does: its programs are not ours.
fn only_ours<'a>(options: &'a [&'a str]) -> Result<&'a [&'a str]> {
    ensure!(!options.contains(&"--all"), "a test watches what it has started, and no more");
    Ok(options)
}

/// The agent that was built beside the running program: `$ONLOOKER`, or `onlooker` in the folder of this build's binaries.
pub fn agent_beside() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ONLOOKER") {
        return Ok(path.into());
    }
    let here = env::current_exe().context("cannot find this program")?;
    // target/debug/deps/cases-0123 and target/debug/xtask.
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join("onlooker")).find(|path| path.is_file());
    found.context("the agent is not built: run `cargo build -p onlooker`, or let `cargo xtask test` do it")
}
