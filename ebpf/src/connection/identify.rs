//! What the process is on a connection, at the connection's first operation.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use onlooker_common::connection::role;
use onlooker_common::selection::ListeningPort;

use super::mptcp;
use crate::kernel::sock::{AF_UNIX, Sock};
use crate::maps::LISTENERS;
use crate::state::connection::Connection;
use crate::state::stream::{Direction, bit};

/// Finds cookie and role, at an operation that moved `length` bytes in `direction`.
#[inline(never)]
pub fn identify(sock: Sock, connection: Connection, family: u16, direction: Direction, length: u32) {
    // SAFETY: no arguments.
    let word = || unsafe { u64::from(bpf_get_prandom_u32()) << 32 | u64::from(bpf_get_prandom_u32()) };
    let stream = connection.stream();
    stream.set_cookie(sock.cookie());
    stream.set_id_mask(word());
    stream.set_id_seed(word());
    if family != AF_UNIX {
        stream.set(bit::NEW | bit::NUMBERED);
        connection.note(sock.fins());
    }
    let is_placed = family != AF_UNIX && sock.is_mptcp() && mptcp::place(sock, connection, direction, length);
    match stream.role() {
        role::CLIENT => {}
        // Inherited from the socket that it was accepted from.
        role::LISTENER => {
            stream.set_role(role::SERVER);
            stream.set(bit::FROM_START);
        }
        _ => {
            stream.set_role(if family == AF_UNIX { unix_role(sock) } else { inet_role(sock) });
            if family != AF_UNIX && stream.role() == role::CLIENT {
                stream.set(bit::GUESSED);
            }
            let first = family == AF_UNIX
                || is_placed
                || match direction {
                    Direction::Ingress => sock.was_first_read(length),
                    // Some servers send first: SETTINGS of HTTP/2.
                    Direction::Egress => stream.role() == role::SERVER && sock.was_first_write(length),
                };
            if first {
                stream.set(bit::FROM_START);
            }
        }
    }
    stream.set(bit::IDENTIFIED);
}

/// The role on a TCP connection that was opened unseen: server if something listens on its local port, otherwise client.
#[inline(always)]
fn inet_role(sock: Sock) -> u8 {
    if is_listened_on(sock) { role::SERVER } else { role::CLIENT }
}

/// Whether something is known to listen on the local port.
#[inline(always)]
pub fn is_listened_on(sock: Sock) -> bool {
    let (port, _) = sock.ports();
    let listening = ListeningPort { network_namespace: sock.network_namespace(), port: u32::from(port) };
    LISTENERS.get_ptr(listening).is_some()
}

/// An accepted unix socket has its listener's address. The socket that connected has none, but its peer has. If both have
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
