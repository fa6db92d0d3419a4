//! What is remembered of a connection, and what becomes of it.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_sk_storage_get};
use core::ptr;
use onlooker_common::context::{MessageIds, Owner};
use onlooker_common::event::{self, UNIX_PATH_BYTES, change, kind, role};
use onlooker_common::limits::WAITING_SEND;
use onlooker_common::loss::Loss;
use onlooker_common::process::{Listener, process_flag};

use crate::atomic;
use crate::context::{self, Work};
use crate::emit;
use crate::kernel::{AF_UNIX, Fins, Sock, Task, tcp_state};
use crate::maps::{CONNECTIONS, LISTENERS, count};
use crate::process::{self, Selected};

/// Bits of [`ConnectionState::flags`].
pub mod bit {
    /// Cookie, role and positions are known.
    pub const IDENTIFIED: u16 = 1;
    /// Followed from the first byte.
    pub const FROM_START: u16 = 1 << 1;
    /// The agent has its addresses.
    pub const ANNOUNCED: u16 = 1 << 2;
    /// Client: a message was sent.
    pub const SENT: u16 = 1 << 3;
    /// Client, because nothing is known to listen on its port: what it reads may be requests after all.
    pub const GUESSED: u16 = 1 << 4;
    /// TCP, and this is its first operation. (What is kept in registers until the operation's end doubles the states of
    /// everything before that the verifier goes through; a bit in memory doesn't.)
    pub const NEW: u16 = 1 << 5;
}

/// Values of [`ConnectionState::last`].
pub const NO_DIRECTION: u8 = 0;
pub const INGRESS: u8 = 1;
pub const EGRESS: u8 = 2;

/// What is remembered of a connection: lives in its socket's storage.
#[repr(C)]
pub struct ConnectionState {
    pub cookie: u64,
    /// Position of the next byte that will be received, and sent.
    pub next: [u64; 2],
    /// The request that is on the connection: read by a server, sent by a client.
    pub message: MessageIds,
    pub message_position: u64,
    /// Client: whose message this is; before the first message, whose connection.
    pub owner: Owner,
    /// When a send began that waits for room; 0 while none does.
    pub sending_since: u64,
    /// Server: 1 while a request was read and its answer has not begun.
    in_flight: u64,
    /// Client: 1 while its owner is counted as waiting for it.
    awaited: u64,
    /// Of the ids of its messages: what they have in common, and what the next are made of.
    pub ids: [u64; 2],
    /// The thread that read or wrote the first byte of `message`.
    pub thread: u32,
    pub run: u32,
    /// Bytes of this run that may still be captured.
    pub budget: u32,
    /// The process that used it last, and the one that counts the request in flight.
    pub tgid: u32,
    counted_by: u32,
    pub flags: u16,
    pub role: u8,
    /// Direction of the last operation.
    pub last: u8,
    /// 1 if a FIN was sent, and if one came: noted beside the thread that uses the connection, so not among its flags.
    fin_sent: u8,
    fin_came: u8,
    /// 1 if it is closed, and what had come was not all read then.
    unread: u8,
    /// How a call ended that has no answer: one of [`outcome`].
    outcome: u8,
}

/// Values of [`ConnectionState::outcome`].
mod outcome {
    pub const OPEN: u8 = 0;
    /// Its own process closed the connection, or its direction of it.
    pub const GIVEN_UP: u8 = 1;
    /// The connection came to an end, or never was. Its process will learn of it, and close the socket.
    pub const FAILED: u8 = 2;
}

impl ConnectionState {
    #[inline(always)]
    pub fn is(&self, bit: u16) -> bool {
        self.flags & bit != 0
    }

    #[inline(always)]
    pub fn set(&mut self, bit: u16) {
        self.flags |= bit;
    }

    #[inline(always)]
    pub fn clear(&mut self, bit: u16) {
        self.flags &= !bit;
    }

    /// Puts a request in flight that the process read.
    #[inline(always)]
    pub fn begin_request(&mut self, process: Selected, tgid: u32) {
        if self.set_in_flight(true) {
            self.counted_by = tgid;
            process.add_runnable(1);
        }
    }

    /// Takes the request out; gives the process that counts it, if one does. It may be answered by another.
    #[inline(always)]
    pub fn end_request(&mut self) -> Option<Selected> {
        if self.set_in_flight(false) { Selected::find(self.counted_by) } else { None }
    }

