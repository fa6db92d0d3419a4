//! Which processes are followed, and what becomes of them.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid};
use aya_log_ebpf::debug;
use core::ptr;
use onlooker_common::event::{self, kind, lifecycle};
use onlooker_common::limits::CGROUP_DEPTH;
use onlooker_common::loss::Loss;
use onlooker_common::process::{SelectedCgroup, SelectedProcess, census_place, process_flag};

use crate::atomic;
use crate::emit;
use crate::kernel::{Cgroup, Task};
use crate::maps::{AGENTS_CENSUS, CENSUS, CGROUPS, PROCESSES, count};

/// A selected process, in place in the map.
#[derive(Clone, Copy)]
pub struct Selected(*mut SelectedProcess);

impl Selected {
    /// The process `tgid`, if it is selected.
    #[inline(always)]
    pub fn find(tgid: u32) -> Option<Self> {
        if counted(CENSUS.get_ptr(census_place(tgid))) || counted(AGENTS_CENSUS.get_ptr(census_place(tgid))) {
            PROCESSES.get_ptr_mut(tgid).map(Self)
        } else {
            None
        }
    }

    #[inline(always)]
    pub fn has(self, flag: u64) -> bool {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).flags & flag != 0 }
    }

    #[inline(always)]
    pub fn set(self, flag: u64) {
        // SAFETY: a live, aligned value of the map; other CPUs may set other bits at the same time.
        unsafe { atomic::or(&raw mut (*self.0).flags, flag) };
    }

    /// Requests in flight that wait for no answer.
    #[inline(always)]
    pub fn runnable(self) -> i64 {
        // SAFETY: a live value of the map.
        unsafe { core::ptr::read_volatile(&raw const (*self.0).runnable) }
    }

    #[inline(always)]
    pub fn add_runnable(self, change: i64) {
        // SAFETY: a live, aligned value of the map.
        let before = unsafe { atomic::fetch_add(&raw mut (*self.0).runnable, change) };
        if before + change < 0 {
            self.set(process_flag::MISCOUNTED);
        }
    }

    #[inline(always)]
    fn begin_anew(self) {
        // SAFETY: a live value of the map; its threads are one, which runs this.
        unsafe {
            (*self.0).flags &= process_flag::BY_AGENT;
            (*self.0).runnable = 0;
        }
    }

    #[inline(always)]
    pub fn request_capture(self) -> u32 {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).request_capture }
    }

    #[inline(always)]
    pub fn response_capture(self) -> u32 {
        // SAFETY: a live value of the map.
        unsafe { (*self.0).response_capture }
    }
}

#[inline(always)]
fn counted(place: Option<*const i64>) -> bool {
    // SAFETY: a live word of the map.
    place.is_some_and(|place| unsafe { ptr::read_volatile(place) } != 0)
}

/// Counts a process in, or out.
#[inline(always)]
fn count_in_census(tgid: u32, by: i64) {
    if let Some(place) = CENSUS.get_ptr_mut(census_place(tgid)) {
        // SAFETY: a live, aligned word of the map.
        unsafe { atomic::fetch_add(place, by) };
    }
}

/// Selects a process unless it is. It is counted before it is there to be found.
#[inline(always)]
fn enrol(tgid: u32, process: SelectedProcess) -> bool {
    count_in_census(tgid, 1);
    if PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    count_in_census(tgid, -1);
    if PROCESSES.get_ptr(tgid).is_none() {
        count(Loss::ProcessesFull);
    }
    false
}

/// tgid and tid of the running thread.
#[inline(always)]
pub fn current() -> (u32, u32) {
    // SAFETY: no arguments.
    let both = unsafe { bpf_get_current_pid_tgid() };
    ((both >> 32) as u32, both as u32)
}

#[inline(always)]
fn report(change: u32, tgid: u32, other: u32, comm: [u8; 16]) -> bool {
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    emit::send(&event::Process { kind: kind::PROCESS, change, time, tgid, other, comm }, Loss::RingFullProcess)
}

