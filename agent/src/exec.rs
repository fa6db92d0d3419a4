//! Runs a command and traces it from its first instruction: `onlooker exec -- CMD`.
//!
//! The child process is started in a cgroup of its own, and waits before it executes the command. The caller selects it
//! in the kernel, and then releases it. It has the terminal, the streams and the environment that it would have without
//! the agent. Signals sent to the agent are forwarded to it, and the agent ends when it ends.

mod error;
mod gate;
mod own_cgroup;
mod path;
mod signals;
mod user;

use std::env;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, PidfdFlags, Resource, Signal, getrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use self::error::{ExecError, FAILED_ITSELF};
use self::gate::{Gate, Report};
pub(crate) use self::own_cgroup::OwnCgroup;
use self::signals::ForwardedSignals;
pub use self::user::User;
use crate::discover::process::Process;
use crate::discover::select::Selectors;
use crate::discover::sockets::ListeningSockets;

/// How the command and everything it starts are recognised.
#[derive(Debug)]
pub enum FollowedBy {
    /// All are in this cgroup, a path in the hierarchy.
    Cgroup(PathBuf),
    /// By descent: the kernel side selects children with their parents. `why` says why there is no cgroup. What the
    /// command leaves running is not reported.
    Descent { why: String },
}

/// A child that is being started. It enters its cgroup, which may take 10 ms, and then waits. If this is dropped, it ends.
#[derive(Debug)]
pub struct Starting {
    report: PipeReader,
    path: PathBuf,
    /// Why there is no cgroup.
    why: String,
    signals: ForwardedSignals,
    listeners: Listeners,
    // Dropped before the cgroup, which can be removed only when the child has left it.
    spawning: Spawning,
    cgroup: Option<OwnCgroup>,
}

/// A child that waits to execute the command. If this is dropped, it never does.
#[derive(Debug)]
pub struct Stopped {
    process: Process,
    path: PathBuf,
    followed: FollowedBy,
    signals: ForwardedSignals,
    listeners: Listeners,
    // Dropped before the cgroup, which can be removed only when the child has left it.
    spawning: Spawning,
    cgroup: Option<OwnCgroup>,
}

/// The waiting child, and the thread that is blocked until it executes the command.
#[derive(Debug)]
struct Spawning {
    /// Closing it makes the child end.
    go: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<Child>>>,
}

/// The sockets that listen around the child. The kernel walks all connections of the host for them, which may take
/// milliseconds, so a thread reads them while the programs are loaded.
#[derive(Debug)]
struct Listeners(Option<JoinHandle<ListeningSockets>>);

impl Listeners {
    fn read() -> Self {
        let read = || {
            let mut listeners = ListeningSockets::default();
            if let Ok(myself) = Process::myself() {
                // The child is in the same network namespace. What cannot be read here is read again when it is selected.
                let _ = listeners.around(&myself);
            }
            listeners
        };
        Self(thread::Builder::new().name("listeners".to_owned()).spawn(read).ok())
    }

    fn join(&mut self) -> ListeningSockets {
        self.0.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// The command, executing.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Readable when the child has ended. Signals sent through it cannot reach another process.
    pidfd: AsyncFd<OwnedFd>,
    signals: ForwardedSignals,
    cgroup: Option<OwnCgroup>,
}

/// How the command ended.
#[derive(Debug)]
pub struct CommandEnd {
    pub status: ExitStatus,
    /// Processes that it left running, and their cgroup, which is kept.
    pub left: Option<(PathBuf, Vec<u32>)>,
}

impl CommandEnd {
    /// The exit code of the agent: the command's own, or 128 plus the signal that ended it, as shells return it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let code = self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED_ITSELF)
    }
}

