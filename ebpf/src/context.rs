//! Whose work is being done: requests become owners of the messages sent on their behalf.
//!
//! In this order: the thread that read a request, where a thread stays with its request; whoever opened a connection,
//! for its first message; the event loop's turn, where no other request could be meant. What can't be proven is nobody.
//! A thread that owes an answer and reads another request, or goes to wait for events with the request's connection in an
//! epoll set, shows that its process runs a loop: from then on threads prove nothing there.

use aya_ebpf::bindings::BPF_LOCAL_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_task_storage_get};
use core::ptr;
use onlooker_common::context::{Owner, TraceContext, evidence};
use onlooker_common::loss::Loss;
use onlooker_common::process::{Waiting, process_flag};

use crate::atomic;
use crate::connection::{ConnectionState, bit};
use crate::kernel::{FormerSock, Sock, Task};
use crate::maps::{COMPLETED, THREADS, WAITING, count};
use crate::process::Selected;

/// What a thread is doing: lives in its task storage.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ThreadState {
    /// The request that the thread read last. Stays after the answer: a streaming answer makes calls.
    request: Owner,
    /// Whose turn of the event loop it is.
    tick: Owner,
    /// How often the thread went to wait for events.
    pub turn: u32,
    /// 1 once `request` has been answered, at least in part, or will not be.
    answered: u32,
    /// What `request` was read from.
    socket: FormerSock,
}

impl ThreadState {
    /// Whether the request that it read last waits for its answer. One whose connection another thread closed does not.
    #[inline(always)]
    fn owes_answer(&self) -> bool {
        self.request.cookie != 0 && self.answered == 0 && self.socket.is_connection(self.request.cookie)
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

/// New ids; `trace_id` that of the owner's, where there is one.
#[inline(always)]
fn identity(owner: Option<&Owner>) -> TraceContext {
    // SAFETY: no arguments.
    let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    let trace_id = match owner {
        Some(owner) => owner.context.trace_id,
        None => [word(), word()],
    };
    TraceContext { trace_id, span_id: word() }
}

/// A thread of a server read bytes of a request.
#[inline(always)]
pub fn request_read(
    process: Selected,
    thread: Option<&mut ThreadState>,
    sock: Sock,
    state: &mut ConnectionState,
    begins: bool,
    position: u64,
) {
    if begins {
        state.message = identity(None);
        state.message_position = position;
        if !state.is(bit::IN_FLIGHT) {
            state.set(bit::IN_FLIGHT);
            process.add_runnable(1);
        }
    }
    let Some(thread) = thread else { return };
    if !process.has(process_flag::LOOP) && thread.request.cookie != state.cookie && thread.owes_answer() {
        process.set(process_flag::LOOP);
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

/// A thread of a server wrote bytes of a response.
#[inline(always)]
pub fn response_written(process: Selected, thread: Option<&mut ThreadState>, state: &mut ConnectionState) {
    settle(process, state);
    no_answer_owed(thread, state);
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
pub fn settle(process: Selected, state: &mut ConnectionState) {
    if !state.is(bit::IN_FLIGHT) {
        return;
    }
    state.clear(bit::IN_FLIGHT);
    if process.has(process_flag::CALLS)
        && let Some(waiting) = WAITING.get_ptr_mut(state.cookie)
    {
        // SAFETY: a live value of the map.
        let waits = unsafe {
            (*waiting).answered = 1;
            (*waiting).calls > 0 && (*waiting).position == state.message_position
        };
        if waits {
            // Its calls took it out of the count already.
            return;
        }
    }
    process.add_runnable(-1);
}

/// A message is sent to a server: settles whose work it is.
#[inline(always)]
pub fn call_begins(process: Selected, thread: Option<&mut ThreadState>, state: &mut ConnectionState, position: u64) {
    let owner = thread.and_then(|thread| owner_of_call(process, thread, state));
    state.message = identity(owner.as_ref());
    state.message_position = position;
    state.set(bit::SENT);
    state.owner = owner.unwrap_or_default();
    if state.owner.cookie != 0 && process.has(process_flag::LOOP) {
        begin_waiting(process, state);
    }
}

#[inline(always)]
fn owner_of_call(process: Selected, thread: &ThreadState, state: &ConnectionState) -> Option<Owner> {
    let in_loop = process.has(process_flag::LOOP);
    if !in_loop && is_open(&thread.request) {
        return Some(Owner { evidence: evidence::THREAD, ..thread.request });
    }
    if !state.is(bit::SENT) && is_open(&state.owner) {
        return Some(Owner { evidence: evidence::CONNECT, ..state.owner });
    }
    if in_loop && is_open(&thread.tick) && is_only_candidate(process, &thread.tick) {
        return Some(Owner { evidence: evidence::TICK, ..thread.tick });
    }
    None
}

/// Whose context a connection is opened in.
#[inline(always)]
pub fn opener(process: Selected, thread: &ThreadState) -> Option<Owner> {
    let owner = if process.has(process_flag::LOOP) { &thread.tick } else { &thread.request };
    if process.has(process_flag::SCHEDULER) || !is_open(owner) { None } else { Some(*owner) }
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

/// Whether no request of the process but `owner`'s can be meant: all others wait for answers.
#[inline(always)]
fn is_only_candidate(process: Selected, owner: &Owner) -> bool {
    if process.has(process_flag::SCHEDULER) {
        return false;
    }
    if process.has(process_flag::NO_QUEUE) {
        return true;
    }
    let itself = match WAITING.get_ptr(owner.cookie) {
        // SAFETY: a live value of the map.
        Some(waiting) => unsafe {
            (*waiting).position != owner.position || ((*waiting).calls == 0 && (*waiting).answered == 0)
        },
        None => true,
    };
    process.runnable() - i64::from(itself) <= 0
}

#[inline(always)]
fn begin_waiting(process: Selected, state: &mut ConnectionState) {
    let owner = &state.owner;
    let known = match WAITING.get_ptr_mut(owner.cookie) {
        // SAFETY: a live value of the map.
        Some(waiting) if unsafe { (*waiting).position == owner.position } => waiting,
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
            process.add_runnable(-1);
        }
    }
    state.set(bit::AWAITED);
}

/// A thread of a client read bytes of a response: the turn is that of the request which asked.
#[inline(always)]
pub fn answer_read(process: Selected, thread: Option<&mut ThreadState>, state: &mut ConnectionState) {
    end_waiting(process, state);
    if let Some(thread) = thread {
        thread.tick = state.owner;
    }
}

/// The call on this connection has its answer, or never will.
#[inline(always)]
pub fn end_waiting(process: Selected, state: &mut ConnectionState) {
    if !state.is(bit::AWAITED) {
        return;
    }
    state.clear(bit::AWAITED);
    let Some(waiting) = WAITING.get_ptr_mut(state.owner.cookie) else { return };
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
    thread.turn = thread.turn.wrapping_add(1);
    thread.tick = Owner::default();
    let in_loop = process.has(process_flag::LOOP);
    if by_epoll && !in_loop && thread.owes_answer() && thread.socket.is_waited_for() {
        process.set(process_flag::LOOP);
    }
}
