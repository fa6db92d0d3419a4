//! Lets the agent end at once although its probes of functions are still attached.
//!
//! The kernel detaches such a probe when its last descriptor is closed. It then waits for all processors several times, which
//! takes 100 to 300 ms, for one probe after the other. A program that has mapped OpenSSL has 20 of them. So another process
//! keeps the descriptors until the agent has ended, and closes them then.

use std::fs;
use std::ptr;

/// What links of /proc/self/fd to probes and their links to programs show.
const PROBES: [&str; 3] = ["anon_inode:[perf_event]", "anon_inode:bpf_link", "anon_inode:bpf-link"];

/// How often the other process looks whether the agent has ended, and how often at most: 10 s.
static PAUSE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const MOST_PAUSES: u32 = 10_000;

/// So few descriptors, two for each probe, are closed quickly enough.
const FEW: usize = 8;

struct Descriptor {
    number: i32,
    is_probe: bool,
}

/// Detaches what is still attached after the agent has ended, if that is much. The agent must attach nothing afterwards, and end.
pub fn after_the_end() {
    let descriptors = descriptors();
    if descriptors.iter().filter(|descriptor| descriptor.is_probe).count() <= FEW {
        return;
    }
    let agent = std::process::id();
    // SAFETY: the new process only makes system calls, as it must after a fork of a process with threads.
    match unsafe { libc::fork() } {
        0 => close_later(&descriptors, agent.cast_signed()),
        // Then the agent's end takes longer.
        -1 => tracing::debug!(error = %std::io::Error::last_os_error(), "cannot start a process that detaches"),
        _ => {}
    }
}

/// Closes everything else at once, so that whoever reads what the agent writes sees its end.
fn close_later(descriptors: &[Descriptor], agent: libc::pid_t) -> ! {
    // SAFETY: only system calls, with valid arguments. The descriptors belong to this process alone.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"onlooker-detach".as_ptr());
        libc::setsid();
        for descriptor in descriptors.iter().filter(|descriptor| !descriptor.is_probe) {
            libc::close(descriptor.number);
        }
        for _ in 0..MOST_PAUSES {
            if libc::getppid() != agent {
                break;
            }
            libc::nanosleep(&raw const PAUSE, ptr::null_mut());
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
