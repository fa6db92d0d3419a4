//! What the child does between fork and exec: it enters its cgroup, reports, and waits.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::user::User;

/// What the child needs between fork and exec.
pub(super) struct Gate {
    /// `cgroup.procs` of the cgroup to enter.
    pub(super) procs: Option<File>,
    pub(super) report: PipeWriter,
    pub(super) go: PipeReader,
    /// The child's copy of the agent's end of `go`. The child closes it, so that the agent's end is the only one.
    pub(super) go_elsewhere: RawFd,
    /// The limit of file descriptors that the agent had when it started.
    pub(super) descriptors: Rlimit,
    /// Whom the command runs as, if not as the agent.
    pub(super) user: Option<User>,
}

impl Gate {
    pub(super) const GO: u8 = 1;

    /// Runs in the child. It must be async-signal-safe: locks of the agent's other threads stay as they were at the fork.
    pub(super) fn pass(&self) -> io::Result<()> {
        // 0 stands for the process that writes it.
        let entered = self.procs.as_ref().map_or(Ok(1), |procs| rustix::io::write(procs, b"0"));
        let report = Report {
            pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(),
            error: entered.err().map_or(0, rustix::io::Errno::raw_os_error),
        };
        rustix::io::write(&self.report, &report.to_bytes())?;
        // SAFETY: nothing in the child uses this descriptor. The agent has its own copy.
        unsafe { rustix::io::close(self.go_elsewhere) };
        let mut go = [0];
        loop {
            match rustix::io::read(&self.go, &mut go) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) if go == [Self::GO] => break,
                // The agent has ended or given up.
                _ => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            }
        }
        // The agent has raised its own before or after the fork.
        setrlimit(Resource::Nofile, self.descriptors)?;
        // Only now, because the agent's user may enter the cgroup and another may not.
        self.user.as_ref().map_or(Ok(()), User::become_it)
    }
}

/// What the child reports before it waits. It is short enough to be written to a pipe at once.
pub(super) struct Report {
    pub(super) pid: u32,
    /// The errno of entering the cgroup, 0 for success.
    pub(super) error: i32,
}

impl Report {
    pub(super) const LENGTH: usize = 8;

    fn to_bytes(&self) -> [u8; Self::LENGTH] {
        (u64::from(self.pid) << 32 | u64::from(self.error.unsigned_abs())).to_ne_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let both = u64::from_ne_bytes(bytes);
        // Each half was written from a value of its size.
        Self { pid: (both >> 32) as u32, error: (both as u32).cast_signed() }
    }
}
