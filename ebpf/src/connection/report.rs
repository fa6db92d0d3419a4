//! Records of a connection's changes.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use onlooker_common::connection::{ConnectionChange, UNIX_PATH_BYTES, change as changes};
use onlooker_common::kind;
use onlooker_common::losses::Loss;

use super::positions;
use crate::emit;
use crate::kernel::sock::{AF_UNIX, Sock};
use crate::maps::count;
use crate::state::connection::Connection;
use crate::state::stream::bit;

/// Reports that the socket with this cookie is gone, and nothing else about it.
#[inline(always)]
pub fn destroyed(cookie: u64) {
    let Some(mut entry) = emit::reserve::<ConnectionChange>() else { return count(Loss::RingFullConnection) };
    // SAFETY: the record is plain old data, of which zeros are a value.
    unsafe {
        let record = entry.as_mut_ptr();
        record.write_bytes(0, 1);
        (*record).kind = kind::CONNECTION;
        (*record).change = changes::DESTROYED;
        (*record).time = bpf_ktime_get_ns();
        (*record).cookie = cookie;
    }
    emit::submit(entry, true);
}

/// Reports a change, with everything that is known about the connection. Returns whether the ring had room.
#[inline(never)]
pub fn report(sock: Sock, connection: Connection, change: u32) -> bool {
    let stream = connection.stream();
    let family = sock.family();
    let Some(mut entry) = emit::reserve::<ConnectionChange>() else {
        count(Loss::RingFullConnection);
        return false;
    };
    // SAFETY: every field of the record is written before it is submitted. It is plain old data.
    unsafe {
        let record = entry.as_mut_ptr();
        (*record).kind = kind::CONNECTION;
        (*record).change = change;
        (*record).time = bpf_ktime_get_ns();
        (*record).cookie = stream.cookie();
        (*record).tgid = stream.tgid();
        (*record).error = if change == changes::CLOSED { sock.error() } else { 0 };
        (*record).family = family;
        (*record).role = stream.role();
        (*record).from_start = u8::from(stream.is(bit::FROM_START));
        let reached = positions::reached(sock, connection, family);
        (*record).next = reached.next;
        (*record).arrived = reached.arrived;
        (*record).path_length = 0;
        (&raw mut (*record).path).write_bytes(0, 1);
        let (local, remote) = (&raw mut (*record).local_address, &raw mut (*record).remote_address);
        if family == AF_UNIX {
            (*record).local_port = 0;
            (*record).remote_port = 0;
            local.write_bytes(0, 1);
            remote.write_bytes(0, 1);
        } else {
            ((*record).local_port, (*record).remote_port) = sock.ports();
            sock.addresses(family, local.cast(), remote.cast());
        }
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
