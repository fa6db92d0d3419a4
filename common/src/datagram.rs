//! One datagram of a selected process, as of DNS.

use crate::owner::{MessageIds, Owner};

/// A datagram that was sent or received. Its captured bytes follow it in the ring.
///
/// Datagrams have no positions: each is a message of its own, and none is missed by a gap in the numbers.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    feature = "decode",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Datagram {
    pub kind: u32,
    /// Bytes of the datagram's beginning that follow this header.
    pub captured: u32,
    /// When the operation returned: `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    pub cookie: u64,
    /// Bytes of the datagram.
    pub length: u32,
    /// Of the bits of [`flag`](crate::segment::flag): `EGRESS`, `LENGTH_ONLY` and `LOOP`.
    pub flags: u32,
    pub tgid: u32,
    pub tid: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// One of the [`role`](crate::connection::role) constants.
    pub role: u8,
    pub _pad: u8,
    /// One of the [`unit`](crate::unit) constants.
    pub unit_kind: u32,
    /// Host byte order.
    pub local_port: u16,
    pub remote_port: u16,
    pub _pad_ports: u32,
    pub unit: [u64; 2],
    /// For a message that was sent to a server: the request whose work it is.
    pub owner: Owner,
    pub message: MessageIds,
    /// IPv4 in the first four bytes.
    pub local_address: [u8; 16],
    pub remote_address: [u8; 16],
}

const _: () = assert!(size_of::<Datagram>() == 176);
