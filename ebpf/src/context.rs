//! Whose work is being done: requests become owners of the messages sent on their behalf.
//!
//! In this order: the thread that read a request, where a thread stays with its request; whoever opened a connection,
//! for its first message; the event loop's turn, where no other request could be meant. What can't be proven is nobody.
//! A thread that owes an answer and reads another request, or the answer to another's call, or goes to wait for events with
//! the request's connection in an epoll set, shows that its process runs a loop, and so does one that answers what another
//! read: from then on threads prove nothing there.

use aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::bpf_task_storage_get;
use core::ptr;
use onlooker_common::context::{MessageIds, Owner, evidence};
use onlooker_common::event::role;
use onlooker_common::loss::Loss;
use onlooker_common::process::{Waiting, process_flag};

use crate::atomic;
use crate::connection::{ConnectionState, bit};
use crate::kernel::{FormerSock, Sock, Task};
use crate::maps::{COMPLETED, THREADS, WAITING, count};
use crate::process::{self, Selected};

/// What a thread is doing: lives in its task storage.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ThreadState {
    /// The request that the thread read last. Stays after the answer: a streaming answer makes calls.
    request: Owner,
    /// Whose turn of the event loop it is.
    tick: Owner,
    /// 1 once `request` has been answered, at least in part, or will not be.
    answered: u64,
    /// What `request` was read from.
    socket: FormerSock,
}

impl ThreadState {
    /// Whether the request that it read last waits for its answer. One whose connection another thread closed does not.
    #[inline(always)]
    fn owes_answer(&self) -> bool {
        self.request.cookie != 0 && self.answered == 0 && self.socket.is_connection(self.request.cookie)
    }

    /// Whether the request that it read last can still be worked on: what was answered may go on until its connection ends.
    #[inline(always)]
    fn may_still_answer(&self) -> bool {
        self.answered == 0 || self.socket.is_connection(self.request.cookie)
    }
}

/// The state of `task`, if it could be given one.
#[inline(always)]
pub fn thread(task: Task) -> Option<&'static mut ThreadState> {
    // SAFETY: the task is current and the map's value is a ThreadState, zeroed when made: valid for it. Only this
    // thread uses it, and it lives as long as the thread.
    unsafe {
        let state = bpf_task_storage_get(
            THREADS.as_ptr(),
            task.as_ptr(),
            ptr::null_mut(),
            u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE),
        );
        let state = state.cast::<ThreadState>().as_mut();
        if state.is_none() {
            count(Loss::NoTaskStorage);
        }
        state
    }
}

/// New ids for a message on the connection: its trace is the owner's, where there is one.
///
/// A connection's ids come from two random words: one that all its traces share, and one that SplitMix64 (Steele et al.,
/// 2014) goes on from, at a tenth of what a helper's random words would cost.
#[inline(always)]
fn identity(state: &mut ConnectionState, owner: Option<&Owner>) -> MessageIds {
    let [shared, mut seed] = state.ids;
    let mut next = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let trace_id = match owner {
        Some(owner) => owner.context.trace_id,
        None => [shared, next()],
    };
    let span_id = next();
    state.ids[1] = seed;
    MessageIds { trace_id, span_id }
}

/// Who does something on a connection.
pub struct Work {
    pub process: Selected,
    pub task: Task,
    pub tgid: u32,
    pub tid: u32,
}

impl Work {
    #[inline(always)]
    fn in_loop(&self) -> bool {
        self.process.has(process_flag::LOOP)
    }

    /// What was seen no thread does that stays with its request.
    #[inline(always)]
    fn shows_loop(&self) {
        self.process.set(process_flag::LOOP);
    }

    /// Bytes of a request were read.
    #[inline(always)]
    pub fn request_read(&self, sock: Sock, state: &mut ConnectionState, begins: bool, position: u64) {
        if begins {
            state.message = identity(state, None);
            state.message_position = position;
            state.thread = self.tid;
            state.begin_request(self.process, self.tgid);
        }
        let Some(thread) = thread(self.task) else { return };
        if !self.in_loop() && thread.request.cookie != state.cookie && thread.owes_answer() {
            self.shows_loop();
        }
        let owner = Owner {
            cookie: state.cookie,
            position: state.message_position,
            context: state.message,
            evidence: evidence::THREAD,
            _pad: 0,
        };
        thread.request = owner;
        thread.tick = owner;
        thread.answered = 0;
        thread.socket = sock.former();
    }

    /// Bytes of a response were written.
    #[inline(always)]
    pub fn response_written(&self, state: &mut ConnectionState, begins: bool) {
        settle(state);
        if !begins {
            return;
        }
        if !self.in_loop() && state.thread != 0 && state.thread != self.tid {
            // Read by one thread, answered by another: what the first one does, it may do for anybody.
            self.shows_loop();
        }
        no_answer_owed(thread(self.task), state);
    }

