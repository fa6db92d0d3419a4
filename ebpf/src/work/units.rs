//! Units of work: what executes one request's work. Each kind of unit has a file.

pub mod go;
pub mod jvm;
pub mod node;
pub mod python;
pub mod thread;
pub mod tokio;

use onlooker_common::owner::evidence;
use onlooker_common::selection::{SelectedProcess, process_flag};
use onlooker_common::unit::{self, UnitKey};

use crate::kernel::task::Task;
use crate::maps::UNITS;
use crate::selected::Selected;
use crate::state::owner::SharedOwner;
use crate::state::stream::{Stream, StreamState};
use crate::state::thread::Thread;
use crate::state::unit::Unit;
use crate::work::started;
use crate::work::waiting::is_open;

impl Unit {
    pub const UNKNOWN: Self = Self { kind: unit::NONE, words: [0; 2] };
}

/// Notes in the stream which unit uses it in the current system call. Where the runtime has none of its own, it is the
/// thread.
///
/// Finding another one is left to a global function, which the verifier checks once, by itself. It would check inlined code again
/// for every path that leads to it.
#[inline(always)]
pub fn note(process: Selected, tgid: u32, tid: u32, stream: Stream) {
    if process.has_no_unit_source() {
        // Most processes, without the cost of a call.
        let Unit { kind, words } = thread::unit(process, tid);
        stream.used_by(kind, words);
        stream.set_in_loop(u32::from(process.has(process_flag::LOOP | process_flag::SCHEDULER)));
        return;
    }
    note_unit(process.as_ptr(), stream.as_ptr(), tgid, tid);
}

/// The result means nothing: a global function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_unit(process: *mut SelectedProcess, stream: *mut StreamState, tgid: u32, tid: u32) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    if let (Some(process), Some(stream)) = unsafe { (Selected::new(process), Stream::new(stream)) } {
        note_in(process, Task::current(), tgid, tid, stream);
        let may_move = process.has(process_flag::SCHEDULER) && stream.unit_kind() != unit::THREAD;
        stream.set_in_loop(u32::from(may_move || process.has(process_flag::LOOP)));
    }
    0
}

#[inline(always)]
fn note_in(process: Selected, task: Task, tgid: u32, tid: u32, stream: Stream) {
    let source = process.unit_source(tgid);
    // SAFETY: a live value of the map, which other CPUs may write.
    let kind = unsafe { core::ptr::read_volatile(&raw const (*source).kind) };
    if kind == unit::VIRTUAL_THREAD {
        jvm::note(process, source, task, tid, stream);
        return;
    }
    let words = match kind {
        unit::GOROUTINE => go::read(source, task),
        unit::PYTHON_CONTEXT => python::read(source, task),
        unit::TOKIO_TASK => tokio::read(source, task),
        unit::ASYNC_ID => node::read_and_judge(source, task, tid),
        _ => None,
    };
    match words {
        Some(words) => stream.used_by(kind, words),
        None => {
            let Unit { kind, words } = thread::unit(process, tid);
            stream.used_by(kind, words);
        }
    }
}

/// The evidence that a unit of this kind gives. `None` for units that prove nothing by themselves, or only afterwards: Python's
/// event loops read a request in a context of the connection and work on it in another one, whose address may have been that
/// of a context of a closed connection.
#[inline(always)]
fn evidence(kind: u32) -> Option<u32> {
    match kind {
        unit::GOROUTINE => Some(evidence::GOROUTINE),
        unit::VIRTUAL_THREAD => Some(evidence::VIRTUAL_THREAD),
        unit::TOKIO_TASK => Some(evidence::TASK),
        _ => None,
    }
}