/// Starts a child that is going to wait before it executes `command`, a program and its arguments. To be called in a tokio
/// runtime, before the agent raises its own limits. The command runs as `user`, or else as the agent's own.
pub fn start(command: &[OsString], user: Option<User>) -> Result<Starting, ExecError> {
    let (program, arguments) = command.split_first().ok_or(ExecError::NoCommand)?;
    let path = path::find(program, env::var_os("PATH").as_deref())?;
    let failed = |why| ExecError::Start { path: path.clone(), why };

    let (cgroup, why) = match OwnCgroup::create() {
        Ok(cgroup) => (Some(cgroup), String::new()),
        Err(error) => (None, error.to_string()),
    };
    let signals = ForwardedSignals::catch().map_err(failed)?;
    let (report, report_out) = io::pipe().map_err(failed)?;
    let (go_in, go) = io::pipe().map_err(failed)?;
    // The standard library resets SIGPIPE to its default, as a shell does. It leaves all other signals as they are.
    let mut child = Command::new(&path);
    child.arg0(program).args(arguments);
    if let Some(user) = &user {
        child.envs(user.environment());
    }
    let gate = Gate {
        procs: cgroup.as_ref().map(OwnCgroup::open).transpose().map_err(failed)?,
        report: report_out,
        go: go_in,
        go_elsewhere: go.as_raw_fd(),
        descriptors: getrlimit(Resource::Nofile),
        user,
    };
    // SAFETY: between fork and exec, `pass` only makes system calls. It neither allocates nor locks.
    unsafe { child.pre_exec(move || gate.pass()) };
    // `spawn` returns when the command executes, so it gets a thread of its own.
    let thread = thread::Builder::new()
        .name("exec".to_owned())
        .spawn(move || {
            let spawned = child.spawn();
            // Reading the report ends when all copies of the other end are closed, including this one.
            drop(child);
            spawned
        })
        .map_err(failed)?;
    let spawning = Spawning { go: Some(go), thread: Some(thread) };
    Ok(Starting { report, path, why, signals, listeners: Listeners::read(), spawning, cgroup })
}

impl Starting {
    /// Waits until the child waits.
    pub fn stopped(self) -> Result<Stopped, ExecError> {
        let Self { report: mut report_in, path, mut why, signals, listeners, mut spawning, mut cgroup } = self;
        let mut report = [0; Report::LENGTH];
        if report_in.read_exact(&mut report).is_err() {
            // There is no child, because fork failed.
            let why = spawning.end().err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            return Err(ExecError::Start { path, why });
        }
        let report = Report::from_bytes(report);
        if report.error != 0 {
            why = format!("cannot enter its cgroup: {}", io::Error::from_raw_os_error(report.error));
            cgroup = None;
        }
        let followed = match &cgroup {
            Some(cgroup) => FollowedBy::Cgroup(cgroup.path().to_owned()),
            None => FollowedBy::Descent { why },
        };
        let process = Process::open(report.pid)?;
        Ok(Stopped { process, path, followed, signals, listeners, spawning, cgroup })
    }
}

impl Stopped {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The program that it is going to execute.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn followed(&self) -> &FollowedBy {
        &self.followed
    }

    /// The sockets that listen in its network namespace, which it may inherit.
    pub fn listeners(&mut self) -> ListeningSockets {
        self.listeners.join()
    }

    /// Selectors of the command and everything it starts.
    pub fn selectors(&self) -> Result<Selectors, ExecError> {
        Ok(match &self.followed {
            FollowedBy::Cgroup(path) => Selectors::of_cgroup(path.clone())?,
            FollowedBy::Descent { .. } => Selectors::of_tree(&self.process)?,
        })
    }

    /// Lets the child execute the command.
    pub fn release(mut self) -> Result<Running, ExecError> {
        let failed = |why| ExecError::Start { path: self.path.clone(), why };
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        // The child has not been waited for, so its pid cannot be reused yet.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let child = self.spawning.release().map_err(|why| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                ExecError::NotExecutable { path: self.path.clone(), why }
            }
            _ => ExecError::Start { path: self.path.clone(), why },
        })?;
        // SAFETY: the descriptor is open and owned. It is neither closed nor replaced while it is registered.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        let pidfd = pidfd.map_err(|error| ExecError::Wait(error.into()))?;
        Ok(Running { child, pidfd, signals: self.signals, cgroup: self.cgroup })
    }
}

impl Spawning {
    fn release(&mut self) -> io::Result<Child> {
        let written = self.go.as_mut().map_or(Ok(()), |go| go.write_all(&[Gate::GO]));
        // The error of the child says more than a failed write to it.
        let child = self.end()?;
        written.map(|()| child)
    }

    /// Ends a child that was not released. Otherwise waits until it has executed the command, or failed to.
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

    /// Waits for the end of the command, and forwards signals to it until then. Removes its cgroup, if that is empty.
    pub async fn wait(mut self) -> Result<CommandEnd, ExecError> {
        loop {
            tokio::select! {
                ended = self.pidfd.readable() => {
                    ended.map_err(ExecError::Wait)?.retain_ready();
                    break;
                }
                signal = self.signals.next() => {
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        // This fails only if the command has just ended.
                        let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal);
                    }
                }
            }
        }
        let status = self.child.wait().map_err(ExecError::Wait)?;
        let left = self.cgroup.take().and_then(OwnCgroup::remove);
        Ok(CommandEnd { status, left })
    }
}

#[cfg(test)]
mod tests;