    /// Bytes of a message to a server were written. Where one begins, it is settled whose work that is: with the run, or
    /// with another thread on a connection that threads share.
    #[inline(always)]
    pub fn call_sent(&self, state: &mut ConnectionState, begins: bool, position: u64) {
        if !begins && (state.thread == self.tid || self.in_loop()) {
            return;
        }
        process::calls(self.process, self.tgid);
        // It waited for the connection until now.
        end_waiting(self.process, state);
        let owner = thread(self.task).and_then(|thread| self.owner_of_call(thread, state));
        if owner.is_some() {
            state.clear(bit::GUESSED);
        }
        state.message = identity(state, owner.as_ref());
        state.message_position = position;
        state.thread = self.tid;
        state.set(bit::SENT);
        state.owner = owner.unwrap_or_default();
        self.begin_waiting(state);
    }

    /// A connection is opened: on behalf of whatever is being done.
    #[inline(always)]
    pub fn connection_opened(&self, state: &mut ConnectionState) {
        if let Some(thread) = thread(self.task)
            && let Some(owner) = self.opener(thread)
        {
            state.owner = owner;
            self.begin_waiting(state);
        }
    }

    /// Whose context a connection is opened in. An event loop may read several requests before it opens a connection for any.
    #[inline(always)]
    fn opener(&self, thread: &ThreadState) -> Option<Owner> {
        let in_loop = self.in_loop();
        let owner = if in_loop { &thread.tick } else { &thread.request };
        let is_meant = is_open(owner) && (!in_loop || self.is_only_candidate(owner));
        is_meant.then_some(*owner)
    }

    #[inline(always)]
    fn owner_of_call(&self, thread: &ThreadState, state: &ConnectionState) -> Option<Owner> {
        let in_loop = self.in_loop();
        if !in_loop && is_open(&thread.request) && thread.may_still_answer() {
            return Some(Owner { evidence: evidence::THREAD, ..thread.request });
        }
        if !state.is(bit::SENT) && is_open(&state.owner) {
            return Some(Owner { evidence: evidence::CONNECT, ..state.owner });
        }
        if in_loop && is_open(&thread.tick) && self.is_only_candidate(&thread.tick) {
            return Some(Owner { evidence: evidence::TICK, ..thread.tick });
        }
        None
    }

    /// Whether no request of the process but `owner`'s can be meant: all others wait for answers.
    #[inline(always)]
    fn is_only_candidate(&self, owner: &Owner) -> bool {
        if self.process.has(process_flag::SCHEDULER) {
            return false;
        }
        if self.process.has(process_flag::NO_QUEUE) {
            return true;
        }
        // Nothing is proven by a count that has gone wrong.
        if self.process.has(process_flag::MISCOUNTED) {
            return false;
        }
        let is_counted = match WAITING.get_ptr(owner.cookie) {
            // SAFETY: a live value of the map.
            Some(waiting) => unsafe {
                let (of, calls, answered) = ((*waiting).position, (*waiting).calls, (*waiting).answered);
                of < owner.position || (of == owner.position && calls == 0 && answered == 0)
            },
            None => true,
        };
        self.process.runnable() == i64::from(is_counted)
    }

    /// In an event loop, the owner waits for what happens on the connection, and is out of the count meanwhile.
    #[inline(always)]
    fn begin_waiting(&self, state: &mut ConnectionState) {
        let owner = &state.owner;
        if owner.cookie == 0 || !self.in_loop() {
            return;
        }
        let known = match WAITING.get_ptr_mut(owner.cookie) {
            // SAFETY: a live value of the map.
            Some(waiting) if unsafe { (*waiting).position == owner.position } => waiting,
            // What it does for a request that another has followed takes that out of no count.
            // SAFETY: as above.
            Some(waiting) if unsafe { (*waiting).position > owner.position } => return,
            _ => {
                let fresh = Waiting { position: owner.position, calls: 0, answered: 0 };
                if WAITING.insert(owner.cookie, fresh, 0).is_err() {
                    count(Loss::RequestsFull);
                    return;
                }
                let Some(waiting) = WAITING.get_ptr_mut(owner.cookie) else { return };
                waiting
            }
        };
        // SAFETY: a live, aligned value of the map.
        unsafe {
            let before = atomic::fetch_add(&raw mut (*known).calls, 1);
            if before == 0 && (*known).answered == 0 {
                self.process.add_runnable(-1);
            }
        }
        state.set_awaited(true);
    }

