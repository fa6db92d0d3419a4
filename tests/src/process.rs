//! One program that runs in a world: its log, its end, and why it came.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait::{self, Deadline, within};
use crate::world::World;

/// What a server gets to stop in good order before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How much is shown of the log of a program that does not start: enough for a Python traceback.
const LOG_LINES_SHOWN: usize = 40;

/// A running program. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where its own part of the log begins: one of the same name may have run before it.
    log_begins: u64,
    ended: Option<ExitStatus>,
    stop_signal: libc::c_int,
    /// Keeps the cgroup and the folder as long as something runs in them.
    world: World,
}

/// How a program is started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Names the log, `NAME.log`, and the process in error messages.
    pub(crate) name: &'a str,
    /// In the cgroup that is watched, or beside it, as the agent must be.
    pub(crate) watched: bool,
    /// Where its stdout goes.
    pub(crate) stdout: Stdout,
    /// The signal that asks this program to stop.
    pub(crate) stop_signal: libc::c_int,
}

/// Where a program's stdout goes; its stderr goes to the log, `NAME.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// To the log.
    Log,
    /// To a file of its own beside the log, `NAME.out`.
    File,
    /// To our own stdout.
    Ours,
}

impl Process {
    pub(crate) fn start(world: &World, launch: &Launch<'_>, command: &mut Command) -> Result<Self> {
        let log = world.dir().join(format!("{}.log", launch.name));
        let stderr = append_to(&log)?;
        let log_begins = stderr.metadata().with_context(|| format!("cannot look at {}", log.display()))?.len();
        let stdout = match launch.stdout {
            Stdout::Log => append_to(&log)?.into(),
            Stdout::File => append_to(&log.with_extension("out"))?.into(),
            Stdout::Ours => Stdio::inherit(),
        };
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // Ctrl-C at the terminal is for us, who then stop the program in order.
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

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Result<String> {
        let mut file = File::open(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.log_begins))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What it has written to stdout so far, where that has a file of its own.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.log.with_extension("out"))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits until its log has `count` lines that contain `text`. Fails, with the log, when it ends before.
    pub fn logged(&mut self, deadline: Deadline, text: &str, count: usize) -> Result<()> {
        let what = format!("`{text}` in the log of {}", self.name);
        wait::until(deadline, &what, || {
            // Looked at first: what a program logs before it ends must not be missed.
            let ended = self.ended()?;
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
            error.context(format!("{} does not start; its log ends with\n{log}", self.name))
        })
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: libc::c_int) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = libc::pid_t::try_from(self.pid()).context("a process id fits in pid_t")?;
        // SAFETY: kill takes any two integers. The pid is our child's, which is not yet reaped, so it is no other's.
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot signal {}", self.name));
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, deadline: Deadline) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(deadline, &what, || self.ended())
    }

    /// Asks it to stop and waits; kills it when it takes longer than `grace`.
    pub fn stop_within(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(self.stop_signal)?;
        if let Ok(status) = self.wait(within(grace).despite_signals()) {
            return Ok(status);
        }
        self.signal(libc::SIGKILL)?;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The world it runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What does not even die of SIGKILL is the cgroup's to remove.
        let _ = self.stop_within(GRACE);
    }
}

/// The last lines of a log, for a person who must find out what went wrong.
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

pub(crate) fn join_before_exec(command: &mut Command, world: &World, watched: bool) -> Result<()> {
    let mut procs = world.cgroup().procs(watched)?;
    // SAFETY: between fork and exec only async-signal-safe functions may be called: this is one write(2) to a file that is open.
    unsafe { command.pre_exec(move || procs.write_all(b"0")) };
    Ok(())
}
