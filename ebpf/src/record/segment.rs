//! Records socket operations: the body of both data probes.
//!
//! It runs after the operation, with the socket, the result and the flags. Nothing is remembered between entry and exit,
//! except when a long send began. The operations of processes that are not selected end here at once.

use onlooker_common::connection::{change, role};
use onlooker_common::segment::{Segment, flag};
use onlooker_common::selection::process_flag;

use crate::connection::{changes, identify, positions, report, selected_port, storage};
use crate::globals::injects;
use crate::kernel::sock::{AF_UNIX, Sock};
use crate::kernel::task::Task;
use crate::process;
use crate::record::arguments::SystemCall;
use crate::record::form::Moved;
use crate::record::operation::Operation;
use crate::selected::Selected;
use crate::state::connection::Connection;
use crate::state::stream::{Direction, bit};
use crate::state::unit::Unit;
use crate::tls::ciphertext;
use crate::work::owner::Worker;
use crate::work::units::{self, thread};

/// include/linux/socket.h
const MSG_OOB: i32 = 1;
const MSG_PEEK: i32 = 2;
const MSG_TRUNC: i32 = 0x20;
const MSG_ERRQUEUE: i32 = 0x2000;

/// include/uapi/asm-generic/errno-base.h, include/linux/errno.h
const EINTR: i32 = -4;
const EAGAIN: i32 = -11;
const ERESTARTSYS: i32 = -512;

/// Whether an operation that failed this way may succeed later.
#[inline(always)]
fn is_temporary(error: i32) -> bool {
    matches!(error, EINTR | EAGAIN | ERESTARTSYS)
}

/// Records a socket operation that returned `result`.
#[inline(always)]
pub fn record(sock: Sock, result: i32, flags: i32, direction: Direction) {
    let task = Task::current();
    let (tgid, tid) = (task.tgid(), task.pid());
    let Some(process) = Selected::find(tgid) else { return };
    // Bytes that stay in the stream, or that are not part of it.
    if direction == Direction::Ingress && flags & (MSG_OOB | MSG_PEEK | MSG_ERRQUEUE) != 0 {
        return;
    }
    if selected_port::is_unrecorded(process, sock) {
        return;
    }
    let worker = Worker { process, task, tgid, tid };
    // Nothing was read: perhaps the peer's FIN.
    let fin = result == 0 && direction == Direction::Ingress;
    if result < 0 || (result == 0 && !fin) {
        failed(&worker, sock, result, direction);
        return;
    }
    let family = sock.family();
    if !sock.is_stream(family) || (fin && !sock.input_is_over()) {
        if direction == Direction::Ingress {
            worker.unrelated_read();
        }
        return;
    }
    // Read once more, because the verifier knows the value by now. It would check all that follows for each family.
    let family = sock.family();
    let Some(connection) = storage::of(sock) else { return };
    let stream = connection.stream();
    let length = result as u32;
    let first = !stream.is(bit::IDENTIFIED);
    if first {
        if sock.is_kernel_internal() {
            return;
        }
        identify::identify(sock, connection, family, direction, length);
        selected_port::first_use(process, sock);
        if stream.role() == role::CLIENT {
            process::calls(process, tgid);
        }
    }
    stream.set_tgid(tgid);
    if !stream.is(bit::ANNOUNCED) && report::report(sock, connection, change::SEEN) {
        stream.set(bit::ANNOUNCED);
    }
    let added = if injects() && direction == Direction::Egress { take_added(connection, tid) } else { 0 };
    let place = positions::place(sock, connection, family, direction, length, added, first);
    let mut moved = Moved::new(length, place, Unit::UNKNOWN, tgid, tid);
    if family == AF_UNIX {
        moved.flags = flag::UNIX;
        moved.peer = unix_peer(sock);
    }
    if direction == Direction::Egress {
        moved.began = connection.sending_since();
        connection.set_sending_since(0);
    }
    if !process.has(process_flag::TLS) || !ciphertext::record(process, connection, &mut moved, sock, direction) {
        units::note(process, tgid, tid, stream);
        moved.set_unit(stream.current_unit());
        let is_discarded = direction == Direction::Ingress && flags & MSG_TRUNC != 0;
        let socket = sock.address();
        let operation = Operation { worker, socket, direction, fin, moved: &mut moved };
        operation.record::<Segment>(stream, SystemCall { process, is_discarded });
    }
    if stream.is(bit::NEW) {
        stream.clear(bit::NEW);
        changes::closed_before(sock);
    }
}

/// A socket operation moved nothing: it failed, or nothing was to be sent.
#[inline(always)]
fn failed(worker: &Worker, sock: Sock, result: i32, direction: Direction) {
    let Some(connection) = storage::known(sock) else { return };
    if connection.stream().is(bit::CIPHERTEXT) {
        if direction == Direction::Egress || !is_temporary(result) {
            ciphertext::failed(worker.process, connection, direction);
        }
        return;
    }
    match direction {
        Direction::Egress => {
            if let Some(thread) = thread::state(worker.task) {
                thread.owes_nothing_on(connection.stream().cookie());
            }
        }
        Direction::Ingress if !is_temporary(result) => worker.input_ended(connection.stream()),
        Direction::Ingress => {}
    }
}

/// How many bytes were added to the operation.
#[inline(always)]
fn take_added(connection: Connection, tid: u32) -> u16 {
    let added = connection.added();
    if added == 0 || connection.added_by() != tid {
        return 0;
    }
    connection.set_added(0);
    added as u16
}

#[inline(always)]
fn unix_peer(sock: Sock) -> u64 {
    sock.unix().and_then(|unix| unix.peer()).map_or(0, |peer| peer.assigned_cookie())
}