    /// Bytes of a response were read: the turn is that of the request which asked.
    #[inline(always)]
    pub fn answer_read(&self, state: &mut ConnectionState, begins: bool) {
        end_waiting(self.process, state);
        let Some(thread) = thread(self.task) else { return };
        if state.is(bit::GUESSED) {
            // It may have been a request: of what follows nobody knows whose work it is.
            thread.request = Owner::default();
            thread.tick = Owner::default();
            return;
        }
        let asked = &state.owner;
        let of_another = asked.cookie != thread.request.cookie || asked.position != thread.request.position;
        if begins && asked.cookie != 0 && of_another && !self.in_loop() && thread.owes_answer() {
            // It goes on with one request while it owes the answer to another.
            self.shows_loop();
        }
        thread.tick = *asked;
    }

    /// No more will be read on the connection: the peer's FIN was, or an error. What follows on an event loop is done for the
    /// request whose call this ends; for none, where a client is gone.
    #[inline(always)]
    pub fn nothing_more(&self, state: &mut ConnectionState) {
        let Some(thread) = thread(self.task) else { return };
        if state.role == role::CLIENT {
            end_waiting(self.process, state);
            thread.tick = state.owner;
        } else {
            thread.tick = Owner::default();
            no_answer_owed(Some(thread), state);
        }
    }
}

/// The thread owes no answer on a connection: it wrote one, could not, or was told that nobody will ask any more.
#[inline(always)]
pub fn no_answer_owed(thread: Option<&mut ThreadState>, state: &ConnectionState) {
    if let Some(thread) = thread
        && thread.request.cookie == state.cookie
    {
        thread.answered = 1;
    }
}

/// The request on a server connection is answered, or never will be.
#[inline(always)]
pub fn settle(state: &mut ConnectionState) {
    let Some(process) = state.end_request() else { return };
    if process.has(process_flag::CALLS) && process.has(process_flag::LOOP) {
        match WAITING.get_ptr_mut(state.cookie) {
            // SAFETY: a live value of the map.
            Some(waiting) if unsafe { (*waiting).position == state.message_position } => unsafe {
                (*waiting).answered = 1;
                if (*waiting).calls > 0 {
                    // Its calls took it out of the count already.
                    return;
                }
            },
            _ => {
                // So that a call it makes later takes it out of no count again.
                let answered = Waiting { position: state.message_position, calls: 0, answered: 1 };
                if WAITING.insert(state.cookie, answered, 0).is_err() {
                    count(Loss::RequestsFull);
                }
            }
        }
    }
    process.add_runnable(-1);
}

/// Whether the request is named at all, and the agent has not said that it is complete.
#[inline(always)]
fn is_open(owner: &Owner) -> bool {
    if owner.cookie == 0 {
        return false;
    }
    match COMPLETED.get_ptr(owner.cookie) {
        // SAFETY: a live value of the map.
        Some(until) => owner.position >= unsafe { *until },
        None => true,
    }
}

/// The call on this connection has its answer, or never will.
#[inline(always)]
pub fn end_waiting(process: Selected, state: &mut ConnectionState) {
    if !state.set_awaited(false) {
        return;
    }
    let Some(waiting) = WAITING.get_ptr_mut(state.owner.cookie) else {
        // The map had no room for it any more: whether the request is out of the count, nobody knows.
        process.set(process_flag::MISCOUNTED);
        return;
    };
    // SAFETY: a live, aligned value of the map.
    unsafe {
        if (*waiting).position != state.owner.position {
            return;
        }
        let before = atomic::fetch_add(&raw mut (*waiting).calls, -1);
        if before == 1 && (*waiting).answered == 0 {
            process.add_runnable(1);
        }
    }
}

/// What the thread does from now on is done for this request, on an event loop.
#[inline(always)]
pub fn turn_to(thread: &mut ThreadState, owner: &Owner) {
    thread.tick = *owner;
}

/// The thread forgets a request whose connection it closes.
#[inline(always)]
pub fn forget(thread: &mut ThreadState, cookie: u64) {
    if thread.request.cookie == cookie {
        thread.request = Owner::default();
    }
    if thread.tick.cookie == cookie {
        thread.tick = Owner::default();
    }
}

/// The thread goes to wait for events: nothing that follows belongs to what it read before.
///
/// `by_epoll`: what a loop waits in. A thread that waits so for something else, such as a database to connect to, has the
/// connection of its request in no epoll set meanwhile.
#[inline(always)]
pub fn boundary(process: Selected, by_epoll: bool) {
    let Some(thread) = thread(Task::current()) else { return };
    thread.tick = Owner::default();
    let in_loop = process.has(process_flag::LOOP);
    if by_epoll && !in_loop && thread.owes_answer() && thread.socket.is_waited_for() {
        process.set(process_flag::LOOP);
    }
}