/// A process executes a program: in a selected cgroup, or below one, it is selected before its first instruction. What it
/// was before says nothing of what it is now.
#[inline(always)]
pub fn executed(ctx: &impl EbpfContext, task: Task) {
    if let Some(process) = Selected::find(task.tgid()) {
        process.begin_anew();
    }
    for level in 0..CGROUP_DEPTH {
        // SAFETY: a number of a level; beyond the process's own the answer is 0.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if cgroup == 0 {
            break;
        }
        if let Some(selected) = CGROUPS.get_ptr(cgroup) {
            select(ctx, task.tgid(), selected);
            break;
        }
    }
    report(lifecycle::EXEC, task.tgid(), 0, task.comm());
}

/// A process is moved into a cgroup. Only that very one is looked at here; those above it are the agent's to judge.
#[inline(always)]
pub fn moved(ctx: &impl EbpfContext, task: Task, into: Cgroup) {
    if let Some(selected) = into.id().and_then(|cgroup| CGROUPS.get_ptr(cgroup)) {
        select(ctx, task.tgid(), selected);
    }
    report(lifecycle::MOVED, task.tgid(), 0, task.comm());
}

/// Selects a process unless it is.
#[inline(always)]
fn select(ctx: &impl EbpfContext, tgid: u32, found: *const SelectedCgroup) {
    if Selected::find(tgid).is_some() {
        return;
    }
    // SAFETY: a live value of the map.
    let capture = unsafe { *found };
    let fresh =
        SelectedProcess { flags: 0, runnable: 0, request_capture: capture.request, response_capture: capture.response };
    if !enrol(tgid, fresh) {
        return;
    }
    debug!(ctx, "process {} selected by its cgroup", tgid);
}

#[inline(always)]
pub fn listens(tgid: u32, port: u16) {
    report(lifecycle::LISTEN, tgid, u32::from(port), Task::current().comm());
}

/// The first call of a process that the agent can be told of: from now on it matters whose work its threads do.
#[inline(always)]
pub fn calls(process: Selected, tgid: u32) {
    if !process.has(process_flag::CALLS) && report(lifecycle::CALLS, tgid, 0, [0; 16]) {
        process.set(process_flag::CALLS);
    }
}

/// A child of a selected process is selected, before it runs.
#[inline(always)]
pub fn forked(ctx: &impl EbpfContext, parent: Task, child: Task) {
    let (parent, child) = (parent.tgid(), child.tgid());
    if parent == child {
        return;
    }
    let Some(Selected(selected)) = Selected::find(parent) else { return };
    // SAFETY: a live value of the map.
    let selected = unsafe { *selected };
    // Whether the child makes calls too is its own to show: the agent has to hear of it.
    let flags = selected.flags & !(process_flag::CALLS | process_flag::BY_AGENT | process_flag::MISCOUNTED);
    if !enrol(child, SelectedProcess { runnable: 0, flags, ..selected }) {
        return;
    }
    debug!(ctx, "process {} selected as a child of {}", child, parent);
    report(lifecycle::FORK, parent, child, [0; 16]);
}

/// A selected process ends with its last thread.
#[inline(always)]
pub fn exited(ctx: &impl EbpfContext, task: Task) {
    let tgid = task.tgid();
    let Some(process) = Selected::find(tgid) else { return };
    // The count was lowered before this tracepoint; where it can't be read, the leader stands for the process.
    let last = match task.live_threads() {
        Some(live) => live == 0,
        None => task.pid() == tgid,
    };
    if last {
        let by_agent = process.has(process_flag::BY_AGENT);
        // The agent may have been faster.
        if PROCESSES.remove(tgid).is_ok() && !by_agent {
            count_in_census(tgid, -1);
        }
        debug!(ctx, "process {} ended", tgid);
        report(lifecycle::EXIT, tgid, 0, [0; 16]);
    }
}