    /// Whether that is new. A reset ends a request beside the thread that answers.
    #[inline(always)]
    fn set_in_flight(&mut self, in_flight: bool) -> bool {
        let now = u64::from(in_flight);
        // SAFETY: a live, aligned word of the socket's storage.
        unsafe { atomic::swap(&raw mut self.in_flight, now) != now }
    }

    /// Notes whether its owner waits for it; whether that is new. A reset does so beside the thread that goes on.
    #[inline(always)]
    pub fn set_awaited(&mut self, awaited: bool) -> bool {
        let now = u64::from(awaited);
        // SAFETY: a live, aligned word of the socket's storage.
        unsafe { atomic::swap(&raw mut self.awaited, now) != now }
    }

    #[inline(always)]
    fn is_awaited(&self) -> bool {
        self.awaited != 0
    }

    #[inline(always)]
    pub fn fins(&self) -> Fins {
        Fins { sent: self.fin_sent != 0, came: self.fin_came != 0 }
    }

    #[inline(always)]
    fn note(&mut self, fins: Fins) {
        if fins.sent {
            self.fin_sent = 1;
        }
        if fins.came {
            self.fin_came = 1;
        }
    }
}

#[inline(always)]
fn storage(sock: Sock, flags: u32) -> Option<&'static mut ConnectionState> {
    // SAFETY: the socket is the program's argument and the map's value is a ConnectionState, zeroed when made: valid
    // for it. It lives as long as the socket. Whatever two threads do with one socket at once may be noted in either order:
    // words that several write at once are changed atomically, or written by one alone.
    unsafe {
        bpf_sk_storage_get(CONNECTIONS.as_ptr(), sock.as_ptr(), ptr::null_mut(), u64::from(flags))
            .cast::<ConnectionState>()
            .as_mut()
    }
}

/// The state of a connection that has been used before.
#[inline(always)]
pub fn known(sock: Sock) -> Option<&'static mut ConnectionState> {
    storage(sock, 0)
}

/// The state of a connection, made if it is new.
#[inline(always)]
pub fn of(sock: Sock) -> Option<&'static mut ConnectionState> {
    let state = storage(sock, BPF_SK_STORAGE_GET_F_CREATE);
    if state.is_none() {
        count(Loss::NoSocketStorage);
    }
    state
}

/// Finds out who a connection is, at its first operation.
#[inline(always)]
pub fn identify(sock: Sock, state: &mut ConnectionState, family: u16, read: Option<u32>) {
    // SAFETY: no arguments.
    let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    state.cookie = sock.cookie();
    state.ids = [word(), word()];
    if family != AF_UNIX {
        state.set(bit::NEW);
        state.note(sock.fins());
    }
    match state.role {
        role::CLIENT => {}
        // Inherited from the socket it was accepted on.
        role::LISTENER => {
            state.role = role::SERVER;
            state.set(bit::FROM_START);
        }
        _ => {
            state.role = if family == AF_UNIX { unix_role(sock) } else { inet_role(sock) };
            if family != AF_UNIX && state.role == role::CLIENT {
                state.set(bit::GUESSED);
            }
            let first = family == AF_UNIX || read.is_some_and(|length| sock.was_first_read(length));
            if first {
                state.set(bit::FROM_START);
            }
        }
    }
    state.set(bit::IDENTIFIED);
}

/// A TCP connection whose opening was not seen: a server's if something listens on its local port, else a client's.
#[inline(always)]
fn inet_role(sock: Sock) -> u8 {
    let (port, _) = sock.ports();
    let listener = Listener { network_namespace: sock.network_namespace(), port: u32::from(port) };
    if LISTENERS.get_ptr(listener).is_some() { role::SERVER } else { role::CLIENT }
}

/// An accepted unix socket has its listener's address; the one that connected has none, but its peer has. Where both have
/// one, either may have connected.
#[inline(always)]
fn unix_role(sock: Sock) -> u8 {
    let Some(unix) = sock.unix() else { return role::UNKNOWN };
    match (unix.address().is_some(), unix.peer_address().is_some()) {
        (true, false) => role::SERVER,
        (false, true) => role::CLIENT,
        _ => role::UNKNOWN,
    }
}

