//! Stream positions of sockets.
//!
//! A TCP position is the sequence number, extended to 64 bits. The sockets of MPTCP and unix connections have none: their
//! operations are counted. MPTCP begins at the sequence numbers of the first subflow, see [`super::mptcp`]. Unix sockets begin
//! at 0.

use onlooker_common::connection::UNKNOWN_ARRIVED;

use crate::kernel::sock::{AF_UNIX, Sequences, Sock};
use crate::state::connection::Connection;
use crate::state::stream::{Direction, Place, bit};

#[inline(always)]
fn sequences(sock: Sock, connection: Connection, family: u16) -> Option<Sequences> {
    if family == AF_UNIX { None } else { sock.sequences(connection.fins()) }
}

/// The place of an operation that just moved `length` bytes, to which `added` were added; `first` is the connection's first operation
/// that was seen. The stream moves on behind it.
#[inline(always)]
pub fn place(
    sock: Sock,
    connection: Connection,
    family: u16,
    direction: Direction,
    length: u32,
    added: u16,
    first: bool,
) -> Place {
    let moved = length + u32::from(added);
    let stream = connection.stream();
    let other = direction.opposite();
    let (position, opposite) = match sequences(sock, connection, family) {
        Some(at) => {
            let (after, beside) = match direction {
                Direction::Egress => (at.write, at.copied),
                Direction::Ingress => (at.copied, at.write),
            };
            let sequence = after.wrapping_sub(moved);
            if first {
                (u64::from(sequence), u64::from(beside))
            } else {
                (extend(stream.next(direction), sequence), extend(stream.next(other), beside))
            }
        }
        None => (stream.next(direction), stream.next(other)),
    };
    stream.set_next(direction, position + u64::from(moved));
    if first {
        stream.set_next(other, opposite);
    }
    Place { position, opposite, added }
}

/// Positions up to which a connection has come, whatever moved the bytes.
pub struct Reached {
    /// After the last byte that was received, and after the last byte that was sent.
    pub next: [u64; 2],
    /// After the last byte that arrived, whether it was read or not.
    pub arrived: u64,
}

#[inline(always)]
pub fn reached(sock: Sock, connection: Connection, family: u16) -> Reached {
    let stream = connection.stream();
    let (received, sent) = (stream.next_received(), stream.next_sent());
    match sequences(sock, connection, family) {
        Some(at) if stream.is(bit::IDENTIFIED) => Reached {
            next: [extend(received, at.copied), extend(sent, at.write)],
            arrived: extend(received, at.arrived),
        },
        _ => {
            let unread = if sock.is_mptcp() && !sock.is_orphan() { UNKNOWN_ARRIVED } else { 0 };
            Reached { next: [received, sent], arrived: received + unread }
        }
    }
}

/// A sequence number as the position nearest to `near`.
#[inline(always)]
fn extend(near: u64, sequence: u32) -> u64 {
    near.wrapping_add(sequence.wrapping_sub(near as u32) as i32 as i64 as u64)
}
