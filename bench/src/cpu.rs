//! Processors: which one runs what, and how long a process has run.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The processor of what is measured. Everything else stays off it: see [`leave_to_the_measured`].
pub(crate) const MEASURED: usize = 0;

/// Moves a process or thread (0: the calling one) to some of the processors. What it starts inherits them.
fn keep_to(pid: u32, processors: impl IntoIterator<Item = usize>) -> Result<()> {
    let pid = libc::pid_t::try_from(pid).context("a process id fits in pid_t")?;
    // SAFETY: a cpu_set_t is plain integers, of which all 0 is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in processors {
        // SAFETY: ignores numbers beyond the set's size.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: reads `size_of` bytes of a set that lives.
    if unsafe { libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot choose processors");
    }
    Ok(())
}

/// Moves a process to the processor of what is measured.
pub(crate) fn measure_there(pid: u32) -> Result<()> {
    keep_to(pid, [MEASURED])
}

/// Takes the calling thread, and what it starts from now on, off the processor of what is measured.
pub(crate) fn leave_to_the_measured() -> Result<()> {
    let processors = online()?;
    ensure!(processors > 1, "one processor is not enough to measure on: the load would take from what is measured");
    keep_to(0, (0..processors).filter(|processor| *processor != MEASURED))
}

/// How many processors are online.
pub(crate) fn online() -> Result<usize> {
    // SAFETY: no pointers.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).context("cannot count processors")
}

/// How long the threads of a process have run, in kernel and user mode (`/proc/PID/task/TID/schedstat`: to the
/// nanosecond, where `stat` counts ticks).
pub(crate) fn time_of(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let file = task?.path().join("schedstat");
        // A thread may end in between.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let nanos: u64 = text
            .split_ascii_whitespace()
            .next()
            .and_then(|field| field.parse().ok())
            .with_context(|| format!("{} does not begin with a number", file.display()))?;
        total += nanos;
    }
    Ok(Duration::from_nanos(total))
}

/// How long the calling thread has run: what others do on a busy machine does not count.
pub(crate) fn time_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to write to. The clock is one that every thread has, so this can't fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    // The clock counts up from the thread's start: both are positive.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Bytes of a process's memory that are in RAM: the field of `/proc/PID/status` that begins with `name`.
pub(crate) fn memory_of(pid: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse().ok())
        .with_context(|| format!("{file} has no {name}"))?;
    Ok(kib << 10)
}

/// The children of a process.
pub(crate) fn children_of(pid: u32) -> Result<Vec<u32>> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    Ok(text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// The kernel, the processors and how busy they were: what a number must be read with.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    format!(
        "{} processors ({model}), Linux {}, load {} before",
        online().unwrap_or(0),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_process_that_ran_has_run() {
        let before = time_of(process::id()).unwrap();
        let mut sum = 0_u64;
        while time_of(process::id()).unwrap() <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(memory_of(process::id(), "VmRSS").unwrap() > 0);
    }
}
