//! The state of an enrolled connection in its socket's local storage.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use core::ptr;

use crate::kernel::sock::Sock;
use crate::maps::INJECTIONS;
use crate::state::injection::Injection;

#[inline(always)]
fn get(sock: Sock, flags: u32) -> Option<Injection> {
    // SAFETY: the socket is the program's argument. The map's value is an InjectionState, for which zeros are valid. It lives as
    // long as the socket.
    unsafe {
        let state = bpf_sk_storage_get(INJECTIONS.as_ptr(), sock.as_ptr(), ptr::null_mut(), u64::from(flags));
        Injection::new(state.cast())
    }
}

/// The state of a connection that was enrolled.
#[inline(always)]
pub fn known(sock: Sock) -> Option<Injection> {
    get(sock, 0)
}

/// The state of a connection, made if there is none.
#[inline(always)]
pub fn of(sock: Sock) -> Option<Injection> {
    get(sock, BPF_SK_STORAGE_GET_F_CREATE)
}
