//! Changes of processes: which ones are selected, and which ones are reported.

use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use aya_log_ebpf::debug;
use onlooker_common::kind;
use onlooker_common::limits::{CGROUP_DEPTH, UNDECIDED_BYTES, UNDECIDED_NANOS};
use onlooker_common::losses::Loss;
use onlooker_common::process::{self, ProcessChange, lifecycle};
use onlooker_common::selection::{
    PROGRAM_NAME_BYTES, SelectedCgroup, SelectedProcess, interest, name, process_flag, verdict,
};
use onlooker_common::unit::{self, SOURCE_WORDS, UnitSource};

use crate::emit;
use crate::kernel::execution::{ExecutedPath, Execution};
use crate::kernel::task::{Cgroup, Task};
use crate::maps::{CGROUPS, INTEREST, NAMES, VERDICTS, count, interests};
use crate::selected::{Selected, unjudged};
use crate::work::fork;
use crate::work::units::thread;

#[inline(always)]
fn change(change: u32, tgid: u32, other: u32, comm: [u8; 16]) -> ProcessChange {
    // SAFETY: no arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    ProcessChange { kind: kind::PROCESS, change, time, tgid, other, comm }
}

#[inline(always)]
fn report(kind: u32, tgid: u32, other: u32, comm: [u8; 16]) -> bool {
    emit::send(&change(kind, tgid, other, comm), Loss::RingFullProcess)
}

/// A process executes a program. If it is known to be selected, it is selected before the program's first instruction.
#[inline(always)]
pub fn executed(ctx: &impl EbpfContext, task: Task, execution: Execution) {
    let tgid = task.tgid();
    let known = Selected::known(tgid);
    if let Some(process) = known {
        process.reset(tgid);
        if let Some(thread) = thread::state(task) {
            thread.event_loop().forget();
        }
    }
    let interests = interests();
    let is_decided = known.is_some_and(|process| !process.has(process_flag::UNDECIDED));
    let mut reported = known.is_some() || interests & interest::EXECS != 0;
    if !is_decided && interests & interest::CGROUPS != 0 && select_by_cgroup(ctx, tgid) {
        reported = true;
    } else if !is_decided && interests & interest::NAMES != 0 {
        match by_executable(task, execution, known) {
            ByExecutable::Selected => reported = true,
            // It is reported with what the agent needs to decide.
            ByExecutable::Undecided => return,
            ByExecutable::NotSelected => {}
        }
    }
    if reported && Selected::known(tgid).is_some() {
        // The program may use its TLS library in milliseconds.
        emit::send_now(&change(lifecycle::EXEC, tgid, 0, task.comm()), Loss::RingFullProcess);
    } else if reported {
        report(lifecycle::EXEC, tgid, 0, task.comm());
    }
}

/// What is known about a process by its executable.
enum ByExecutable {
    Selected,
    NotSelected,
    /// The agent has been asked.
    Undecided,
}

/// Selects a process if its executable is known to be selected. If that is unknown, the agent is asked, and the process is
/// recorded until it answers.
#[inline(always)]
fn by_executable(task: Task, execution: Execution, known: Option<Selected>) -> ByExecutable {
    let Some(how) = listed(task, execution) else { return ByExecutable::NotSelected };
    let Some(path) = execution.path() else { return ByExecutable::NotSelected };
    let Some(executable) = execution.executable(&path) else { return ByExecutable::NotSelected };
    // SAFETY: a live value of the map, which the agent changes.
    let verdict = VERDICTS.get_ptr(executable).map_or(0, |verdict| unsafe { *verdict });
    if verdict == verdict::NOT_SELECTED {
        return ByExecutable::NotSelected;
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let (tgid, until) = (task.tgid(), now + UNDECIDED_NANOS);
    let flags = if verdict == verdict::SELECTED { 0 } else { process_flag::UNDECIDED };
    match known {
        Some(process) if flags == 0 => process.decide(),
        Some(process) => process.extend(until),
        None if flags == 0 || how == name::RECORDED => {
            let Some(interest) = INTEREST.get_ptr(0) else { return ByExecutable::NotSelected };
            // SAFETY: a live value of the map, which the agent changes.
            let capture = unsafe { (*interest).capture };
            Selected::insert(
                tgid,
                SelectedProcess {
                    flags: flags | unjudged(),
                    runnable: 0,
                    request_capture: capture.request,
                    response_capture: capture.response,
                    undecided_until: until,
                    undecided_bytes: UNDECIDED_BYTES,
                    unit: UnitSource { kind: unit::NONE, generation: 0, words: [0; SOURCE_WORDS] },
                },
            );
        }
        None => {}
    }
    if flags == 0 {
        return ByExecutable::Selected;
    }
    let change = ProcessChange {
        kind: kind::EXECUTION,
        change: lifecycle::EXEC_UNDECIDED,
        time: now,
        tgid,
        other: 0,
        comm: task.comm(),
    };
    match emit::reserve::<process::Execution>() {
        Some(mut entry) => {
            // SAFETY: every field of the record is written. It is plain old data, and the path has as many bytes.
            unsafe {
                let record = entry.as_mut_ptr();
                (*record).change = change;
                (*record).executable = executable;
                (&raw mut (*record).path).cast::<ExecutedPath>().write_unaligned(path);
            }
            emit::submit(entry, true);
        }
        None => {
            count(Loss::RingFullProcess);
            Selected::stop_undecided(tgid);
        }
    }
    ByExecutable::Undecided
}

/// Selects the current process if its cgroup or one above it is selected.
#[inline(always)]
fn select_by_cgroup(ctx: &impl EbpfContext, tgid: u32) -> bool {
    for level in 0..CGROUP_DEPTH {
        // SAFETY: takes a number. Below the process's own level the result is 0.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if cgroup == 0 {
            break;
        }
        if let Some(selected) = CGROUPS.get_ptr(cgroup) {
            select(ctx, tgid, selected);
            return true;
        }
    }
    false
}

