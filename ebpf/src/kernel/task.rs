//! Tasks, and the cgroups that they are in.

use aya_ebpf::bindings::{pt_regs, task_struct};
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_task_pt_regs,
};
use core::ffi::c_void;

use onlooker_common::offsets::MISSING;

use super::member::{at, load, pointer};
use crate::globals::offset;

/// include/linux/sched.h: an `io_uring` worker of a process.
const PF_IO_WORKER: u32 = 0x0000_0010;
/// The same file.
const TASK_RUNNING: u32 = 0;

/// A task.
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

    /// The registers that the task saved when it entered the kernel.
    #[inline(always)]
    pub fn registers(self) -> *const pt_regs {
        // SAFETY: the task is the current one.
        unsafe { bpf_task_pt_regs(self.0) as *const pt_regs }
    }

    /// On x86-64, shows whether the system call was made in 32-bit mode.
    #[inline(always)]
    pub fn thread_info_status(self) -> Option<u32> {
        // SAFETY: thread_info.status is a u32 of struct task_struct on x86-64.
        unsafe { load::<u32>(self.0.cast(), offset!(task_thread_info_status)) }
    }

    /// Whether this is an `io_uring` worker. It was never in user mode, so its saved registers mean nothing.
    #[inline(always)]
    pub fn is_io_worker(self) -> bool {
        // SAFETY: flags is an unsigned int of struct task_struct.
        unsafe { load::<u32>(self.0.cast(), offset!(task_flags)) }.is_some_and(|flags| flags & PF_IO_WORKER != 0)
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { load(self.0.cast(), offset!(task_tgid)) }.unwrap_or(0)
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        // SAFETY: a pid_t of struct task_struct.
        unsafe { load(self.0.cast(), offset!(task_pid)) }.unwrap_or(0)
    }

    /// The address of the thread's thread-local storage: the base of fs on x86-64. `None` if it is unknown.
    #[inline(always)]
    pub fn thread_pointer(self) -> Option<u64> {
        // SAFETY: an unsigned long of struct thread_struct on x86-64.
        unsafe { load::<u64>(self.0.cast(), offset!(task_thread_pointer)) }.filter(|&pointer| pointer != 0)
    }

    /// The thread that forked the task's process. If that has ended, another process's thread.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        // SAFETY: a pointer to struct task_struct, which is never null.
        unsafe { load::<*mut task_struct>(self.0.cast(), offset!(task_parent)) }.map(Self)
    }

    /// Whether the task runs or waits for a processor, and for nothing else.
    #[inline(always)]
    pub fn is_runnable(self) -> bool {
        // SAFETY: an unsigned int of struct task_struct.
        unsafe { load::<u32>(self.0.cast(), offset!(task_state)) }.is_some_and(|state| state == TASK_RUNNING)
    }

    /// How many threads of the task's process are alive.
    #[inline(always)]
    pub fn live_threads(self) -> Option<u32> {
        // A pointer to struct signal_struct, and its atomic_t.
        pointer(self.0.cast(), offset!(task_signal)).and_then(|signal| at(signal, offset!(signal_live)))
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

/// tgid and tid of the running thread.
#[inline(always)]
pub fn current_ids() -> (u32, u32) {
    // SAFETY: no arguments.
    let both = unsafe { bpf_get_current_pid_tgid() };
    ((both >> 32) as u32, both as u32)
}

/// The address of a cgroup, of version 2 or 1.
#[derive(Clone, Copy)]
pub struct Cgroup(u64);

impl Cgroup {
    /// `cgroup` is a `struct cgroup *`.
    #[inline(always)]
    pub fn new(cgroup: *const c_void) -> Self {
        Self(cgroup as u64)
    }

    /// The cgroup that it is in. `None` for the root of a hierarchy.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        // Pointers to struct cgroup_subsys_state and to its struct cgroup.
        let parent = at::<u64>(self.0, offset!(cgroup_parent)).filter(|&parent| parent != 0)?;
        at(parent, offset!(css_cgroup)).map(Self)
    }

    /// The cgroup's id: the inode number of its folder. `None` for version 1, whose hierarchies reuse the same numbers.
    #[inline(always)]
    pub fn id(self) -> Option<u64> {
        // Pointers to struct cgroup_root and struct kernfs_node, an int and a u64 of theirs.
        let root = at::<u64>(self.0, offset!(cgroup_root))?;
        if at::<i32>(root, offset!(root_hierarchy))? != 0 {
            return None;
        }
        let node = at::<u64>(self.0, offset!(cgroup_node))?;
        at(node, offset!(node_id))
    }
}
