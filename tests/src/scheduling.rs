//! Measures scheduling delay: how long runnable threads waited for a CPU.
//!
//! Such delays may lie between a measured time and a span's time though both are correct. The kernel counts them per
//! thread, as the second number of `/proc/PID/schedstat`. Time taken by the hypervisor is in `/proc/stat`, in ticks. If the
//! kernel provides neither, no delay is allowed for.

use std::fs;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::child_process::join_before_exec;
use crate::times::Measured;
use crate::wait::{self, within};
use crate::world::World;

/// `USER_HZ`, the unit of /proc/stat on every architecture that Rust supports.
const TICK: Duration = Duration::from_millis(10);

/// After its response a server has little left to do.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

/// The scheduling delay of the calling thread and the steal time of the machine, until now.
#[must_use]
pub fn delay_here() -> Duration {
    delay_of("thread-self") + stolen()
}

impl World {
    /// Runs `exchange` and adds the watched threads' scheduling delay to what it measured, from its start until all of
    /// them sleep again.
    pub fn timed<T>(&self, exchange: impl FnOnce() -> Result<(T, Measured)>) -> Result<(T, Measured)> {
        let before = self.delay_of_watched()?;
        let (result, measured) = exchange()?;
        // The kernel counts a thread's delay only when it gets to run.
        wait::until(within(QUIET_WITHIN), "idle state of the servers", || {
            Ok(self.cgroup().threads()?.iter().all(|thread| is_asleep(thread)).then_some(()))
        })?;
        let others = self.delay_of_watched()?.saturating_sub(before);
        Ok((result, Measured { scheduling_delay: measured.scheduling_delay + others, ..measured }))
    }

    /// Runs a single-threaded command in the watched cgroup. Returns its output and its scheduling delay. Fails unless it
    /// succeeds. The command must print little on stderr.
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
        // A child that has ended and is not reaped still has its numbers in /proc.
        let scheduling_delay = delay_of(&child.id().to_string()) + stolen().saturating_sub(stolen_before);
        let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
        ensure!(status.success(), "{program} failed ({status}): {}", String::from_utf8_lossy(&stderr).trim());
        Ok((Output { status, stdout, stderr }, scheduling_delay))
    }

    fn delay_of_watched(&self) -> Result<Duration> {
        Ok(self.cgroup().threads()?.iter().map(|thread| delay_of(thread)).sum())
    }
}

/// Waits until a child has ended, without reaping it.
fn wait_for_end(pid: u32) -> io::Result<()> {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is writable memory for a siginfo_t. A pid that is not our child's yields an error.
        match unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) } {
            0 => return Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// proc(5): CPU time and waiting time in nanoseconds, and the number of time slices. Zero for a thread that has ended.
fn delay_of(thread: &str) -> Duration {
    let schedstat = fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    let nanos = schedstat.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// proc(5): steal time, the eighth number of the line for all CPUs.
fn stolen() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
    TICK * ticks.unwrap_or(0)
}

/// proc(5): the state follows the name in parentheses, which may contain anything. `R` is running or runnable.
fn is_asleep(thread: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{delay_here, is_asleep};

    #[test]
    fn a_threads_delay_is_no_longer_than_the_elapsed_time() {
        let (start, before) = (Instant::now(), delay_here());
        assert!(!is_asleep("thread-self"));
        assert!(delay_here() - before <= start.elapsed() + Duration::from_millis(20));
    }
}
