//! Processors: pins processes to them, and reads how long processes ran.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The processor of the measured process. [`leave_to_the_measured`] keeps everything else off it.
pub(crate) const MEASURED: usize = 0;

/// Pins a process or thread (0: the calling thread) to `processors`. What it starts inherits them.
fn keep_to(pid: u32, processors: impl IntoIterator<Item = usize>) -> Result<()> {
    let pid = libc::pid_t::try_from(pid).context("a process id fits in pid_t")?;
    // SAFETY: a cpu_set_t consists of integers, and all zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in processors {
        // SAFETY: CPU_SET ignores numbers beyond the set's size.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: the set is valid for reads of `size_of` bytes.
    if unsafe { libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot pin a process to processors");
    }
    Ok(())
}

/// Pins a process to the processor of measured processes.
pub(crate) fn measure_there(pid: u32) -> Result<()> {
    keep_to(pid, [MEASURED])
}

/// Keeps the calling thread, and what it starts from now on, off the processor of measured processes.
pub(crate) fn leave_to_the_measured() -> Result<()> {
    let processors = online()?;
    ensure!(processors > 1, "measuring needs two processors: the load must not share one with the measured process");
    keep_to(0, (0..processors).filter(|processor| *processor != MEASURED))
}

/// Does `what` on the processor of measured processes, with what it starts meanwhile.
pub(crate) fn beside_the_measured<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    keep_to(0, [MEASURED])?;
    let result = what();
    leave_to_the_measured()?;
    result
}

/// The number of processors that are online.
pub(crate) fn online() -> Result<usize> {
    // SAFETY: no pointers.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).context("cannot count processors")
}

/// The time that the threads of a process ran, in kernel and user mode.
///
/// From `/proc/PID/task/TID/schedstat`, which counts nanoseconds. `stat` counts clock ticks of 10 ms.
pub(crate) fn time_of(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let file = task?.path().join("schedstat");
        // The thread may have ended.
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

/// The time that the calling thread ran. Other threads on a busy machine do not add to it.
pub(crate) fn time_of_this_thread() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes. Every thread has this clock, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    // The clock starts at 0 with the thread: both numbers are positive.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A size in bytes from `/proc/PID/status`: the field `name`, such as VmRSS.
pub(crate) fn memory_of(pid: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse().ok())
        .with_context(|| format!("{file} has no {name}"))?;
    Ok(kib << 10)
}

/// The child processes of a process.
pub(crate) fn children_of(pid: u32) -> Result<Vec<u32>> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    Ok(text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// The processors, the kernel, and the load before the measurement.
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
    fn the_time_of_a_running_process_grows() {
        let before = time_of(process::id()).unwrap();
        let mut sum = 0_u64;
        while time_of(process::id()).unwrap() <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(memory_of(process::id(), "VmRSS").unwrap() > 0);
    }
}
