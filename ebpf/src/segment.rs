//! The one body of both data probes: a socket operation of a selected process becomes an Event.
//!
//! It runs after the operation, with the socket, the result and the flags; what the system call was given is read from
//! the registers the task saved. Nothing is remembered between entry and exit but when a long send began, and an operation
//! that is not a selected process's is left at once.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::context::{Owner, unit};
use onlooker_common::event::{self, TAIL_BYTES, change, flag, kind, role};
use onlooker_common::limits::{LARGEST_CAPTURE, OPERATION_CAPTURE};
use onlooker_common::loss::Loss;
use onlooker_common::process::{Capture, process_flag, raised};

use crate::arguments::{self, Bytes};
use crate::capture;
use crate::connection::{self, ConnectionState, EGRESS, INGRESS, NO_DIRECTION, bit};
use crate::context::{self, Work};
use crate::kernel::{AF_UNIX, Sock, Task};
use crate::maps::{RAISED, RAISED_PROCESSES, any_raised, count};
use crate::process::{self, Selected};

/// include/linux/socket.h
const MSG_OOB: i32 = 1;
const MSG_PEEK: i32 = 2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

/// include/uapi/asm-generic/errno-base.h, include/linux/errno.h: it may be tried again, or will be by itself.
const EINTR: i32 = -4;
const EAGAIN: i32 = -11;
const ERESTARTSYS: i32 = -512;

#[inline(always)]
fn is_passing(error: i32) -> bool {
    matches!(error, EINTR | EAGAIN | ERESTARTSYS)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// Records one socket operation that returned `result`.
#[inline(always)]
pub fn record(sock: Sock, result: i32, flags: i32, direction: Direction) {
    let task = Task::current();
    let (tgid, tid) = (task.tgid(), task.pid());
    let Some(process) = Selected::find(tgid) else { return };
    // What is looked at only, or beside the stream.
    if direction == Direction::Ingress && flags & (MSG_OOB | MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    // Nothing moved: an error, or, for a read, perhaps the peer's FIN.
    let fin = result == 0 && direction == Direction::Ingress;
    if result < 0 || (result == 0 && !fin) {
        if let Some(state) = connection::known(sock) {
            match direction {
                Direction::Egress => context::no_answer_owed(context::thread(task), state),
                Direction::Ingress if !is_passing(result) => Work { process, task, tgid, tid }.nothing_more(state),
                Direction::Ingress => {}
            }
        }
        return;
    }
    let family = sock.family();
    if !sock.is_stream(family) || sock.is_kernels() || (fin && !sock.peer_finished()) {
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
    if !state.is(bit::ANNOUNCED) && connection::report(sock, state, change::SEEN) {
        state.set(bit::ANNOUNCED);
    }
    let operation = Operation { process, task, tgid, tid, direction, length, family, flags };
    operation.record(sock, state, first, fin);
    if state.is(bit::NEW) {
        state.clear(bit::NEW);
        connection::closed_before(sock);
    }
}

/// What is known of the operation before its connection is asked.
struct Operation {
    process: Selected,
    task: Task,
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
        let work = Work { process: self.process, task: self.task, tgid: self.tgid, tid: self.tid };
        if fin {
            work.nothing_more(state);
        } else {
            self.follow(&work, sock, state, begins, position);
        }

        let request_side = state.role == role::UNKNOWN || (state.role == role::SERVER) != egress;
        if begins {
            state.budget = self.budget(state, request_side);
        }
        let wanted = if fin { 0 } else { self.wanted(state.budget) };
        let source = if wanted == 0 || (!egress && self.flags & MSG_TRUNC != 0) {
            Bytes::NOWHERE
        } else {
            arguments::bytes(self.process, self.task)
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
                | (u32::from(source.is_nowhere() && !fin) * flag::LENGTH_ONLY)
                | (u32::from(self.process.has(process_flag::LOOP)) * flag::LOOP)
                | (u32::from(self.family == AF_UNIX) * flag::UNIX),
            role: state.role,
            tail_length: 0,
            _pad: [0; 6],
            tgid: self.tgid,
            tid: self.tid,
            unit_kind: unit::NONE,
            unit: [0; 2],
            owner: if egress && state.role == role::CLIENT { state.owner } else { Owner::default() },
            message: state.message,
            peer: if self.family == AF_UNIX { unix_peer(sock) } else { 0 },
            tail: [0; TAIL_BYTES],
        };
        match capture::capture(&segment, source, wanted) {
            Some(captured) => state.budget = state.budget.saturating_sub(captured),
            None => count(if begins && request_side { Loss::RingFullRequest } else { Loss::RingFullSegment }),
        }
    }

    /// Position of the operation's first byte, and how far the other direction had come.
    #[inline(always)]
    fn positions(&self, sock: Sock, state: &mut ConnectionState, first: bool) -> (u64, u64) {
        let egress = self.direction == Direction::Egress;
        let (own, other) = if egress { (1, 0) } else { (0, 1) };
        let sequences = if self.family == AF_UNIX { None } else { sock.sequences(state.fins()) };
        let (position, opposite) = match sequences {
            Some(sequences) => {
                let (after, beside) =
                    if egress { (sequences.write, sequences.copied) } else { (sequences.copied, sequences.write) };
                let sequence = after.wrapping_sub(self.length);
                if first {
                    (u64::from(sequence), u64::from(beside))
                } else {
                    (connection::extend(state.next[own], sequence), connection::extend(state.next[other], beside))
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
    fn follow(&self, work: &Work, sock: Sock, state: &mut ConnectionState, begins: bool, position: u64) {
        match (state.role, self.direction) {
            (role::SERVER, Direction::Ingress) => work.request_read(sock, state, begins, position),
            (role::SERVER, Direction::Egress) => work.response_written(state, begins),
            (role::CLIENT, Direction::Egress) => work.call_sent(state, begins, position),
            (role::CLIENT, Direction::Ingress) => work.answer_read(state, begins),
            _ => {}
        }
    }

    /// How many bytes of the run that begins may be captured.
    #[inline(always)]
    fn budget(&self, state: &ConnectionState, request_side: bool) -> u32 {
        let budget = if request_side { self.process.request_capture() } else { self.process.response_capture() };
        let any = any_raised();
        if any == 0 {
            return budget;
        }
        let raise = |budget: u32, by: Option<*const Capture>| {
            // SAFETY: a live value of one of the maps.
            let raised = by.map_or(0, |by| unsafe { if request_side { (*by).request } else { (*by).response } });
            if raised > budget { raised } else { budget }
        };
        let of_connection = if any & raised::CONNECTIONS != 0 { RAISED.get_ptr(state.cookie) } else { None };
        let of_process = if any & raised::PROCESSES != 0 { RAISED_PROCESSES.get_ptr(self.tgid) } else { None };
        raise(raise(budget, of_connection), of_process)
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

#[inline(always)]
fn unix_peer(sock: Sock) -> u64 {
    sock.unix().and_then(|unix| unix.peer()).map_or(0, |peer| peer.assigned_cookie())
}
