//! What a sleeping task waits for: the kernel's wait queues.

use onlooker_common::offsets::MISSING;

use super::member::{at, number, probe};
use super::task::Task;
use crate::globals::offset;

/// Waiters of a queue that are looked at. Each thread of a process that waits for a child is one.
const WAITERS: u32 = 32;

/// include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;

/// Standard output and standard error.
const OUTPUTS: [u64; 2] = [1, 2];

/// Whether the task at `above` waits for the task at `below`: for its end, or until it can read what that writes to its
/// standard output or standard error.
///
/// It takes addresses, and is a global function, so that the verifier checks it once and on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn waits_for(above: u64, below: u64) -> u32 {
    if let Some(queue) = queue_of_ends(above)
        && let Some(pid) = at::<u64>(below, offset!(task_pid_struct))
        && is_waiter(queue, above, pid)
    {
        return 1;
    }
    let files = at::<u64>(below, offset!(task_files));
    let table = files.and_then(|files| at::<u64>(files, offset!(files_table)));
    let Some(files) = table.and_then(|table| at::<u64>(table, offset!(table_files))) else { return 0 };
    for output in OUTPUTS {
        if let Some(queue) = probe::<u64>(files + 8 * output).and_then(pipe_readers)
            && is_waiter(queue, above, 0)
        {
            return 1;
        }
    }
    0
}

/// Whether the task at `task` is a waiter of the queue whose list begins at `queue`. `pid`: it must wait for the end of the
/// process with this `struct pid`, or of any.
#[inline(always)]
fn is_waiter(queue: u64, task: u64, pid: u64) -> bool {
    let mut next = probe::<u64>(queue);
    for _ in 0..WAITERS {
        // A list_head points to itself while the list is empty.
        let Some(link) = next.filter(|&link| link != queue && link != 0) else { return false };
        if is_entry_of(link, task, pid) != 0 {
            return true;
        }
        next = probe(link);
    }
    false
}

/// Whether the entry of a queue whose `list_head` is at `link` is that of the task. `pid` is as in [`is_waiter`].
///
/// In a function of its own it is checked once, and not for each entry.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_entry_of(link: u64, task: u64, pid: u64) -> u32 {
    let (entry, wait) = (offset!(waiter_entry), offset!(wait_waiter));
    if entry == MISSING || wait == MISSING {
        return 0;
    }
    let waiter = link.wrapping_sub(u64::from(entry));
    let private = at::<u64>(waiter, offset!(waiter_private)).unwrap_or(0);
    let fits = if pid == 0 {
        // In read (fs/pipe.c:pipe_read), or in poll, select or the like (fs/select.c:__pollwait).
        private == task || at::<u64>(private, offset!(poll_task)).is_some_and(|polling| polling == task)
    } else {
        // kernel/exit.c:do_wait
        let awaited = at::<u64>(waiter.wrapping_sub(u64::from(wait)), offset!(wait_pid));
        private == task && awaited.is_some_and(|awaited| awaited == 0 || awaited == pid)
    };
    u32::from(fits)
}

impl Task {
    /// Whether the task waits for a child: for its end, or for what it writes to its standard output or standard error.
    #[inline(always)]
    pub fn waits_for(self, child: Self) -> bool {
        waits_for(self.address(), child.address()) != 0
    }

    #[inline(always)]
    fn address(self) -> u64 {
        number(self.as_ptr().cast())
    }
}

/// The queue of those that wait for children of a task's process: the address of its list.
#[inline(always)]
fn queue_of_ends(task: u64) -> Option<u64> {
    let queue = offset!(signal_waiters);
    let signal = at::<u64>(task, offset!(task_signal))?;
    (signal != 0 && queue != MISSING).then(|| signal + u64::from(queue))
}

/// The queue of those that wait to read from a pipe: the address of its list.
#[inline(always)]
fn pipe_readers(file: u64) -> Option<u64> {
    let inode = at::<u64>(file, offset!(file_inode))?;
    if at::<u16>(inode, offset!(inode_mode))? & S_IFMT != S_IFIFO {
        return None;
    }
    let readers = offset!(pipe_readers);
    let pipe = at::<u64>(inode, offset!(inode_pipe))?;
    (pipe != 0 && readers != MISSING).then(|| pipe + u64::from(readers))
}
