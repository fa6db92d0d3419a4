//! The state of a connection in its socket's local storage.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use core::ptr;
use onlooker_common::losses::Loss;

use crate::kernel::sock::Sock;
use crate::maps::{CONNECTIONS, count};
use crate::state::connection::Connection;

#[inline(always)]
fn get(sock: Sock, flags: u32) -> Option<Connection> {
    // SAFETY: the socket is the program's argument. The map's value is a ConnectionState, for which zeros are valid. It
    // lives as long as the socket.
    unsafe {
        let state = bpf_sk_storage_get(CONNECTIONS.as_ptr(), sock.as_ptr(), ptr::null_mut(), u64::from(flags));
        Connection::new(state.cast())
    }
}

/// The state of a connection that has been used before.
#[inline(always)]
pub fn known(sock: Sock) -> Option<Connection> {
    get(sock, 0)
}

/// The state of a connection, made if there is none. `None`, counted, if the kernel could not allocate it.
#[inline(always)]
pub fn of(sock: Sock) -> Option<Connection> {
    let connection = get(sock, BPF_SK_STORAGE_GET_F_CREATE);
    if connection.is_none() {
        count(Loss::NoSocketStorage);
    }
    connection
}