/// Tells the agent of a change, with all that is known of the connection.
#[inline(always)]
pub fn report(sock: Sock, state: &ConnectionState, change: u32) -> bool {
    let family = sock.family();
    let error = if change == event::change::CLOSED { sock.error() } else { 0 };
    let Some(mut entry) = emit::reserve::<event::Connection>() else {
        count(Loss::RingFullConnection);
        return false;
    };
    let (local_port, remote_port) = if family == AF_UNIX { (0, 0) } else { sock.ports() };
    let (local, remote) = if family == AF_UNIX { ([0; 4], [0; 4]) } else { sock.addresses(family) };
    // SAFETY: every field of the record is written before it is submitted; it is plain old data.
    unsafe {
        let record = entry.as_mut_ptr();
        (*record).kind = kind::CONNECTION;
        (*record).change = change;
        (*record).time = bpf_ktime_get_ns();
        (*record).cookie = state.cookie;
        (*record).tgid = state.tgid;
        (*record).error = error;
        (*record).family = family;
        (*record).role = state.role;
        (*record).from_start = u8::from(state.is(bit::FROM_START));
        (*record).local_port = local_port;
        (*record).remote_port = remote_port;
        (&raw mut (*record).local_address).cast::<[u32; 4]>().write(local);
        (&raw mut (*record).remote_address).cast::<[u32; 4]>().write(remote);
        (*record).path_length = 0;
        ((*record).next, (*record).arrived) = reached(sock, state, family);
        (&raw mut (*record).path).write_bytes(0, 1);
        if family == AF_UNIX
            && let Some(unix) = sock.unix()
            && let Some(address) = unix.address().or_else(|| unix.peer_address())
        {
            let path: &mut [u8; UNIX_PATH_BYTES] = &mut (*record).path;
            (*record).path_length = address.path(path);
        }
    }
    emit::submit(entry, true);
    true
}

/// Positions after the last byte that was received, and sent, whatever moved it; and after the last that has come, read or
/// not.
#[inline(always)]
fn reached(sock: Sock, state: &ConnectionState, family: u16) -> ([u64; 2], u64) {
    let [received, sent] = state.next;
    let sequences = if family == AF_UNIX { None } else { sock.sequences(state.fins()) };
    match sequences {
        Some(at) if state.is(bit::IDENTIFIED) => {
            ([extend(received, at.copied), extend(sent, at.write)], extend(received, at.arrived))
        }
        _ => (state.next, received),
    }
}

/// A sequence number as the position nearest to `near`.
#[inline(always)]
pub fn extend(near: u64, sequence: u32) -> u64 {
    near.wrapping_add(sequence.wrapping_sub(near as u32) as i32 as i64 as u64)
}

/// A TCP socket goes from one state to another.
#[inline(always)]
pub fn state_changed(sock: Sock, old: i32, new: i32) {
    // Other protocols have these states too.
    if !sock.is_stream(sock.family()) {
        return;
    }
    let (old, new) = (old as u8, new as u8);
    match new {
        tcp_state::SYN_SENT => connecting(sock),
        tcp_state::LISTEN => listening(sock),
        tcp_state::ESTABLISHED if old == tcp_state::SYN_SENT => changed(sock, change::CONNECTED),
        tcp_state::FIN_WAIT1 | tcp_state::LAST_ACK => {
            noted(sock, Fins { sent: true, came: new == tcp_state::LAST_ACK });
            given_up(sock);
            changed(sock, change::FINISHED);
        }
        tcp_state::CLOSE_WAIT | tcp_state::CLOSING => {
            noted(sock, Fins { sent: new == tcp_state::CLOSING, came: true });
        }
        tcp_state::CLOSE => {
            // The state that waits for the network to forget the connection is another socket's. Where it waits for the peer's
            // FIN too, that has not come: then what came is taken for one byte less, and all of it was read.
            if old == tcp_state::FIN_WAIT2 && sock.error() == 0 {
                noted(sock, Fins { sent: true, came: true });
            }
            closed(sock);
        }
        _ => {}
    }
}

/// Also for a connection that has not been used yet: it has its listener's state.
#[inline(always)]
fn noted(sock: Sock, fins: Fins) {
    if let Some(state) = known(sock) {
        state.note(fins);
    }
}

