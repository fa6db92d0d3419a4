//! Lets the agent end at once although its programs are still attached to functions.
//!
//! The kernel detaches a program when the last descriptor of its link is closed. It then waits until no processor executes the
//! program, which takes 100 to 300 ms, for one link after the other. So other processes keep the descriptors until the agent
//! has ended. Each of them closes a share, because links that are closed at the same time wait together.

use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::ptr;

/// What links of /proc/self/fd to probes and their links to programs show.
const PROBES: [&str; 3] = ["anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:bpf-link"];

/// How many processes detach.
const MOST_PROCESSES: usize = 16;

/// How long they wait for the end of the agent at most.
const PATIENCE_MS: libc::c_int = 10_000;

struct Descriptor {
    number: i32,
    is_probe: bool,
}

/// Detaches what is still attached after the agent has ended. The agent must attach nothing afterwards, and end.
pub fn after_the_end() {
    let descriptors = descriptors();
    if !descriptors.iter().any(|descriptor| descriptor.is_probe) {
        return;
    }
    // The write end is closed when the agent has ended and each other process holds its share only.
    let Ok((end, running)) = io::pipe() else { return };
    // SAFETY: the new process only makes system calls, as it must after a fork of a process with threads.
    match unsafe { libc::fork() } {
        0 => close_later(&descriptors, &end, running),
        // Then the agent's end takes longer.
        -1 => tracing::debug!(error = %io::Error::last_os_error(), "cannot start a process that detaches"),
        _ => std::mem::forget(running),
    }
}

/// Closes everything else at once, so that whoever reads what the agent writes sees its end.
fn close_later(descriptors: &[Descriptor], end: &PipeReader, running: PipeWriter) -> ! {
    let pipe = [end.as_raw_fd(), running.as_raw_fd()];
    let probes = descriptors.iter().filter(|found| found.is_probe);
    let others = descriptors.iter().filter(|found| !found.is_probe && !pipe.contains(&found.number));
    // SAFETY: only system calls, with valid arguments. The descriptors belong to this process alone.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"onlooker-detach".as_ptr());
        libc::setsid();
        for other in others {
            libc::close(other.number);
        }
        let processes = probes.clone().count().min(MOST_PROCESSES);
        let share = (1..processes).find(|_| libc::fork() == 0).unwrap_or(0);
        for (at, probe) in probes.clone().enumerate() {
            // Another process has it.
            if at % processes != share {
                libc::close(probe.number);
            }
        }
        drop(running);
        let mut ended = libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        libc::poll(&raw mut ended, 1, PATIENCE_MS);
        if share == 0 {
            for (_, probe) in probes.enumerate().filter(|(at, _)| at % processes == share) {
                libc::close(probe.number);
            }
            // Where no init process reaps orphans, only this process stays behind.
            while libc::waitpid(-1, ptr::null_mut(), 0) > 0 {}
        }
        libc::_exit(0)
    }
}

fn descriptors() -> Vec<Descriptor> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let descriptor = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let shown = fs::read_link(entry.path()).unwrap_or_default();
        Some(Descriptor { number, is_probe: PROBES.iter().any(|probe| shown.as_os_str() == *probe) })
    };
    entries.filter_map(descriptor).collect()
}
