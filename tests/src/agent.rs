//! The agent under test: the `onlooker` binary. It runs outside of the cgroup that it watches.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::child_process::{ChildProcess, Launch, Stdout};
use crate::wait::{Deadline, within};
use crate::world::World;

/// Loading and verifying the kernel programs takes one or two seconds, and longer on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Between SIGTERM and the exit the agent exports what is left and prints its counters.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A running agent. Stdout (the traces, if no exporter is configured) and stderr go to separate files.
#[derive(Debug)]
pub struct Agent(ChildProcess);

impl Agent {
    /// Starts `onlooker run` on everything in `world` and waits until it is ready.
    ///
    /// `options` follow the selector. `environment` is added to the world's environment.
    pub fn watch(world: &World, binary: &Path, options: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::select(world, binary, &[&["--cgroup", world.cgroup().name()?], options].concat(), environment)
    }

    /// Starts `onlooker run` with these options, selectors included, and waits until it is ready.
    pub fn select(world: &World, binary: &Path, options: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = world.command(binary);
        command.arg("run").args(without_all_selector(options)?).envs(environment.iter().copied());
        Self::start_command(world, &mut command)
    }

    /// Starts the agent with `command`, which must end up executing `onlooker`, and waits until it is ready.
    pub fn start_command(world: &World, command: &mut Command) -> Result<Self> {
        Self::start_and_wait(world, command, Stdout::File)
    }

    /// Like [`Agent::select`], for a demonstration: the agent writes to our stdout and sees our terminal settings.
    pub fn select_on_terminal(world: &World, binary: &Path, options: &[&str]) -> Result<Self> {
        let mut command = world.command(binary);
        let terminal_settings = ["TERM", "NO_COLOR"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
        command.arg("run").args(without_all_selector(options)?).envs(terminal_settings);
        Self::start_and_wait(world, &mut command, Stdout::Inherited)
    }

    fn start_and_wait(world: &World, command: &mut Command, stdout: Stdout) -> Result<Self> {
        let launch = Launch { name: "onlooker", watched: false, stdout, stop_signal: libc::SIGTERM };
        let mut process = ChildProcess::start(world, &launch, command)?;
        process.wait_for_log(within(STARTS_WITHIN), "ready", 1)?;
        Ok(Self(process))
    }

    /// Returns what it has printed on stdout so far.
    pub fn stdout(&self) -> Result<String> {
        self.0.stdout()
    }

    /// Returns what it has printed on stderr so far.
    pub fn stderr(&self) -> Result<String> {
        self.0.log()
    }

    /// Waits until a line on stderr contains `text`.
    pub fn wait_for_log(&mut self, deadline: Deadline, text: &str) -> Result<()> {
        self.0.wait_for_log(deadline, text, 1)
    }

    /// Stops the agent and returns all of its stderr, which ends with the counters. Fails unless it exits with 0.
    pub fn finish(&mut self) -> Result<String> {
        let status = self.0.stop_within(STOPS_WITHIN)?;
        if !status.success() {
            bail!("the agent failed ({status})");
        }
        self.0.log()
    }

    /// Its process, to be measured, signalled or killed.
    pub fn process(&mut self) -> &mut ChildProcess {
        &mut self.0
    }
}

/// Returns `options`, or fails if they select all processes of the machine: tests trace only what they started.
fn without_all_selector<'a>(options: &'a [&'a str]) -> Result<&'a [&'a str]> {
    ensure!(!options.contains(&"--all"), "tests trace only processes that they started; `--all` is not allowed");
    Ok(options)
}

/// Finds the agent's binary: `$ONLOOKER`, or the `onlooker` that was built into the same folder as this program.
pub fn agent_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ONLOOKER") {
        return Ok(path.into());
    }
    let here = env::current_exe().context("cannot find this program")?;
    // This program is target/debug/deps/NAME-HASH or target/debug/xtask.
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join("onlooker")).find(|path| path.is_file());
    found.context("the agent is not built: run `cargo build -p onlooker`, or let `cargo xtask test` do it")
}
