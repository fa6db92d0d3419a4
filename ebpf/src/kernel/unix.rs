//! Unix sockets: their paths and peers.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use core::ptr;

use onlooker_common::connection::UNIX_PATH_BYTES;
use onlooker_common::offsets::MISSING;

use super::member::load;
use crate::globals::offset;

/// A unix socket.
#[derive(Clone, Copy)]
pub struct UnixSock(pub(super) *const c_void);

impl UnixSock {
    /// The address that it is bound to. Accepted sockets share their listener's.
    #[inline(always)]
    pub fn address(self) -> Option<UnixAddress> {
        // SAFETY: offset of a pointer to struct unix_address.
        let address = unsafe { load::<*const c_void>(self.0, offset!(unix_address)) }?;
        if address.is_null() { None } else { Some(UnixAddress(address)) }
    }

    #[inline(always)]
    pub fn peer(self) -> Option<Self> {
        // SAFETY: offset of a pointer to struct sock, which begins a struct unix_sock.
        let peer = unsafe { load::<*const c_void>(self.0, offset!(unix_peer)) }?;
        if peer.is_null() { None } else { Some(Self(peer)) }
    }

    /// The peer's address, for a client.
    #[inline(always)]
    pub fn peer_address(self) -> Option<UnixAddress> {
        let peer = self.peer()?;
        let field = offset!(unix_address);
        if field == MISSING {
            return None;
        }
        // The verifier knows `peer` as a plain sock, whose type does not contain the members of unix_sock.
        let mut address: *const c_void = ptr::null();
        // SAFETY: reads one pointer into a local of that size. A bad address gives an error.
        let read = unsafe {
            bpf_probe_read_kernel(
                (&raw mut address).cast(),
                8,
                peer.0.cast::<u8>().add(field as usize).cast_mut().cast(),
            )
        };
        if read != 0 || address.is_null() { None } else { Some(UnixAddress(address)) }
    }

    /// The socket's cookie, 0 if it has none yet.
    #[inline(always)]
    pub fn assigned_cookie(self) -> u64 {
        // SAFETY: skc_cookie is an atomic64_t of struct sock_common.
        unsafe { load(self.0, offset!(sock_cookie)) }.unwrap_or(0)
    }
}

/// A `struct unix_address`.
#[derive(Clone, Copy)]
pub struct UnixAddress(*const c_void);

impl UnixAddress {
    /// Writes the path (`sun_path`) and returns its length.
    #[inline(always)]
    pub fn path(self, into: &mut [u8; UNIX_PATH_BYTES]) -> u32 {
        let (length_at, name_at) = (offset!(unix_name_length), offset!(unix_name));
        if length_at == MISSING || name_at == MISSING {
            return 0;
        }
        /// sockaddr_un.sun_family precedes the path.
        const FAMILY_BYTES: u32 = 2;
        let mut length: u32 = 0;
        let base = self.0.cast::<u8>();
        // SAFETY: reads into locals of these sizes. A bad address gives an error.
        unsafe {
            if bpf_probe_read_kernel((&raw mut length).cast(), 4, base.add(length_at as usize).cast_mut().cast()) != 0 {
                return 0;
            }
            let path = length.saturating_sub(FAMILY_BYTES);
            if path == 0 || path > UNIX_PATH_BYTES as u32 {
                return 0;
            }
            let path = path & 127;
            let from = base.add((name_at + FAMILY_BYTES) as usize).cast_mut().cast();
            if path > UNIX_PATH_BYTES as u32 || bpf_probe_read_kernel(into.as_mut_ptr().cast(), path, from) != 0 {
                return 0;
            }
            path
        }
    }
}
