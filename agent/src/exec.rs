//! Runs a command to trace it from its first instruction: `onlooker exec -- CMD`.
//!
//! The child is started and stops before it executes the command, in a cgroup of its own. When whoever asked has told
//! the kernel to follow that, it is released. It has the terminal, the streams and the environment that it would have
//! had; signals sent to the agent are passed on to it, and its end is the agent's.

mod own_cgroup;
mod signals;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::own_cgroup::OwnCgroup;
use self::signals::Signals;
use crate::discover::process::{Process, Unreadable};
use crate::discover::select::Selectors;

/// What a shell answers for a command that is not there, and for one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// What `env`, `timeout` and the like answer when they fail themselves.
pub const FAILED_ITSELF: u8 = 125;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("no command to run: write it after `--`, e.g. `onlooker exec -- ./server --port 8080`")]
    NoCommand,
    #[error("cannot run `{command}`: there is no such command in PATH")]
    NotInPath { command: String },
    #[error("cannot run {path}: {why}", path = path.display())]
    NotExecutable { path: PathBuf, why: io::Error },
    #[error("cannot start {path}: {why}", path = path.display())]
    Start { path: PathBuf, why: io::Error },
    #[error("cannot follow the command that was started: {0}")]
    Follow(#[from] Unreadable),
    #[error("cannot wait for the command's end: {0}")]
    Wait(io::Error),
}

impl ExecError {
    /// The exit code that a shell or `env` would give in its place.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotInPath { .. } => NOT_FOUND,
            Self::NotExecutable { why, .. } if why.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::NotExecutable { .. } => NOT_EXECUTABLE,
            Self::NoCommand | Self::Start { .. } | Self::Follow(_) | Self::Wait(_) => FAILED_ITSELF,
        }
    }
}

/// How the command and all it starts are told from other processes.
#[derive(Debug)]
pub enum Followed {
    /// All are in this cgroup: its path in the hierarchy.
    Cgroup(PathBuf),
    /// By descent, as the kernel side passes it on to children, and why. What it leaves running is not told.
    Descent { why: String },
}

/// A child that waits to execute the command. Dropped, it never does.
#[derive(Debug)]
pub struct Stopped {
    process: Process,
    path: PathBuf,
    followed: Followed,
    signals: Signals,
    // Before the cgroup, which can be removed when the child is not in it any more.
    spawning: Spawning,
    cgroup: Option<OwnCgroup>,
}

/// The child at the gate, and the thread that is held up until it executes the command.
#[derive(Debug)]
struct Spawning {
    /// Closed, it tells the child to end.
    go: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<Child>>>,
}

/// The command, executing.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Readable when the child has ended; signals through it reach this child or nobody.
    pidfd: AsyncFd<OwnedFd>,
    signals: Signals,
    cgroup: Option<OwnCgroup>,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    /// Processes it left running, and the cgroup they are in, which is left to them.
    pub left: Option<(PathBuf, Vec<u32>)>,
}

impl Outcome {
    /// The exit code for the agent: the command's own, or 128 and the signal that ended it, as shells have it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let code = self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED_ITSELF)
    }
}

/// Starts `command` (a program and its arguments), stopped. To be called in a tokio runtime.
pub fn start(command: &[OsString]) -> Result<Stopped, ExecError> {
    let (program, arguments) = command.split_first().ok_or(ExecError::NoCommand)?;
    let path = find(program, env::var_os("PATH").as_deref())?;
    let failed = |why| ExecError::Start { path: path.clone(), why };

    let (mut cgroup, mut why) = match OwnCgroup::create() {
        Ok(cgroup) => (Some(cgroup), String::new()),
        Err(error) => (None, error.to_string()),
    };
    let signals = Signals::catch().map_err(failed)?;
    let (mut report_in, report_out) = io::pipe().map_err(failed)?;
    let (go_in, go) = io::pipe().map_err(failed)?;
    let gate = Gate {
        procs: cgroup.as_ref().map(OwnCgroup::open).transpose().map_err(failed)?,
        report: report_out,
        go: go_in,
        go_elsewhere: go.as_raw_fd(),
    };

    // The standard library gives it the default for SIGPIPE, as a shell does, and leaves all other signals as they are.
    let mut child = Command::new(&path);
    child.arg0(program).args(arguments);
    // SAFETY: `pass` makes system calls and nothing else between fork and exec: no allocation, no lock.
    unsafe { child.pre_exec(move || gate.pass()) };
    // `spawn` returns when the command executes, which is when this function's caller wants it to.
    let thread = thread::Builder::new()
        .name("exec".to_owned())
        .spawn(move || {
            let spawned = child.spawn();
            // The report's end here must not outlive the child's: reading it ends with both.
            drop(child);
            spawned
        })
        .map_err(failed)?;
    let mut spawning = Spawning { go: Some(go), thread: Some(thread) };

    let mut report = [0; Report::LENGTH];
    if report_in.read_exact(&mut report).is_err() {
        // There is no child: fork has failed.
        return Err(failed(spawning.end().err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())));
    }
    let report = Report::from_bytes(report);
    if report.error != 0 {
        why = format!("cannot enter its cgroup: {}", io::Error::from_raw_os_error(report.error));
        cgroup = None;
    }
    let followed = match &cgroup {
        Some(cgroup) => Followed::Cgroup(cgroup.path().to_owned()),
        None => Followed::Descent { why },
    };
    let process = Process::open(report.pid)?;
    Ok(Stopped { process, path, followed, signals, spawning, cgroup })
}

