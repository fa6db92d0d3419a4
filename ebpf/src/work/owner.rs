//! What a thread does on a stream, and the owner that follows from it.

use onlooker_common::async_ids::begun_by;
use onlooker_common::connection::role;
use onlooker_common::owner::evidence;
use onlooker_common::selection::{SelectedProcess, process_flag};
use onlooker_common::unit;

use crate::globals::injects;
use crate::inject::trace;
use crate::kernel::sock::SockAddress;
use crate::kernel::task::Task;
use crate::process;
use crate::selected::Selected;
use crate::state::event_loop::verdict;
use crate::state::owner::SharedOwner;
use crate::state::stream::{Direction, Stream, StreamState, bit};
use crate::state::thread::Thread;
use crate::state::unit::Unit;
use crate::work::announced;
use crate::work::fork;
use crate::work::units::{self, thread};
use crate::work::waiting::{self, is_only_runnable, is_open};
use crate::work::woken;

/// A thread of a selected process.
#[derive(Clone, Copy)]
pub struct Worker {
    pub process: Selected,
    pub task: Task,
    pub tgid: u32,
    pub tid: u32,
}

impl Worker {
    /// The current thread, of `process`.
    ///
    /// # Safety
    /// `process` must be a live value of the map, or null.
    #[inline(always)]
    unsafe fn current(process: *mut SelectedProcess) -> Option<Self> {
        let task = Task::current();
        // SAFETY: the caller's promise.
        let process = unsafe { Selected::new(process) }?;
        Some(Self { process, task, tgid: task.tgid(), tid: task.pid() })
    }

    /// Whether the thread does not prove whose work the unit that uses the stream does.
    #[inline(always)]
    fn in_loop(&self, stream: Stream) -> bool {
        stream.in_loop() != 0
    }

    /// The thread did something that proves an event loop.
    #[inline(always)]
    fn shows_loop(&self, thread: Thread) {
        if thread::is_judged(self.process, thread) {
            self.process.set(process_flag::LOOP);
        }
    }

    /// Bytes moved on a stream at `position`. `begins`: a run begins with them.
    #[inline(always)]
    pub fn moved(&self, stream: Stream, socket: SockAddress, direction: Direction, begins: bool, position: u64) {
        let (process, stream, begins) = (self.process.as_ptr(), stream.as_ptr(), u32::from(begins));
        match direction {
            Direction::Ingress => work_received(process, stream, socket.value(), begins, position),
            Direction::Egress => work_sent(process, stream, begins, position),
        };
    }

    /// The process learns that nothing more will be read: it read the peer's FIN, or an error.
    #[inline(always)]
    pub fn input_ended(&self, stream: Stream) {
        work_input_ended(self.process.as_ptr(), stream.as_ptr());
    }

    #[inline(always)]
    fn request_read(&self, stream: Stream, socket: SockAddress, begins: bool, position: u64) {
        if begins {
            choose_ids(stream, None);
            stream.set_message_position(position);
            stream.set_thread(self.tid);
            waiting::request_begins(stream, self.process, self.tgid);
            if injects() {
                trace::received(stream, position);
            }
        }
        let Some(thread) = thread::state(self.task) else { return };
        if self.in_loop(stream) && !self.process.has(process_flag::LOOP) {
            // The thread carries a unit that may move to another one, and remembers nothing of it.
            // The tick is only a place for the value, which the stack has no room for.
            thread.tick().set(stream.cookie(), stream.message_position(), stream.message(), evidence::THREAD);
            units::works_on(self.process, self.tgid, stream.current_unit(), thread.tick());
            thread.tick().clear();
            return;
        }
        if !self.in_loop(stream) && thread.request().cookie() != stream.cookie() && thread.owes_response() {
            self.shows_loop(thread);
        }
        for owner in [thread.request(), thread.tick()] {
            owner.set(stream.cookie(), stream.message_position(), stream.message(), evidence::THREAD);
        }
        units::works_on(self.process, self.tgid, stream.current_unit(), thread.request());
        units::tick_continues(stream.current_unit(), thread, begun_by::REQUEST);
        thread.set_answered(0);
        thread.set_socket(socket);
        // Of plaintext, it is set by who knows it.
        thread.set_socket_cookie(stream.cookie());
    }

    #[inline(always)]
    fn response_written(&self, stream: Stream, begins: bool) {
        waiting::request_ends(stream);
        if !begins {
            return;
        }
        let Some(thread) = thread::state(self.task) else { return };
        if !self.in_loop(stream) && stream.thread() != 0 && stream.thread() != self.tid {
            // One thread read the request and another answers it.
            self.shows_loop(thread);
        }
        thread.owes_nothing_on(stream.cookie());
    }