/// A process's unit reads a request: it works on that from now on.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
pub fn works_on(process: Selected, tgid: u32, unit: Unit, request: SharedOwner) {
    let id = unit.words[0];
    if unit.kind == unit::TOKIO_TASK {
        tokio::works_on(tgid, id, request);
        return;
    }
    if unit.kind == unit::GOROUTINE {
        if request_of(tgid, unit.kind, id).is_some_and(|known| known.is_same_request(request)) {
            return;
        }
        // Before the request: what it had started before must not be taken for this one's.
        started::note_unused_ids(process.as_ptr(), tgid, id);
    }
    if evidence(unit.kind).is_some() {
        // SAFETY: a live value. If the kernel has no room, it forgets another unit.
        let _ = unsafe { UNITS.insert(UnitKey { tgid, kind: unit.kind, id }, &*request.as_ptr(), 0) };
    }
}

/// An event loop of Node begins to work for the owner of its current tick. `by` is one of `common::async_ids::begun_by`.
#[inline(always)]
pub fn tick_continues(unit: Unit, thread: Thread, by: u32) {
    if unit.kind == unit::ASYNC_ID {
        node::begins(thread, by);
    }
}

/// An event loop of Node waits for events, or does something whose owner is unknown.
#[inline(always)]
pub fn tick_ends(process: Selected, tgid: u32, tid: u32, by: u32) {
    if process.reads_async_ids(tgid) {
        node_tick_ends(process.as_ptr(), tgid, tid, by);
    }
}

/// A global function, as `note_unit`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn node_tick_ends(process: *mut SelectedProcess, tgid: u32, tid: u32, by: u32) -> u32 {
    let task = Task::current();
    // SAFETY: a live value of the caller, or null as far as the verifier knows.
    if let (Some(process), Some(thread)) = (unsafe { Selected::new(process) }, thread::state(task)) {
        node::before_wait(thread);
        thread.event_loop().set_session(0);
        if node::read(process.unit_source(tgid), task, tid).is_some() {
            node::begins(thread, by);
        }
    }
    0
}

/// An open request that a process's unit works on, and the evidence that this is so.
#[inline(always)]
pub fn open_request_of(tgid: u32, unit: Unit) -> Option<(SharedOwner, u32)> {
    let evidence = evidence(unit.kind)?;
    let mut found = request_of(tgid, unit.kind, unit.words[0]);
    if found.is_none() && unit.kind == unit::GOROUTINE {
        found = inherit(tgid, unit);
    }
    found.filter(|&request| is_open(request)).map(|request| (request, evidence))
}

/// The request that a unit of a process works on, whether it is open or not.
#[inline(always)]
pub fn request_of(tgid: u32, kind: u32, id: u64) -> Option<SharedOwner> {
    let request = UNITS.get_ptr_mut(UnitKey { tgid, kind, id })?;
    // SAFETY: a live value of the map. Between this and its use the kernel may give its place to another unit, when it has no
    // room left and has not seen this one for longest.
    Some(unsafe { SharedOwner::within(request) })
}

/// A goroutine is seen for the first time. It works for the request that the goroutine that started it works on now, if it was started for
/// that, and never for a later one: a goroutine in the background outlives the request that started it. Its own children
/// inherit nothing.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "passed by value, the owner would go over the stack")]
fn inherit(tgid: u32, unit: Unit) -> Option<SharedOwner> {
    let source = Selected::find(tgid)?.unit_source(tgid);
    let starter = go::starter(source, Task::current())?;
    let parent = request_of(tgid, unit.kind, starter).filter(|request| request.evidence() != evidence::GOROUTINE)?;
    // A goroutine that handles a stream of HTTP/2 works on no other request. One that reads requests may have started it for an
    // earlier one.
    if parent.evidence() == evidence::THREAD && started::started_since_request(tgid, starter, unit.words[0]) == 0 {
        return None;
    }
    // SAFETY: a live value.
    let _ = unsafe { UNITS.insert(UnitKey { tgid, kind: unit.kind, id: unit.words[0] }, &*parent.as_ptr(), 0) };
    let own = request_of(tgid, unit.kind, unit.words[0])?;
    own.set_evidence(evidence::GOROUTINE);
    Some(own)
}
