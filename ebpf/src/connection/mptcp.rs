//! MPTCP connections.
//!
//! The process uses one socket. The kernel carries its bytes over TCP connections of its own, the subflows. The process's
//! socket is followed like any other, and subflows are not. Two things are only seen at a subflow:
//!
//! - The handshake. The positions of the connection begin at the sequence numbers that the first subflow has then. So both
//!   ends have the same positions, also where the kernel fell back to TCP at one of them.
//! - The end of the process's socket, which is freed with its subflows.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use onlooker_common::connection::role;
use onlooker_common::losses::Loss;

use super::report;
use crate::kernel::sock::{Fins, Sock, SockAddress};
use crate::maps::{MPTCP_HANDSHAKES, count};
use crate::state::connection::{Connection, Handshake};
use crate::state::stream::{Direction, bit};

/// The handshake of a subflow of `mptcp` is complete. No byte has moved on the subflow.
#[inline(always)]
pub fn established(mptcp: SockAddress, subflow: Sock) {
    if let Some(at) = subflow.sequences(Fins { sent: false, received: false }) {
        let handshake = Handshake { subflow: subflow.address(), sends: at.write, receives: at.copied };
        // Without the entry the connection is counted when it is used first.
        let _ = MPTCP_HANDSHAKES.insert(mptcp.value(), handshake, 0);
    }
}

/// Sets the positions of a connection before its first operation, which moved `length` bytes in `direction`. Returns whether
/// the connection is followed from its first byte.
#[inline(always)]
pub fn place(sock: Sock, connection: Connection, direction: Direction, length: u32) -> bool {
    let stream = connection.stream();
    let key = sock.address().value();
    if let Some(handshake) = MPTCP_HANDSHAKES.get_ptr(key) {
        // SAFETY: a live value of the map.
        let Handshake { subflow, sends, receives } = unsafe { *handshake };
        // Who has opened or accepted the connection uses it first. Otherwise the process may have been selected later.
        let is_first = (stream.role() == role::CLIENT && stream.is(bit::FROM_START))
            || stream.role() == role::LISTENER
            || (direction == Direction::Ingress && subflow.has_only_received(length));
        // The connection may never be used again. An entry that is gone already was evicted.
        let _ = MPTCP_HANDSHAKES.remove(key);
        if is_first {
            stream.set_next_sent(u64::from(sends));
            stream.set_next_received(u64::from(receives));
            return true;
        }
    }
    // No other connection begins at the same positions, so none is taken for the other end.
    // SAFETY: no arguments.
    unsafe {
        stream.set_next_sent(u64::from(bpf_get_prandom_u32()));
        stream.set_next_received(u64::from(bpf_get_prandom_u32()));
    }
    count(Loss::MptcpUnplaced);
    false
}

/// A subflow of `mptcp` is freed. It may be one of several, while the process still uses the connection.
#[inline(always)]
pub fn subflow_destroyed(mptcp: SockAddress) {
    let cookie = mptcp.assigned_cookie();
    if cookie != 0 && mptcp.is_orphan() {
        report::destroyed(cookie);
    }
}
