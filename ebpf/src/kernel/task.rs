//! Tasks, and the cgroups that they are in.

use aya_ebpf::bindings::{pt_regs, task_struct};
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs};
use core::ffi::c_void;

use onlooker_common::offsets::MISSING;

use super::member;
use crate::maps::offset;

/// include/linux/sched.h: a worker that runs in a process's name (`io_uring`).
const PF_IO_WORKER: u32 = 0x0000_0010;

/// The running task.
#[derive(Clone, Copy)]
pub struct Task(*mut task_struct);

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { bpf_get_current_task_btf() })
    }

    /// # Safety
    /// `task` must be a `struct task_struct *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(task: *const c_void) -> Self {
        Self(task.cast_mut().cast())
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut task_struct {
        self.0
    }

    /// The registers as they were when the task entered the kernel.
    #[inline(always)]
    pub fn registers(self) -> *const pt_regs {
        // SAFETY: the task is the current one.
        unsafe { bpf_task_pt_regs(self.0) as *const pt_regs }
    }

    /// Says on x86-64 what mode the system call was made in.
    #[inline(always)]
    pub fn thread_info_status(self) -> Option<u32> {
        // SAFETY: thread_info.status is a u32 of struct task_struct on x86-64.
        unsafe { member::<u32>(self.0.cast(), offset!(task_thread_info_status)) }
    }

    /// Whether this is an `io_uring` worker: its saved registers are those of a thread that was never in user mode.
    #[inline(always)]
    pub fn is_io_worker(self) -> bool {
        // SAFETY: flags is an unsigned int of struct task_struct.
        unsafe { member::<u32>(self.0.cast(), offset!(task_flags)) }.is_some_and(|flags| flags & PF_IO_WORKER != 0)
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { member(self.0.cast(), offset!(task_tgid)) }.unwrap_or(0)
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { member(self.0.cast(), offset!(task_pid)) }.unwrap_or(0)
    }

    /// How many threads of the task's process are alive.
    #[inline(always)]
    pub fn live_threads(self) -> Option<u32> {
        // SAFETY: a pointer to struct signal_struct, and its atomic_t.
        unsafe {
            let signal = member::<*const c_void>(self.0.cast(), offset!(task_signal))?;
            member(signal, offset!(signal_live))
        }
    }

    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        let at = offset!(task_comm);
        let mut comm = [0; 16];
        if at != MISSING {
            // SAFETY: comm is an array of 16 bytes of struct task_struct.
            unsafe {
                bpf_probe_read_kernel(comm.as_mut_ptr().cast(), 16, self.0.cast::<u8>().add(at as usize).cast());
            }
        }
        comm
    }
}

/// A cgroup of the second hierarchy or the first.
#[derive(Clone, Copy)]
pub struct Cgroup(*const c_void);

impl Cgroup {
    /// # Safety
    /// `cgroup` must be a `struct cgroup *` argument of the running program.
    #[inline(always)]
    pub unsafe fn new(cgroup: *const c_void) -> Self {
        Self(cgroup)
    }

    /// The number that the file system shows as its folder's inode; `None` in the hierarchies of the first version, each of
    /// which has numbers of its own.
    #[inline(always)]
    pub fn id(self) -> Option<u64> {
        // SAFETY: pointers to struct cgroup_root and struct kernfs_node, an int and a u64 of theirs.
        unsafe {
            let root = member::<*const c_void>(self.0, offset!(cgroup_root))?;
            if member::<i32>(root, offset!(root_hierarchy))? != 0 {
                return None;
            }
            let node = member::<*const c_void>(self.0, offset!(cgroup_node))?;
            member(node, offset!(node_id))
        }
    }
}