    /// A message's owner is found at the beginning of its run, or when another unit writes to a connection that units share.
    #[inline(always)]
    fn call_sent(&self, stream: Stream, begins: bool, position: u64) {
        if injects() && begins {
            if stream.is(bit::DECIDED) {
                stream.clear(bit::DECIDED);
                return;
            }
            stream.clear(bit::SENDS_CONTEXT);
        }
        let unit = stream.current_unit();
        if !begins && stream.writer() == unit.words[0] {
            return;
        }
        if !begins {
            stream.set(bit::SHARED);
        }
        let writer = stream.writer();
        stream.set_writer(unit.words[0]);
        stream.clear(bit::CORRECTED);
        process::calls(self.process, self.tgid);
        // The owner waited for the connection until now.
        waiting::call_ends(stream, self.process);
        let found = thread::state(self.task).is_some_and(|thread| self.find_owner(thread, stream, unit, writer));
        if found {
            stream.clear(bit::GUESSED);
            choose_ids(stream, Some(stream.owner()));
        } else {
            stream.owner().clear();
            choose_ids(stream, None);
        }
        if injects() {
            trace::find(stream);
            trace::sent(stream, position as u32);
        }
        stream.set_message_position(position);
        stream.set_thread(self.tid);
        stream.set(bit::SENT);
        waiting::call_begins(stream, self.process);
    }

    /// Sets the stream's owner to that of the message now sent. Returns whether one was found. `writer`: the unit that wrote to
    /// the stream before.
    #[inline(always)]
    fn find_owner(&self, thread: Thread, stream: Stream, unit: Unit, writer: u64) -> bool {
        // The connection's own goroutine sends what another one announced.
        if unit.kind == unit::GOROUTINE
            && let Some(found) = announced::take(self.tgid, self.task, stream.owner(), evidence::GOROUTINE)
        {
            return found;
        }
        if thread.event_loop().current_verdict() == verdict::OWNED {
            let owner = thread.event_loop().owner();
            // What was born from a likely owner's work is no more certain than that.
            let is_likely = owner.evidence() == evidence::TICK;
            stream.owner().copy_with_evidence(owner, if is_likely { evidence::TICK } else { evidence::ASYNC_ID });
            return true;
        }
        if let Some((owner, evidence)) = units::open_request_of(self.tgid, unit) {
            stream.owner().copy_with_evidence(owner, evidence);
            return true;
        }
        if unit.kind == unit::TOKIO_TASK && woken::owner(self.tgid, stream, writer) {
            return true;
        }
        if !self.in_loop(stream) && is_open(thread.request()) && thread.may_still_respond() {
            stream.owner().copy_with_evidence(thread.request(), evidence::THREAD);
            return true;
        }
        if let Some(request) = fork::request(thread) {
            stream.owner().copy(request);
            return true;
        }
        if !stream.is(bit::SENT) && is_open(stream.owner()) {
            stream.owner().set_evidence(evidence::CONNECT);
            return true;
        }
        if thread.event_loop().current_verdict() == verdict::UNKNOWN {
            return false;
        }
        if self.in_loop(stream) && is_open(thread.tick()) && is_only_runnable(thread.tick(), self.process) {
            stream.owner().copy_with_evidence(thread.tick(), evidence::TICK);
            return true;
        }
        false
    }

    /// A connection is opened for the request that the thread works on. An event loop may read several requests before it
    /// opens a connection for one of them.
    #[inline(always)]
    pub fn connection_opened(&self, stream: Stream) {
        let Some(thread) = thread::state(self.task) else { return };
        units::note(self.process, self.tgid, self.tid, stream);
        woken::opened(stream);
        match thread.event_loop().current_verdict() {
            verdict::OWNED => {
                stream.owner().copy(thread.event_loop().owner());
                waiting::call_begins(stream, self.process);
                return;
            }
            verdict::UNKNOWN => return,
            _ => {}
        }
        let in_loop = self.in_loop(stream);
        if let Some((owner, _)) = units::open_request_of(self.tgid, stream.current_unit()) {
            stream.owner().copy(owner);
            waiting::call_begins(stream, self.process);
            return;
        }
        let owner = if in_loop { thread.tick() } else { thread.request() };
        if is_open(owner) && (!in_loop || is_only_runnable(owner, self.process)) {
            stream.owner().copy(owner);
            waiting::call_begins(stream, self.process);
        }
    }

