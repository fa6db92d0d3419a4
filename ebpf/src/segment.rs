//! The one body of both data probes: a socket operation of a selected process becomes an Event.
//!
//! It runs after the operation, with the socket, the result and the flags; what the system call was given is read from
//! the registers the task saved. Nothing is remembered between entry and exit, and an operation that is not a selected
//! process's is left at once.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::mem::MaybeUninit;
use onlooker_common::context::{Owner, unit};
use onlooker_common::event::{self, TAIL_BYTES, change, flag, kind, role};
use onlooker_common::limits::{LARGEST_CAPTURE, OPERATION_CAPTURE};
use onlooker_common::loss::Loss;
use onlooker_common::process::process_flag;

use crate::arguments::{self, Bytes};
use crate::connection::{self, ConnectionState, EGRESS, INGRESS, NO_DIRECTION, bit};
use crate::context::{self, ThreadState};
use crate::emit;
use crate::kernel::{AF_UNIX, Sock, Task};
use crate::maps::{RAISED, any_raised};
use crate::process::{self, Selected};
use crate::user;

/// include/linux/socket.h
const MSG_PEEK: i32 = 2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Records one socket operation that returned `result`.
#[inline(always)]
pub fn record(sock: Sock, result: i32, flags: i32, direction: Direction) {
    let (tgid, tid) = process::current();
    let Some(process) = Selected::find(tgid) else { return };
    if direction == Direction::Ingress && flags & (MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    // Nothing moved: an error, or, for a read, perhaps the peer's FIN.
    let fin = result == 0 && direction == Direction::Ingress;
    if result < 0 || (result == 0 && !fin) {
        if direction == Direction::Egress
            && let Some(state) = connection::known(sock)
        {
            context::no_answer_owed(context::thread(Task::current()), state);
        }
        return;
    }
    let family = sock.family();
    if !sock.is_stream(family) || (fin && !sock.peer_finished()) {
        return;
    }
    let Some(state) = connection::of(sock) else { return };
    let length = result as u32;
    let first = !state.is(bit::IDENTIFIED);
    if first {
        let read = if direction == Direction::Ingress { Some(length) } else { None };
        connection::identify(sock, state, family, read);
        if state.role == role::CLIENT {
            process::calls(process, tgid);
        }
    }
    state.tgid = tgid;
    if !state.is(bit::ANNOUNCED) && connection::report(sock, state, change::SEEN, tid) {
        state.set(bit::ANNOUNCED);
    }
    let operation = Operation { process, tgid, tid, direction, length, family, flags };
    operation.record(sock, state, first, fin);
}

/// What is known of the operation before its connection is asked.
struct Operation {
    process: Selected,
    tgid: u32,
    tid: u32,
    direction: Direction,
    length: u32,
    family: u16,
    flags: i32,
}

impl Operation {
    #[inline(always)]
    fn record(&self, sock: Sock, state: &mut ConnectionState, first: bool, fin: bool) {
        let egress = self.direction == Direction::Egress;
        let (position, opposite) = self.positions(sock, state, first);
        let begins = !fin && self.turn(state);
        let task = Task::current();
        let thread = context::thread(task);
        let turn = thread.as_ref().map_or(0, |thread| thread.turn);
        if fin {
            context::no_answer_owed(thread, state);
        } else {
            self.follow(thread, sock, state, begins, position);
        }

        let request_side = state.role == role::UNKNOWN || (state.role == role::SERVER) != egress;
        if begins {
            state.budget = self.budget(state, request_side);
        }
        let wanted = if fin { 0 } else { self.wanted(state.budget) };
        let source = if wanted == 0 || (!egress && self.flags & MSG_TRUNC != 0) {
            Bytes::Nowhere
        } else {
            arguments::bytes(task)
        };
        let segment = event::Segment {
            kind: kind::SEGMENT,
            captured: 0,
            // SAFETY: no arguments.
            time: unsafe { bpf_ktime_get_ns() },
            began: if egress { core::mem::take(&mut state.sending_since) } else { 0 },
            cookie: state.cookie,
            position,
            opposite,
            length: self.length,
            run: state.run,
            flags: (u32::from(egress) * flag::EGRESS)
                | (u32::from(begins) * flag::BEGINS)
                | (u32::from(state.is(bit::FROM_START)) * flag::FROM_START)
                | (u32::from(fin) * flag::FIN)
                | (u32::from(matches!(source, Bytes::Nowhere) && !fin) * flag::LENGTH_ONLY)
                | (u32::from(self.process.has(process_flag::LOOP)) * flag::LOOP),
            role: state.role,
            tail_length: 0,
            _pad: 0,
            tgid: self.tgid,
            tid: self.tid,
            turn,
            unit_kind: unit::NONE,
            unit: [0; 2],
            owner: if egress && state.role == role::CLIENT { state.owner } else { Owner::default() },
            message: state.message,
            peer: if self.family == AF_UNIX { unix_peer(sock) } else { 0 },
            tail: [0; TAIL_BYTES],
        };
        let loss = if begins && request_side { Loss::RingFullRequest } else { Loss::RingFullSegment };
        let captured = match source {
            Bytes::Nowhere => plain(segment, loss),
            Bytes::Buffer(from) => buffer(segment, loss, from, wanted),
            Bytes::Vector { iovecs, count } => vector(segment, loss, iovecs, count, wanted),
        };
        state.budget = state.budget.saturating_sub(captured);
    }

    /// Position of the operation's first byte, and how far the other direction had come.
    #[inline(always)]
    fn positions(&self, sock: Sock, state: &mut ConnectionState, first: bool) -> (u64, u64) {
        let egress = self.direction == Direction::Egress;
        let (own, other) = if egress { (1, 0) } else { (0, 1) };
        let (position, opposite) = match if self.family == AF_UNIX { None } else { sock.sequences() } {
            Some(sequences) => {
                let (after, beside) =
                    if egress { (sequences.write, sequences.copied) } else { (sequences.copied, sequences.write) };
                let sequence = after.wrapping_sub(self.length);
                if first {
                    (u64::from(sequence), u64::from(beside))
                } else {
                    (extend(state.next[own], sequence), extend(state.next[other], beside))
                }
            }
            None => (state.next[own], state.next[other]),
        };
        state.next[own] = position + u64::from(self.length);
        if first {
            state.next[other] = opposite;
        }
        (position, opposite)
    }

    /// Notes the direction; whether the conversation turned with this operation.
    #[inline(always)]
    fn turn(&self, state: &mut ConnectionState) -> bool {
        let now = if self.direction == Direction::Egress { EGRESS } else { INGRESS };
        let begins = state.last != now;
        if begins {
            if state.last != NO_DIRECTION {
                state.run = state.run.wrapping_add(1);
            }
            state.last = now;
        }
        begins
    }

    /// Whose work this is.
    #[inline(always)]
    fn follow(
        &self,
        thread: Option<&mut ThreadState>,
        sock: Sock,
        state: &mut ConnectionState,
        begins: bool,
        position: u64,
    ) {
        match (state.role, self.direction) {
            (role::SERVER, Direction::Ingress) => {
                context::request_read(self.process, thread, sock, state, begins, position);
            }
            (role::SERVER, Direction::Egress) => context::response_written(self.process, thread, state),
            (role::CLIENT, Direction::Egress) if begins => context::call_begins(self.process, thread, state, position),
            (role::CLIENT, Direction::Ingress) => context::answer_read(self.process, thread, state),
            _ => {}
        }
    }

    /// How many bytes of the run that begins may be captured.
    #[inline(always)]
    fn budget(&self, state: &ConnectionState, request_side: bool) -> u32 {
        let mut budget = if request_side { self.process.request_capture() } else { self.process.response_capture() };
        if any_raised()
            && let Some(raised) = RAISED.get_ptr(state.cookie)
        {
            // SAFETY: a live value of the map.
            let raised = unsafe { if request_side { (*raised).request } else { (*raised).response } };
            budget = if raised > budget { raised } else { budget };
        }
        budget
    }

    /// How many bytes of this operation are wanted: what is left of the run's budget, and a little in any case.
    #[inline(always)]
    fn wanted(&self, budget: u32) -> u32 {
        let mut wanted = if budget > OPERATION_CAPTURE { budget } else { OPERATION_CAPTURE };
        if wanted > LARGEST_CAPTURE {
            wanted = LARGEST_CAPTURE;
        }
        if wanted < self.length { wanted } else { self.length }
    }
}

/// A sequence number as the position nearest to `near`.
#[inline(always)]
fn extend(near: u64, sequence: u32) -> u64 {
    near.wrapping_add(sequence.wrapping_sub(near as u32) as i32 as i64 as u64)
}

#[inline(always)]
fn unix_peer(sock: Sock) -> u64 {
    sock.unix().and_then(|unix| unix.peer()).map_or(0, |peer| peer.assigned_cookie())
}

/// A record with room for `N` captured bytes.
#[repr(C)]
struct Record<const N: usize> {
    segment: event::Segment,
    payload: MaybeUninit<[u8; N]>,
}

#[inline(always)]
fn plain(segment: event::Segment, loss: Loss) -> u32 {
    if let Some(mut entry) = emit::reserve::<event::Segment>(loss) {
        entry.write(segment);
        emit::submit(entry);
    }
    0
}

/// Size classes: the ring wants sizes that the verifier knows.
#[inline(always)]
fn buffer(segment: event::Segment, loss: Loss, from: u64, wanted: u32) -> u32 {
    match wanted {
        0..=64 => buffer_class::<64>(segment, loss, from, wanted),
        65..=256 => buffer_class::<256>(segment, loss, from, wanted),
        257..=1024 => buffer_class::<1024>(segment, loss, from, wanted),
        1025..=8192 => buffer_class::<8192>(segment, loss, from, wanted),
        _ => buffer_class::<{ LARGEST_CAPTURE as usize }>(segment, loss, from, wanted),
    }
}

#[inline(always)]
fn buffer_class<const N: usize>(segment: event::Segment, loss: Loss, from: u64, wanted: u32) -> u32 {
    let Some(mut entry) = emit::reserve::<Record<N>>(loss) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the record has room for N bytes, and all of `segment` is written; what of the payload is not captured
    // is not said to be.
    let captured = unsafe {
        (&raw mut (*record).segment).write(segment);
        let captured = user::prefix::<N>((&raw mut (*record).payload).cast(), from, u64::from(wanted));
        (*record).segment.captured = captured;
        if captured < segment.length {
            (*record).segment.tail_length = user::tail(&mut (*record).segment.tail, from, u64::from(segment.length));
        }
        captured
    };
    emit::submit(entry);
    captured
}

#[inline(always)]
fn vector(segment: event::Segment, loss: Loss, iovecs: u64, count: u64, wanted: u32) -> u32 {
    match wanted {
        0..=255 => vector_class::<256, 512>(segment, loss, iovecs, count, wanted),
        256..=1023 => vector_class::<1024, 2048>(segment, loss, iovecs, count, wanted),
        // One more than the usual budget, which the verifier wants to be less than the class.
        1024..=8191 => vector_class::<8192, 16384>(segment, loss, iovecs, count, wanted),
        8192 => vector_class::<8192, 16384>(segment, loss, iovecs, count, 8191),
        _ => {
            const LARGEST: usize = LARGEST_CAPTURE as usize;
            let wanted = if wanted < LARGEST_CAPTURE { wanted } else { LARGEST_CAPTURE - 1 };
            vector_class::<LARGEST, { 2 * LARGEST }>(segment, loss, iovecs, count, wanted)
        }
    }
}

/// `ROOM` is twice `N`: see `user::gather`.
#[inline(always)]
fn vector_class<const N: usize, const ROOM: usize>(
    segment: event::Segment,
    loss: Loss,
    iovecs: u64,
    count: u64,
    wanted: u32,
) -> u32 {
    let Some(mut entry) = emit::reserve::<Record<ROOM>>(loss) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: as in `buffer_class`, with twice the room.
    let captured = unsafe {
        (&raw mut (*record).segment).write(segment);
        let (captured, tail) = user::gather::<N>(
            (&raw mut (*record).payload).cast(),
            &mut (*record).segment.tail,
            iovecs,
            count,
            u64::from(segment.length),
            u64::from(wanted),
        );
        (*record).segment.captured = captured;
        (*record).segment.tail_length = tail;
        captured
    };
    emit::submit(entry);
    captured
}
