//! Changes of a TCP connection's state.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::connection::{change, role};
use onlooker_common::limits::WAITING_SEND;
use onlooker_common::selection::process_flag;

use super::mptcp;
use super::positions;
use super::report::report;
use super::storage;
use crate::globals::injects;
use crate::kernel::sock::{Fins, Sock, tcp_state};
use crate::kernel::task::{Task, current_ids};
use crate::process;
use crate::selected::Selected;
use crate::state::connection::outcome;
use crate::state::stream::bit;
use crate::tls::objects;
use crate::work::owner::Worker;
use crate::work::tick;
use crate::work::units::thread;
use crate::work::waiting;

/// A socket changes from one TCP state to another.
#[inline(always)]
pub fn state_changed(sock: Sock, old: i32, new: i32) {
    // Other protocols use these states too.
    if !sock.is_stream(sock.family()) {
        return;
    }
    let (old, new) = (old as u8, new as u8);
    // Connections that a listener of MPTCP accepts may be plain TCP. They inherit the state of its subflow.
    if new != tcp_state::LISTEN
        && let Some(mptcp) = sock.mptcp()
    {
        if new == tcp_state::ESTABLISHED {
            mptcp::established(mptcp, sock);
        }
        return;
    }
    match new {
        tcp_state::SYN_SENT => connecting(sock),
        tcp_state::LISTEN => listening(sock),
        tcp_state::ESTABLISHED if old == tcp_state::SYN_SENT => changed(sock, change::CONNECTED),
        tcp_state::FIN_WAIT1 | tcp_state::LAST_ACK => {
            note(sock, Fins { sent: true, received: new == tcp_state::LAST_ACK });
            given_up(sock);
            // close() and shutdown() shut the directions down before the FIN is sent.
            changed(sock, if sock.input_is_over() { change::FINISHED_BOTH } else { change::FINISHED });
        }
        tcp_state::CLOSE_WAIT | tcp_state::CLOSING => {
            note(sock, Fins { sent: new == tcp_state::CLOSING, received: true });
        }
        // A socket of MPTCP that is closed already is closed once more when the process closes it.
        tcp_state::CLOSE if old != tcp_state::CLOSE => {
            // The TIME_WAIT state is another socket's, so this one goes from FIN_WAIT2 to CLOSE when the peer's FIN arrives. If
            // it goes there for another reason, the last byte that arrived is counted as a FIN; all of it was read then.
            if old == tcp_state::FIN_WAIT2 && sock.error() == 0 {
                note(sock, Fins { sent: true, received: true });
            }
            closed(sock);
        }
        _ => {}
    }
}

/// Notes FINs, also for a connection that has not been used yet. Such a connection has a copy of its listener's state.
#[inline(always)]
fn note(sock: Sock, fins: Fins) {
    if let Some(connection) = storage::known(sock) {
        connection.note(fins);
    }
}

/// connect(), in the context of the thread that calls it.
#[inline(always)]
fn connecting(sock: Sock) {
    let (tgid, tid) = current_ids();
    let Some(process) = Selected::find(tgid) else { return };
    let Some(connection) = storage::of(sock) else { return };
    // A socket that was disconnected can be connected again: that is a new connection.
    connection.reset();
    let stream = connection.stream();
    stream.set_role(role::CLIENT);
    if process.has(process_flag::CANDIDATE) {
        if injects() && process.has(process_flag::SELF_TEST) {
            // It is enrolled. Without a cookie, nothing is reported.
            stream.set_tgid(tgid);
            stream.set_flags(bit::FROM_START);
        }
        return;
    }
    stream.set_cookie(sock.cookie());
    stream.set_tgid(tgid);
    stream.set_flags(bit::FROM_START);
    process::calls(process, tgid);
    Worker { process, task: Task::current(), tgid, tid }.connection_opened(stream);
    // The addresses are reported with the first operation, because the local port is not chosen yet.
    report(sock, connection, change::CONNECTING);
}

/// listen(). Sockets that are accepted from this one inherit its state.
#[inline(always)]
fn listening(sock: Sock) {
    let (tgid, _) = current_ids();
    let (port, _) = sock.ports();
    let selected = Selected::find(tgid).is_some();
    // The subflow of a listener of MPTCP listens too, and its port is known.
    if !sock.is_mptcp() {
        process::listens(selected, tgid, port);
    }
    if selected && let Some(connection) = storage::of(sock) {
        connection.stream().set_role(role::LISTENER);
    }
}

#[inline(always)]
fn changed(sock: Sock, change: u32) {
    if let Some(connection) = storage::known(sock)
        && connection.stream().cookie() != 0
    {
        report(sock, connection, change);
    }
}

/// Both directions ended. The process may still read what arrived.
#[inline(always)]
fn closed(sock: Sock) {
    let Some(connection) = storage::known(sock) else { return };
    let stream = connection.stream();
    if stream.cookie() == 0 {
        return;
    }
    let reached = positions::reached(sock, connection, sock.family());
    if reached.arrived.wrapping_sub(reached.next[0]).cast_signed() > 0 {
        connection.set_unread(1);
    }
    let messages = objects::messages_of(connection);
    waiting::request_ends(messages);
    if let Some(process) = Selected::find(stream.tgid())
        && process.has(process_flag::CALLS)
    {
        if messages.awaited() != 0 && connection.outcome() == outcome::OPEN {
            connection.set_outcome(outcome::FAILED);
        }
        waiting::call_ends(messages, process);
    }
    // The process itself closed it. Otherwise the peer's reset did, while any thread may be running.
    if current_ids().0 == stream.tgid()
        && let Some(thread) = thread::state(Task::current())
    {
        thread.forget(messages.cookie());
    }
    report(sock, connection, change::CLOSED);
}

/// Reports the end of a connection that was closed before its first operation was seen, for example because the peer's reset
/// overtook its data. The end must not be reported before the beginning.
#[inline(always)]
pub fn closed_before(sock: Sock) {
    if sock.state() == tcp_state::CLOSE {
        closed(sock);
    }
}

/// The process closes a connection, or its direction of it, while an event loop may wait for a response on it. What follows
/// is work of the call's owner.
#[inline(always)]
fn given_up(sock: Sock) {
    if let Some(connection) = storage::known(sock)
        && let messages = objects::messages_of(connection)
        && messages.awaited() != 0
    {
        connection.set_outcome(outcome::GIVEN_UP);
        tick::belongs_to_owner_of(messages);
    }
}

/// A TCP socket is freed.
///
/// If its connection had failed, its process has noticed that: no operation shows some failures, such as a refused connect,
/// and the process closes the socket as a reaction.
#[inline(always)]
pub fn destroyed(sock: Sock) {
    if let Some(mptcp) = sock.mptcp() {
        mptcp::subflow_destroyed(mptcp);
        return;
    }
    let Some(connection) = storage::known(sock) else { return };
    if connection.outcome() == outcome::FAILED {
        tick::belongs_to_owner_of(objects::messages_of(connection));
    }
    if connection.unread() != 0 {
        report(sock, connection, change::DESTROYED);
    }
}

/// TCP is about to take bytes of a send: `left` in all, or what is left of it after a wait.
#[inline(always)]
pub fn sending(sock: Sock, left: u64) {
    if left < WAITING_SEND || Selected::find(current_ids().0).is_none() {
        return;
    }
    if let Some(connection) = storage::known(sock)
        && connection.sending_since() == 0
    {
        // SAFETY: no arguments.
        connection.set_sending_since(unsafe { bpf_ktime_get_ns() });
    }
}
