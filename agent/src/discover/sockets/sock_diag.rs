//! Asks the kernel which TCP sockets of a network namespace listen: sock_diag(7).
//!
//! /proc/net/tcp says the same. But to read its last listening row, the kernel searches its table of all connections for
//! the next row. That takes 5 ms if the table has 262,144 entries, which it has on a machine with 24 GB.

use std::io;
use std::os::fd::AsFd as _;
use std::thread;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{ListeningSocket, Process};

/// SOCK_DIAG_BY_FAMILY, include/uapi/linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP, include/uapi/linux/netlink.h.
const DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR: the sockets changed meanwhile, so that some may be missing.
const INTERRUPTED: u16 = 0x10;
/// NLMSG_DONE
const DONE: u16 = 3;
/// 1 << TCP_LISTEN, include/net/tcp_states.h.
const LISTENING: u32 = 1 << 10;
const FAMILIES: [AddressFamily; 2] = [AddressFamily::INET, AddressFamily::INET6];
/// The largest part of an answer that the kernel makes.
const PART_BYTES: usize = 32 << 10;
/// struct nlmsghdr
const HEADER_BYTES: usize = 16;
/// struct inet_diag_req_v2
const REQUEST_BYTES: usize = 56;
/// Where `struct inet_diag_msg` has the port, in the byte order of the network, and the inode.
const PORT: usize = 4;
const INODE: usize = 68;

/// The listening sockets of the namespace of `process`.
///
/// # Errors
/// If the kernel does not answer, or if this thread may not enter the namespace. That takes `CAP_SYS_ADMIN`.
pub(super) fn listening(process: &Process) -> io::Result<Vec<ListeningSocket>> {
    let myself = Process::myself().and_then(|myself| myself.network_namespace());
    if myself.is_ok_and(|own| process.network_namespace().is_ok_and(|other| other == own)) {
        return of_this_namespace();
    }
    let namespace = process.open_relative("ns/net").map_err(io::Error::other)?;
    // A thread of its own, because there may be no way back.
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        of_this_namespace()
    };
    let thread = thread::Builder::new().name("namespace".to_owned()).spawn(enter)?;
    thread.join().map_err(|_| io::Error::other("the thread panicked"))?
}

fn of_this_namespace() -> io::Result<Vec<ListeningSocket>> {
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let mut found = Vec::new();
    let mut part = vec![0; PART_BYTES];
    for family in FAMILIES {
        send(&socket, &request(family), SendFlags::empty())?;
        loop {
            let (_, length) = recv(&socket, &mut part[..], RecvFlags::empty())?;
            let is_last = read(part.get(..length).unwrap_or_default(), &mut found);
            if is_last.ok_or_else(|| io::Error::other("no complete answer of sock_diag"))? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: AddressFamily) -> [u8; HEADER_BYTES + REQUEST_BYTES] {
    /// IPPROTO_TCP
    const TCP: u8 = 6;
    let mut request = [0; HEADER_BYTES + REQUEST_BYTES];
    request[..4].copy_from_slice(&((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    // The numbers of both families are small.
    request[16] = family.as_raw() as u8;
    request[17] = TCP;
    request[20..24].copy_from_slice(&LISTENING.to_ne_bytes());
    request
}

/// Reads a part of an answer. Returns whether it is the last. None if it is no answer, or not a complete one.
fn read(mut part: &[u8], found: &mut Vec<ListeningSocket>) -> Option<bool> {
    while !part.is_empty() {
        let length = u32::from_ne_bytes(*part.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*part.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*part.get(6..)?.first_chunk()?);
        if flags & INTERRUPTED != 0 {
            return None;
        }
        match kind {
            DONE => return Some(true),
            BY_FAMILY => {
                let socket = part.get(HEADER_BYTES..length)?;
                let port = u16::from_be_bytes(*socket.get(PORT..)?.first_chunk()?);
                let inode = u32::from_ne_bytes(*socket.get(INODE..)?.first_chunk()?);
                found.push(ListeningSocket { port, inode: inode.into() });
            }
            _ => return None,
        }
        // NLMSG_ALIGN
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_says_what_proc_says() {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Some machines have no IPv6.
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        let client = TcpStream::connect(four.local_addr().unwrap()).unwrap();
        let myself = Process::myself().unwrap();
        let ports: Vec<_> = [Some(&four), six.as_ref()].into_iter().flatten().collect();
        let ports: Vec<_> = ports.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        // Other programs open and close sockets meanwhile.
        let own = |sockets: Vec<ListeningSocket>| {
            sockets.into_iter().filter(|socket| ports.contains(&socket.port)).collect::<Vec<_>>()
        };
        let asked = listening(&myself).unwrap();
        assert!(asked.iter().all(|socket| socket.port != client.local_addr().unwrap().port()));
        let asked = own(asked);
        assert_eq!(asked.len(), ports.len());
        assert_eq!(asked, own(super::super::of_proc(&myself).unwrap()));
    }

    #[test]
    fn an_answer_that_is_cut_or_an_error_is_none() {
        let mut found = Vec::new();
        let mut message = vec![0; 88];
        message[..4].copy_from_slice(&88_u32.to_ne_bytes());
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        message[20..22].copy_from_slice(&8080_u16.to_be_bytes());
        message[84..].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(read(&message, &mut found), Some(false));
        assert_eq!(found, [ListeningSocket { port: 8080, inode: 7 }]);
        for length in 1..88 {
            assert_eq!(read(&message[..length], &mut found), None, "{length}");
        }
        for length in 0_u32..88 {
            message[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(read(&message, &mut found), None, "a message says that it has {length} bytes");
        }
        /// NLMSG_ERROR
        const ERROR: u16 = 2;
        message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        assert_eq!(read(&message, &mut found), None);
        message[4..6].copy_from_slice(&DONE.to_ne_bytes());
        assert_eq!(read(&message, &mut found), Some(true));
        message[6..8].copy_from_slice(&INTERRUPTED.to_ne_bytes());
        assert_eq!(read(&message, &mut found), None);
        assert_eq!(found.len(), 1);
    }
}
