//! How long threads waited for a processor though they could have run: what times may be off by that nobody has told
//! wrongly.
//!
//! The kernel counts it for each thread: the second number of `/proc/PID/schedstat`. What the hypervisor took from the whole
//! machine it tells in `/proc/stat`, in ticks. Where a kernel does not tell, nothing is allowed for.

use std::fs;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::join_before_exec;
use crate::times::Measured;
use crate::wait::{self, within};
use crate::world::World;

/// `USER_HZ`, which /proc/stat counts in on every architecture that Rust has.
const TICK: Duration = Duration::from_millis(10);

/// What servers still have to do when their answer is there takes this long at most.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

/// Until now, by the calling thread and by the whole machine.
#[must_use]
pub fn waited_here() -> Duration {
    waited_by("thread-self") + stolen()
}

impl World {
    /// Does an exchange, and adds to what it measured how long the watched threads waited for a processor, from its
    /// beginning until all of them sleep again.
    pub fn timed<T>(&self, exchange: impl FnOnce() -> Result<(T, Measured)>) -> Result<(T, Measured)> {
        let before = self.waited()?;
        let (told, measured) = exchange()?;
        // A thread that can run is charged when it does.
        wait::until(within(QUIET_WITHIN), "rest of the servers", || {
            Ok(self.cgroup().threads()?.iter().all(|thread| is_asleep(thread)).then_some(()))
        })?;
        let others = self.waited()?.saturating_sub(before);
        Ok((told, Measured { held_up: measured.held_up + others, ..measured }))
    }

    /// Runs a command of one thread to its end, in the watched cgroup; gives what it printed, on stderr not much, and how
    /// long it waited for a processor. Fails unless it succeeds.
    pub(crate) fn run_timed(&self, command: &mut Command) -> Result<(Output, Duration)> {
        join_before_exec(command, self, true)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let stolen_before = stolen();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        child.stdout.take().context("its stdout is a pipe")?.read_to_end(&mut stdout)?;
        child.stderr.take().context("its stderr is a pipe")?.read_to_end(&mut stderr)?;
        wait_for_end(child.id())?;
        // What has ended and is not waited for still has its numbers.
        let held_up = waited_by(&child.id().to_string()) + stolen().saturating_sub(stolen_before);
        let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
        ensure!(status.success(), "{program} failed ({status}): {}", String::from_utf8_lossy(&stderr).trim());
        Ok((Output { status, stdout, stderr }, held_up))
    }

    fn waited(&self) -> Result<Duration> {
        Ok(self.cgroup().threads()?.iter().map(|thread| waited_by(thread)).sum())
    }
}

/// Waits until a child has ended, and leaves it to be waited for.
fn wait_for_end(pid: u32) -> io::Result<()> {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a siginfo_t to write to; a process that is no child is an error.
        match unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) } {
            0 => return Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// proc(5): CPU time, waiting time, both in nanoseconds, and turns. Nothing of a thread that is gone.
fn waited_by(thread: &str) -> Duration {
    let told = fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    let nanos = told.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// proc(5): the eighth of the numbers of all processors together.
fn stolen() -> Duration {
    let told = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = told.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
    TICK * ticks.unwrap_or(0)
}

/// The state is what follows the name in brackets, which may hold anything; only `R` runs or could.
fn is_asleep(thread: &str) -> bool {
    let told = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
    told.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{is_asleep, waited_here};

    #[test]
    fn a_thread_waits_for_a_processor_no_longer_than_it_exists() {
        let (start, before) = (Instant::now(), waited_here());
        assert!(!is_asleep("thread-self"));
        assert!(waited_here() - before <= start.elapsed() + Duration::from_millis(20));
    }
}
