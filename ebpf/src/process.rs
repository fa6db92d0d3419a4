//! Changes of processes: which ones are selected, and which ones are reported.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use aya_log_ebpf::debug;
use onlooker_common::kind;
use onlooker_common::limits::CGROUP_DEPTH;
use onlooker_common::losses::Loss;
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_common::selection::{SelectedCgroup, SelectedProcess, process_flag};

use crate::emit;
use crate::kernel::task::{Cgroup, Task};
use crate::maps::CGROUPS;
use crate::selected::Selected;

#[inline(always)]
fn report(change: u32, tgid: u32, other: u32, comm: [u8; 16]) -> bool {
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    emit::send(&ProcessChange { kind: kind::PROCESS, change, time, tgid, other, comm }, Loss::RingFullProcess)
}

/// A process executes a program. If its cgroup or one above it is selected, the process is selected before the program's
/// first instruction.
#[inline(always)]
pub fn executed(ctx: &impl EbpfContext, task: Task) {
    if let Some(process) = Selected::find(task.tgid()) {
        process.reset();
    }
    for level in 0..CGROUP_DEPTH {
        // SAFETY: takes a number. Below the process's own level the result is 0.
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

/// A process is moved into a cgroup. Only that cgroup is checked here; the agent checks those above it.
#[inline(always)]
pub fn moved(ctx: &impl EbpfContext, task: Task, into: Cgroup) {
    if let Some(selected) = into.id().and_then(|cgroup| CGROUPS.get_ptr(cgroup)) {
        select(ctx, task.tgid(), selected);
    }
    report(lifecycle::MOVED, task.tgid(), 0, task.comm());
}

#[inline(always)]
fn select(ctx: &impl EbpfContext, tgid: u32, by: *const SelectedCgroup) {
    if Selected::find(tgid).is_some() {
        return;
    }
    // SAFETY: a live value of the map.
    let capture = unsafe { *by };
    let process =
        SelectedProcess { flags: 0, runnable: 0, request_capture: capture.request, response_capture: capture.response };
    if Selected::insert(tgid, process) {
        debug!(ctx, "process {} selected by its cgroup", tgid);
    }
}

/// A process listens on a TCP port.
#[inline(always)]
pub fn listens(tgid: u32, port: u16) {
    report(lifecycle::LISTEN, tgid, u32::from(port), Task::current().comm());
}

/// A process makes an outgoing call. The agent is told once; from then on the owners of the process's calls matter.
#[inline(always)]
pub fn calls(process: Selected, tgid: u32) {
    if !process.has(process_flag::CALLS) && report(lifecycle::CALLS, tgid, 0, [0; 16]) {
        process.set(process_flag::CALLS);
    }
}

/// A process forks. A child of a selected process is selected before it runs.
#[inline(always)]
pub fn forked(ctx: &impl EbpfContext, parent: Task, child: Task) {
    let (parent, child) = (parent.tgid(), child.tgid());
    if parent == child {
        return;
    }
    let Some(process) = Selected::find(parent) else { return };
    if !Selected::insert(child, process.for_child()) {
        return;
    }
    debug!(ctx, "process {} selected as a child of {}", child, parent);
    report(lifecycle::FORK, parent, child, [0; 16]);
}

/// A thread ends. A selected process ends with its last thread.
#[inline(always)]
pub fn exited(ctx: &impl EbpfContext, task: Task) {
    let tgid = task.tgid();
    let Some(process) = Selected::find(tgid) else { return };
    // The kernel lowers the count before this tracepoint. If the count cannot be read, the leader's end stands for it.
    let last = match task.live_threads() {
        Some(live) => live == 0,
        None => task.pid() == tgid,
    };
    if last {
        process.remove(tgid);
        debug!(ctx, "process {} ended", tgid);
        report(lifecycle::EXIT, tgid, 0, [0; 16]);
    }
}