/// What the map has for the name of the link or script that was executed, or else of the program's file.
#[inline(always)]
fn listed(task: Task, execution: Execution) -> Option<u32> {
    const BITS: u32 = 8 * PROGRAM_NAME_BYTES as u32;
    let of = |name| NAMES.get(&Key::new(BITS, name)).copied();
    of(task.comm()).or_else(|| of(execution.file_name()?))
}

/// A process is moved into a cgroup. If that or one above it is selected, the process is selected.
#[inline(always)]
pub fn moved(ctx: &impl EbpfContext, task: Task, into: Cgroup) {
    if interests() & interest::CGROUPS == 0 {
        return;
    }
    let tgid = task.tgid();
    let mut next = Some(into);
    for _ in 0..CGROUP_DEPTH {
        let Some(cgroup) = next else { break };
        // A cgroup of version 1, in any case.
        let Some(id) = cgroup.id() else { return };
        if let Some(selected) = CGROUPS.get_ptr(id) {
            select(ctx, tgid, selected);
            break;
        }
        next = cgroup.parent();
    }
    if Selected::find(tgid).is_some() {
        report(lifecycle::MOVED, tgid, 0, task.comm());
    }
}

#[inline(always)]
fn select(ctx: &impl EbpfContext, tgid: u32, by: *const SelectedCgroup) {
    if let Some(process) = Selected::known(tgid) {
        return process.decide();
    }
    // SAFETY: a live value of the map.
    let capture = unsafe { *by };
    let process = SelectedProcess {
        flags: unjudged(),
        runnable: 0,
        request_capture: capture.request,
        response_capture: capture.response,
        undecided_until: 0,
        undecided_bytes: 0,
        unit: UnitSource { kind: unit::NONE, generation: 0, words: [0; SOURCE_WORDS] },
    };
    if Selected::insert(tgid, process) {
        debug!(ctx, "process {} selected by its cgroup", tgid);
    }
}

/// A process listens on a TCP port.
#[inline(always)]
pub fn listens(selected: bool, tgid: u32, port: u16) {
    if !selected && interests() & interest::LISTENERS == 0 {
        return;
    }
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
pub fn forked(ctx: &impl EbpfContext, forking: Task, forked: Task) {
    let (parent, child) = (forking.tgid(), forked.tgid());
    if parent == child {
        return;
    }
    let Some(process) = Selected::find(parent) else { return };
    if !Selected::insert(child, process.for_child()) {
        return;
    }
    fork::forked(process, forking, forked);
    debug!(ctx, "process {} selected as a child of {}", child, parent);
    if !report(lifecycle::FORK, parent, child, [0; 16]) {
        Selected::stop_undecided(child);
    }
}

/// A thread ends. A selected process ends with its last thread.
#[inline(always)]
pub fn exited(ctx: &impl EbpfContext, task: Task) {
    let tgid = task.tgid();
    let Some(process) = Selected::known(tgid) else { return };
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
