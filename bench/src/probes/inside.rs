//! The time within the kernel programs of this process, as the kernel measures it.
//!
//! The kernel counts the runs of each program and their nanoseconds while statistics are enabled. Other things that take
//! time, such as the rest of the system call, are not in these numbers. So they vary far less than the time of an operation.
//! Reading the clock takes a part of the time, and does so for every program.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};

/// The enabled statistics. Dropping this disables them, unless another process has enabled them too.
#[derive(Debug)]
pub(super) struct Statistics {
    _enabled: OwnedFd,
    before: Runs,
}

/// Runs of all programs of this process.
#[derive(Debug, Clone, Copy, Default)]
struct Runs {
    count: u64,
    nanos: u64,
}

impl Statistics {
    pub(super) fn enable() -> Result<Self> {
        let enabled = enable().context("cannot enable the kernel's statistics of programs")?;
        Ok(Self { _enabled: enabled, before: Runs::so_far()? })
    }

    /// Nanoseconds per run since the statistics were enabled.
    pub(super) fn per_run(&self) -> Result<f64> {
        let now = Runs::so_far()?;
        Ok((now.nanos - self.before.nanos) as f64 / (now.count - self.before.count) as f64)
    }
}

impl Runs {
    fn so_far() -> Result<Self> {
        let mut all = Self::default();
        for file in fs::read_dir("/proc/self/fdinfo").context("cannot list the open files")? {
            // The file of the list itself is closed by now.
            let Ok(text) = fs::read_to_string(file?.path()) else { continue };
            all.count += value(&text, "run_cnt:").unwrap_or(0);
            all.nanos += value(&text, "run_time_ns:").unwrap_or(0);
        }
        Ok(all)
    }
}

/// The number behind a name in a file of `/proc/PID/fdinfo`.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// include/uapi/linux/bpf.h: `BPF_ENABLE_STATS`, since Linux 5.8.
fn enable() -> io::Result<OwnedFd> {
    const BPF_ENABLE_STATS: libc::c_int = 32;
    const BPF_STATS_RUN_TIME: u32 = 0;
    let kind = BPF_STATS_RUN_TIME;
    // SAFETY: the kernel reads as many bytes as `kind` has.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const kind, size_of::<u32>()) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_kernels_description_of_a_program() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1234\nrun_cnt:\t56\nrecursion_misses:\t0\n";
        assert_eq!((value(text, "run_time_ns:"), value(text, "run_cnt:")), (Some(1234), Some(56)));
        assert_eq!(value("pos:\t0\n", "run_cnt:"), None);
    }
}
