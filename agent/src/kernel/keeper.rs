//! Takes enrolled sockets out of their table when the agent has ended, however it ended.
//!
//! The kernel frees the table 20 ms after the agent's end. Until then, the sockets in it are not like others: on kernels with the defect,
//! FIONREAD answers 0 although bytes wait. So another process waits for the agent's end and removes them at once.

use std::fs;
use std::io::{self, PipeWriter};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// include/uapi/linux/bpf.h: `enum bpf_cmd`.
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;

/// The part of `union bpf_attr` that these commands read.
#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    next_key: u64,
    flags: u64,
}

/// The waiting process. It acts when this is dropped, which the end of the agent does in any case.
#[derive(Debug)]
pub(super) struct Keeper(#[expect(dead_code, reason = "its end is what the process waits for")] PipeWriter);

impl Keeper {
    /// Starts the process, for a table with keys of 64 bits.
    pub(super) fn start(table: BorrowedFd<'_>) -> io::Result<Self> {
        let (agent_ended, agent) = io::pipe()?;
        let kept = [agent_ended.as_raw_fd(), table.as_raw_fd()];
        let others: Vec<i32> = descriptors().filter(|descriptor| !kept.contains(descriptor)).collect();
        // SAFETY: the new process only makes system calls, as it must after a fork of a process with threads.
        match unsafe { libc::fork() } {
            0 => keep(kept, &others),
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(Self(agent)),
        }
    }
}

/// What the new process does.
fn keep([agent_ended, table]: [i32; 2], others: &[i32]) -> ! {
    // SAFETY: only system calls, with valid arguments. The descriptors belong to this process alone.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"onlooker-keeper".as_ptr());
        // It must outlive the agent when somebody presses Ctrl-C.
        libc::setsid();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
            libc::signal(signal, libc::SIG_IGN);
        }
        // Also the writing end of the pipe, whose last copy is the agent's then.
        for &other in others {
            libc::close(other);
        }
        let mut byte = 0_u8;
        while libc::read(agent_ended, (&raw mut byte).cast(), 1) == -1 && *libc::__errno_location() == libc::EINTR {}
        remove_all(table);
        libc::_exit(0)
    }
}

/// Removes all sockets. The program that enrols is detached, or about to be, so there may be new ones for a moment.
///
/// # Safety
/// `table` must be an open map with keys of 64 bits.
unsafe fn remove_all(table: i32) {
    let (mut key, mut attributes) =
        (0_u64, ElementAttributes { map: table.unsigned_abs(), ..ElementAttributes::default() });
    loop {
        // Without a key, the next one is the first.
        attributes.key = 0;
        attributes.next_key = ptr::from_mut(&mut key).addr() as u64;
        // SAFETY: the attributes are those of the command, and point to keys of the map's size.
        unsafe {
            if bpf(BPF_MAP_GET_NEXT_KEY, &attributes) != 0 {
                return;
            }
            attributes.key = attributes.next_key;
            attributes.next_key = 0;
            // It may have been closed meanwhile.
            bpf(BPF_MAP_DELETE_ELEM, &attributes);
        }
    }
}

/// # Safety
/// The attributes must be those of the command.
unsafe fn bpf(command: libc::c_int, attributes: &ElementAttributes) -> libc::c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), size_of::<ElementAttributes>()) }
}

fn descriptors() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