/// connect(): in the context of the thread that calls it.
#[inline(always)]
fn connecting(sock: Sock) {
    let (tgid, tid) = process::current();
    let Some(process) = Selected::find(tgid) else { return };
    let Some(state) = of(sock) else { return };
    // A socket may be connected again after it was disconnected: it is another connection then.
    *state = ConnectionState {
        cookie: sock.cookie(),
        next: [0; 2],
        message: MessageIds { trace_id: [0; 2], span_id: 0 },
        message_position: 0,
        owner: Owner {
            cookie: 0,
            position: 0,
            context: MessageIds { trace_id: [0; 2], span_id: 0 },
            evidence: 0,
            _pad: 0,
        },
        sending_since: 0,
        in_flight: 0,
        awaited: 0,
        ids: [0; 2],
        thread: 0,
        run: 0,
        budget: 0,
        tgid,
        counted_by: 0,
        flags: bit::FROM_START,
        role: role::CLIENT,
        last: NO_DIRECTION,
        fin_sent: 0,
        fin_came: 0,
        unread: 0,
        outcome: outcome::OPEN,
    };
    process::calls(process, tgid);
    Work { process, task: Task::current(), tgid, tid }.connection_opened(state);
    // The addresses are announced with the first operation: the local port is not chosen yet.
    report(sock, state, change::CONNECTING);
}

/// listen(): what is accepted on the socket inherits this.
#[inline(always)]
fn listening(sock: Sock) {
    let (tgid, _) = process::current();
    let (port, _) = sock.ports();
    process::listens(tgid, port);
    if Selected::find(tgid).is_some()
        && let Some(state) = of(sock)
    {
        state.role = role::LISTENER;
    }
}

#[inline(always)]
fn changed(sock: Sock, change: u32) {
    if let Some(state) = known(sock)
        && state.cookie != 0
    {
        report(sock, state, change);
    }
}

/// Nothing more is sent or comes. What has come may still be read.
#[inline(always)]
fn closed(sock: Sock) {
    let Some(state) = known(sock) else { return };
    if state.cookie == 0 {
        return;
    }
    let ([received, _], arrived) = reached(sock, state, sock.family());
    if arrived.wrapping_sub(received).cast_signed() > 0 {
        state.unread = 1;
    }
    context::settle(state);
    if let Some(process) = Selected::find(state.tgid)
        && process.has(process_flag::CALLS)
    {
        if state.is_awaited() && state.outcome == outcome::OPEN {
            state.outcome = outcome::FAILED;
        }
        context::end_waiting(process, state);
    }
    // Closed by its own process, or by the peer's reset while others run.
    if process::current().0 == state.tgid
        && let Some(thread) = context::thread(Task::current())
    {
        context::forget(thread, state.cookie);
    }
    report(sock, state, change::CLOSED);
}

/// A connection was closed before its first operation was seen, as when the peer's reset overtakes what it sent: the end is
/// told once it has a beginning.
#[inline(always)]
pub fn closed_before(sock: Sock) {
    if sock.state() == tcp_state::CLOSE {
        closed(sock);
    }
}

/// A process closes a connection, or its direction of it, that an event loop may wait for an answer on: what follows is done
/// for the request whose call it was. Under the socket's lock, as every change of state.
#[inline(always)]
fn given_up(sock: Sock) {
    if let Some(state) = known(sock)
        && state.is_awaited()
    {
        state.outcome = outcome::GIVEN_UP;
        turn_of_owner(state);
    }
}

/// A TCP socket is gone. If its connection had failed, that is its own process's doing: nobody else is told so of a failure
/// that no operation shows, as of a refused connect.
#[inline(always)]
pub fn destroyed(sock: Sock) {
    let Some(state) = known(sock) else { return };
    if state.outcome == outcome::FAILED {
        turn_of_owner(state);
    }
    if state.unread != 0 {
        report(sock, state, change::DESTROYED);
    }
}

#[inline(always)]
fn turn_of_owner(state: &ConnectionState) {
    if process::current().0 == state.tgid
        && let Some(thread) = context::thread(Task::current())
    {
        context::turn_to(thread, &state.owner);
    }
}

/// TCP is about to take bytes of a send: `left` in all, or what is left of it after a wait.
#[inline(always)]
pub fn sending(sock: Sock, left: u64) {
    if left < WAITING_SEND || Selected::find(process::current().0).is_none() {
        return;
    }
    if let Some(state) = known(sock)
        && state.sending_since == 0
    {
        // SAFETY: no arguments.
        state.sending_since = unsafe { bpf_ktime_get_ns() };
    }
}