    /// Something was read that belongs to no known request. In a loop of Node, callbacks of other requests run then.
    #[inline(always)]
    pub fn unrelated_read(&self) {
        if !self.process.reads_async_ids(self.tgid) {
            return;
        }
        if let Some(thread) = thread::state(self.task) {
            thread.tick().clear();
            units::tick_ends(self.process, self.tgid, self.tid, begun_by::UNKNOWN);
        }
    }

    /// The tick now belongs to the request that made the call.
    #[inline(always)]
    fn response_read(&self, stream: Stream, begins: bool) {
        waiting::call_ends(stream, self.process);
        if begins && stream.unit_kind() == unit::TOKIO_TASK && !stream.is(bit::MIXED) && !stream.has_frames() {
            woken::correct_woken_owner(stream.as_ptr(), self.tgid);
        }
        let Some(thread) = thread::state(self.task) else { return };
        if stream.is(bit::GUESSED) {
            // It may have been a request. The owner of what follows is unknown.
            thread.request().clear();
            thread.tick().clear();
            units::tick_continues(stream.current_unit(), thread, begun_by::UNKNOWN);
            return;
        }
        let owner = stream.owner();
        let of_another = owner.is_known() && !owner.is_same_request(thread.request());
        if begins && of_another && !self.in_loop(stream) && thread.owes_response() {
            // It continues one request while it owes the response to another.
            self.shows_loop(thread);
        }
        if stream.is(bit::SHARED) {
            thread.tick().clear();
        } else {
            thread.tick().copy(owner);
        }
        units::tick_continues(stream.current_unit(), thread, begun_by::RESPONSE);
    }

    /// On a client connection the tick now belongs to the request whose call ended.
    #[inline(always)]
    fn nothing_more_read(&self, stream: Stream) {
        let Some(thread) = thread::state(self.task) else { return };
        if stream.has_frames() {
            // Several requests may wait for what ended.
            thread.tick().clear();
        } else if stream.role() == role::CLIENT {
            waiting::call_ends(stream, self.process);
            thread.tick().copy(stream.owner());
        } else {
            thread.tick().clear();
            thread.owes_nothing_on(stream.cookie());
        }
        units::tick_ends(self.process, self.tgid, self.tid, begun_by::UNKNOWN);
    }
}

/// The verifier checks a global function once, by itself. It would check inlined code again for every path that leads to it. The
/// results mean nothing: a global function must have one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn work_received(
    process: *mut SelectedProcess,
    stream: *mut StreamState,
    socket: u64,
    begins: u32,
    position: u64,
) -> u32 {
    // SAFETY: live values of the caller, or null as far as the verifier knows.
    if let (Some(worker), Some(stream)) = unsafe { (Worker::current(process), Stream::new(stream)) } {
        match stream.role() {
            role::SERVER => worker.request_read(stream, SockAddress::from_value(socket), begins != 0, position),
            role::CLIENT => worker.response_read(stream, begins != 0),
            _ => worker.unrelated_read(),
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn work_sent(process: *mut SelectedProcess, stream: *mut StreamState, begins: u32, position: u64) -> u32 {
    // SAFETY: as above.
    if let (Some(worker), Some(stream)) = unsafe { (Worker::current(process), Stream::new(stream)) } {
        match stream.role() {
            role::SERVER => worker.response_written(stream, begins != 0),
            role::CLIENT => worker.call_sent(stream, begins != 0, position),
            _ => {}
        }
    }
    0
}

/// Finds owner and ids of the message that is about to be sent on a client connection.
#[inline(always)]
pub fn decide(process: Selected, stream: Stream, position: u64) {
    work_sent(process.as_ptr(), stream.as_ptr(), 1, position);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn work_input_ended(process: *mut SelectedProcess, stream: *mut StreamState) -> u32 {
    // SAFETY: as above.
    if let (Some(worker), Some(stream)) = unsafe { (Worker::current(process), Stream::new(stream)) } {
        worker.nothing_more_read(stream);
    }
    0
}

/// Chooses the ids of a new message. Its trace is the owner's, if there is one.
///
/// Ids are made from two random words of the stream: a seed for SplitMix64 (Steele et al., 2014), and a mask for the upper
/// half of trace ids, so that all their 128 bits are random. That costs a tenth of the helper for random words.
#[inline(always)]
pub fn choose_ids(stream: Stream, owner: Option<SharedOwner>) {
    let mut seed = stream.id_seed();
    let mut next = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let trace_id = match owner {
        Some(owner) => owner.ids().trace_id(),
        None => [stream.id_mask() ^ next(), next()],
    };
    let span_id = next();
    stream.set_id_seed(seed);
    stream.message().set(trace_id, span_id);
}
