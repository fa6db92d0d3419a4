//! Reads the addresses that records carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use compact_str::CompactString;
use onlooker_common::connection::{ConnectionChange, role};

use crate::model::span::{Address, Role};

const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;

/// The role and both addresses of a connection.
pub(crate) fn of_connection(record: &ConnectionChange) -> (Option<Role>, Address, Address) {
    let role = match record.role {
        role::CLIENT => Some(Role::Client),
        role::SERVER => Some(Role::Server),
        _ => None,
    };
    let (local, peer) = match record.family {
        AF_UNIX => {
            let path = unix_path(record);
            // The path is the server's: its own address, and the client's peer.
            let unnamed = Address::Unix(CompactString::default());
            if role == Some(Role::Server) { (Address::Unix(path), unnamed) } else { (unnamed, Address::Unix(path)) }
        }
        family => (
            inet(family == AF_INET, &record.local_address, record.local_port),
            inet(family == AF_INET, &record.remote_address, record.remote_port),
        ),
    };
    (role, local, peer)
}

fn inet(is_v4: bool, bytes: &[u8; 16], port: u16) -> Address {
    Address::Inet(socket(is_v4, bytes, port))
}

pub(crate) fn socket(is_v4: bool, bytes: &[u8; 16], port: u16) -> SocketAddr {
    let address = if is_v4 {
        IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    } else {
        // A dual-stack socket has IPv4 peers under mapped addresses.
        Ipv6Addr::from(*bytes).to_canonical()
    };
    SocketAddr::new(address, port)
}

fn unix_path(record: &ConnectionChange) -> CompactString {
    let length = (record.path_length as usize).min(record.path.len());
    let path = &record.path[..length];
    match path.split_first() {
        // An abstract address may hold any bytes, and has no terminator.
        Some((0, name)) => {
            let mut shown = CompactString::from("@");
            shown.push_str(&String::from_utf8_lossy(name));
            shown
        }
        _ => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(length);
            CompactString::from_utf8_lossy(&path[..end])
        }
    }
}
