//! Processes that are selected by a port.
//!
//! A process that holds the listening socket may only pass it on: a service manager starts the service that accepts, and
//! many others. So a child that executes a program is a candidate, of which nothing is recorded. It shows by its first use of
//! a connection that was accepted on the port that it is the service. That operation is recorded already.

use onlooker_common::connection::role;
use onlooker_common::selection::process_flag;

use super::identify::is_listened_on;
use super::storage;
use crate::kernel::sock::{AF_INET, AF_INET6, Sock};
use crate::maps::PORTS;
use crate::selected::Selected;

/// Whether nothing is recorded of this operation, because the process is a candidate and the connection shows nothing.
#[inline(always)]
pub fn is_unrecorded(process: Selected, sock: Sock) -> bool {
    if !process.has(process_flag::CANDIDATE) {
        return false;
    }
    if is_accepted_on(sock) {
        process.clear(process_flag::CANDIDATE);
        return false;
    }
    // What moves now is not recorded, so the connection will not have been followed from its first byte.
    if let Some(connection) = storage::known(sock)
        && connection.stream().role() == role::LISTENER
    {
        connection.stream().set_role(role::SERVER);
    }
    true
}

/// The first operation on a connection: what the process executes later is part of its work if it accepts on the port.
#[inline(always)]
pub fn first_use(process: Selected, sock: Sock) {
    if process.has(process_flag::PORT_HOLDER) && is_accepted_on(sock) {
        process.clear(process_flag::PORT_HOLDER);
    }
}

/// Whether the connection was accepted on a selected port.
#[inline(always)]
fn is_accepted_on(sock: Sock) -> bool {
    if !matches!(sock.family(), AF_INET | AF_INET6) {
        return false;
    }
    let (port, _) = sock.ports();
    let bit = 1 << (port & 63);
    // SAFETY: a live word of the map.
    if PORTS.get_ptr(u32::from(port) >> 6).is_none_or(|word| unsafe { *word } & bit == 0) {
        return false;
    }
    match storage::known(sock).map(|connection| connection.stream().role()) {
        Some(role::LISTENER | role::SERVER) => true,
        Some(role::CLIENT) => false,
        _ => is_listened_on(sock),
    }
}
