//! A program that runs in a world, with its log and its exit status.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait::{self, Deadline, within};
use crate::world::World;

/// A server gets this long to stop before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Log lines shown of a program that fails to start: enough for a Python traceback.
const LOG_LINES_SHOWN: usize = 40;

/// A running program. It is stopped when this is dropped.
#[derive(Debug)]
pub struct ChildProcess {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where this program's part of the log begins. An earlier program of the same name may have written to the file.
    log_begins: u64,
    ended: Option<ExitStatus>,
    stop_signal: libc::c_int,
    /// Keeps the cgroup and the folder alive while the program runs.
    world: World,
}

/// How a program is started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Names the log file, `NAME.log`, and the program in error messages.
    pub(crate) name: &'a str,
    /// Whether it runs in the watched cgroup. The agent and its collector don't.
    pub(crate) watched: bool,
    /// Where stdout goes.
    pub(crate) stdout: Stdout,
    /// The signal that asks the program to stop.
    pub(crate) stop_signal: libc::c_int,
}

/// Where a program's stdout goes. Its stderr always goes to `NAME.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// To the log.
    Log,
    /// To a separate file, `NAME.out`.
    File,
    /// To the stdout of this process.
    Inherited,
}

impl ChildProcess {
    pub(crate) fn start(world: &World, launch: &Launch<'_>, command: &mut Command) -> Result<Self> {
        let log = world.dir().join(format!("{}.log", launch.name));
        let stderr = append_to(&log)?;
        let log_begins = stderr.metadata().with_context(|| format!("cannot stat {}", log.display()))?.len();
        let stdout = match launch.stdout {
            Stdout::Log => append_to(&log)?.into(),
            Stdout::File => append_to(&log.with_extension("out"))?.into(),
            Stdout::Inherited => Stdio::inherit(),
        };
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // Ctrl-C on the terminal must reach only this process, which then stops the program.
            .process_group(0);
        join_before_exec(command, world, launch.watched)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {} ({program})", launch.name))?;
        Ok(Self {
            name: launch.name.to_owned(),
            child,
            log,
            log_begins,
            ended: None,
            stop_signal: launch.stop_signal,
            world: world.clone(),
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that it logs to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Returns what the program has logged so far.
    pub fn log(&self) -> Result<String> {
        let mut file = File::open(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.log_begins))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns what the program has written to stdout so far, if that has a file of its own.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.log.with_extension("out"))
    }

    /// Returns the exit status if the program has ended.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits until the log contains `count` lines with `text`. Fails, showing the log, if the program ends first.
    pub fn wait_for_log(&mut self, deadline: Deadline, text: &str, count: usize) -> Result<()> {
        let what = format!("`{text}` in the log of {}", self.name);
        wait::until(deadline, &what, || {
            // Read the status before the log, so that the last lines before the end are seen.
            let ended = self.exit_status()?;
            if self.log()?.lines().filter(|line| line.contains(text)).count() >= count {
                return Ok(Some(()));
            }
            match ended {
                Some(status) => bail!("{} ended ({status})", self.name),
                None => Ok(None),
            }
        })
        .map_err(|error| {
            if wait::interrupted() {
                return error;
            }
            let log = tail(&self.log, LOG_LINES_SHOWN);
            error.context(format!("{} did not log `{text}`; its log ends with\n{log}", self.name))
        })
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&mut self, signal: libc::c_int) -> Result<()> {
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let pid = libc::pid_t::try_from(self.pid()).context("a process id fits in pid_t")?;
        // SAFETY: kill accepts any two integers. The pid belongs to our child, which is not reaped yet.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot signal {}", self.name));
        }
        Ok(())
    }

    /// Waits until the program ends by itself.
    pub fn wait_for_exit(&mut self, deadline: Deadline) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(deadline, &what, || self.exit_status())
    }

    /// Asks the program to stop and waits. Kills it if that takes longer than `grace`.
    pub fn stop_within(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(self.stop_signal)?;
        if let Ok(status) = self.wait_for_exit(within(grace).ignoring_signals()) {
            return Ok(status);
        }
        self.signal(libc::SIGKILL)?;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The world that the program runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // If even SIGKILL fails, removing the cgroup kills the program.
        let _ = self.stop_within(GRACE);
    }
}

/// Returns the last lines of a log, for an error message.
pub(crate) fn tail(log: &Path, lines_shown: usize) -> String {
    let text = read_lossy(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_shown)..].join("\n")
}

fn append_to(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes the command join the world's watched or unwatched cgroup before it executes its program.
pub(crate) fn join_before_exec(command: &mut Command, world: &World, watched: bool) -> Result<()> {
    let mut procs = world.cgroup().procs(watched)?;
    // SAFETY: between fork and exec only async-signal-safe functions may run. This is one write(2) to an open file.
    unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    if let Some(network) = world.network() {
        network.enter_before_exec(command);
    }
    Ok(())
}