impl Stopped {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[must_use]
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// What selects the command and all that it starts.
    pub fn selectors(&self) -> Result<Selectors, ExecError> {
        Ok(match &self.followed {
            Followed::Cgroup(path) => Selectors::of_cgroup(path.clone())?,
            Followed::Descent { .. } => Selectors::of_tree(&self.process)?,
        })
    }

    /// Lets the child execute the command.
    pub fn release(mut self) -> Result<Running, ExecError> {
        let failed = |why| ExecError::Start { path: self.path.clone(), why };
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        // The child is unreaped until its handle is here: the pid is still its own.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let child = self.spawning.release().map_err(|why| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                ExecError::NotExecutable { path: self.path.clone(), why }
            }
            _ => ExecError::Start { path: self.path.clone(), why },
        })?;
        // SAFETY: the descriptor is open and owned, and neither closed nor replaced while it is in there.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        let pidfd = pidfd.map_err(|error| ExecError::Wait(error.into()))?;
        Ok(Running { child, pidfd, signals: self.signals, cgroup: self.cgroup })
    }
}

impl Spawning {
    fn release(&mut self) -> io::Result<Child> {
        let written = self.go.as_mut().map_or(Ok(()), |go| go.write_all(&[Gate::GO]));
        // Its own error tells more than that it could not be told.
        let child = self.end()?;
        written.map(|()| child)
    }

    /// Ends a child that was not released; else waits until it has executed the command or failed to.
    fn end(&mut self) -> io::Result<Child> {
        drop(self.go.take());
        let joined = self.thread.take().map(JoinHandle::join);
        joined.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("the thread that started it panicked")))
    }
}

impl Drop for Spawning {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Running {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the command's end and passes signals on to it until then. Its cgroup is removed, if nobody is in it.
    pub async fn wait(mut self) -> Result<Outcome, ExecError> {
        loop {
            tokio::select! {
                ended = self.pidfd.readable() => {
                    ended.map_err(ExecError::Wait)?.retain_ready();
                    break;
                }
                signal = self.signals.next() => {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        // It may have ended at this moment; then there is nobody to tell.
                        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal);
                    }
                }
            }
        }
        let status = self.child.wait().map_err(ExecError::Wait)?;
        let left = self.cgroup.take().and_then(OwnCgroup::remove);
        Ok(Outcome { status, left })
    }
}

/// What the child does between fork and exec, with what it needs for that.
struct Gate {
    /// cgroup.procs of the cgroup to enter.
    procs: Option<File>,
    report: PipeWriter,
    go: PipeReader,
    /// The child's copy of the agent's end of `go`: closed, so that the agent's end is the only one.
    go_elsewhere: RawFd,
}

impl Gate {
    const GO: u8 = 1;

    /// Async-signal-safe: the agent has other threads, whose locks stay as they were at the fork.
    fn pass(&self) -> io::Result<()> {
        // Whoever writes 0 there enters.
        let entered = self.procs.as_ref().map_or(Ok(1), |procs| rustix::io::write(procs, b"0"));
        let report = Report {
            pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
            error: entered.err().map_or(0, rustix::io::Errno::raw_os_error),
        };
        rustix::io::write(&self.report, &report.to_bytes())?;
        // SAFETY: nothing in the child uses this descriptor; the agent's own copy is another process's.
        unsafe { rustix::io::close(self.go_elsewhere) };
        let mut go = [0];
        loop {
            match rustix::io::read(&self.go, &mut go) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) if go == [Self::GO] => return Ok(()),
                // The agent has ended or thought better of it.
                _ => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            }
        }
    }
}

/// What the child says when it stands at the gate; short enough for a pipe to take it whole.
struct Report {
    pid: u32,
    /// errno of entering the cgroup, 0 if it did.
    error: i32,
}

impl Report {
    const LENGTH: usize = 8;

    fn to_bytes(&self) -> [u8; Self::LENGTH] {
        (u64::from(self.pid) << 32 | u64::from(self.error.unsigned_abs())).to_ne_bytes()
    }

    fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let both = u64::from_ne_bytes(bytes);
        // Both halves fit, as they were put there.
        Self { pid: (both >> 32) as u32, error: (both as u32).cast_signed() }
    }
}

/// The file that execvp(3) would execute, by its rules: a name without a slash is looked for in PATH.
fn find(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, ExecError> {
    if program.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(why) => Err(ExecError::NotExecutable { path, why }),
        };
    }
    let mut refused = None;
    for folder in env::split_paths(path.unwrap_or("/bin:/usr/bin".as_ref())) {
        // An empty part is the working directory; with the dot it stays a path.
        let file = if folder.as_os_str().is_empty() { Path::new(".").join(program) } else { folder.join(program) };
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => refused = refused.or(Some((file, why))),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some((path, why)) => ExecError::NotExecutable { path, why },
        None => ExecError::NotInPath { command: program.to_string_lossy().into_owned() },
    })
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "is a directory"));
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

#[cfg(test)]
mod tests;
