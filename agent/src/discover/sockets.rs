//! Where processes listen: the TCP ports of each network namespace, and which process holds them.

mod sock_diag;

use std::collections::hash_map::Entry;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;

use rustc_hash::{FxHashMap, FxHashSet};

use super::process::{Process, Unreadable};

/// A TCP socket in state LISTEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListeningSocket {
    pub port: u16,
    /// Its number in /proc/PID/fd: `socket:[inode]`.
    pub inode: u64,
}

/// The listening sockets of network namespaces. Each namespace is read once, when it is first needed.
#[derive(Debug, Default)]
pub struct ListeningSockets {
    /// By the namespace's inode number.
    namespaces: FxHashMap<u64, Vec<ListeningSocket>>,
    /// Namespaces whose ports were returned.
    reported: FxHashSet<u64>,
}

impl ListeningSockets {
    /// All listening sockets of the network namespace of `process`.
    pub fn around(&mut self, process: &Process) -> Result<&[ListeningSocket], Unreadable> {
        match self.namespaces.entry(process.network_namespace()?) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let listeners = match sock_diag::listening(process) {
                    Ok(listeners) => listeners,
                    Err(_) => of_proc(process)?,
                };
                Ok(unknown.insert(listeners))
            }
        }
    }

    /// The sockets that `process` itself holds, including inherited ones, whose port is `wanted`.
    pub fn held_by(
        &mut self,
        process: &Process,
        wanted: impl Fn(u16) -> bool,
    ) -> Result<Vec<ListeningSocket>, Unreadable> {
        let candidates: FxHashMap<u64, ListeningSocket> = self
            .around(process)?
            .iter()
            .filter(|listener| wanted(listener.port))
            .map(|listener| (listener.inode, *listener))
            .collect();
        let mut held = Vec::new();
        if candidates.is_empty() {
            return Ok(held);
        }
        process.descriptors(|target| {
            if let Some(listener) = socket_inode(target).and_then(|inode| candidates.get(&inode))
                && !held.contains(listener)
            {
                held.push(*listener);
            }
            ControlFlow::Continue(())
        })?;
        Ok(held)
    }

    /// The listening ports of the network namespace of `process`, as (inode of the namespace, port). Empty if they were
    /// returned before, or cannot be read.
    pub fn new_ports(&mut self, process: &Process) -> Vec<(u64, u16)> {
        let Ok(namespace) = process.network_namespace() else { return Vec::new() };
        if !self.reported.insert(namespace) {
            return Vec::new();
        }
        let mut ports: Vec<_> =
            self.around(process).unwrap_or_default().iter().map(|listener| (namespace, listener.port)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// The same by /proc, which takes longer and no privilege.
fn of_proc(process: &Process) -> Result<Vec<ListeningSocket>, Unreadable> {
    let mut listeners = read(process, "net/tcp")?;
    // A kernel without IPv6 has no such file.
    listeners.extend(read(process, "net/tcp6").unwrap_or_default());
    Ok(listeners)
}

fn read(process: &Process, table: &str) -> Result<Vec<ListeningSocket>, Unreadable> {
    let mut rows = BufReader::new(process.open_relative(table)?);
    let mut row = String::new();
    let mut listeners = Vec::new();
    // The first row is the heading.
    let mut read = rows.read_line(&mut row);
    while matches!(read, Ok(length) if length > 0) {
        row.clear();
        read = rows.read_line(&mut row);
        match listening(&row) {
            Some(listener) => listeners.push(listener),
            // Listening sockets come first (net/ipv4/tcp_ipv4.c: tcp_get_idx). Hundreds of thousands of others may follow.
            None => break,
        }
    }
    Ok(listeners)
}

/// Parses a row of /proc/net/tcp: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode`. None if the socket does not
/// listen.
fn listening(row: &str) -> Option<ListeningSocket> {
    /// TCP_LISTEN, include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    let mut fields = row.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (_, port) = local.rsplit_once(':')?;
    Some(ListeningSocket { port: u16::from_str_radix(port, 16).ok()?, inode })
}

fn socket_inode(target: &[u8]) -> Option<u64> {
    let inode = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::listening(
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 00 100 0",
        Some(ListeningSocket { port: 8080, inode: 12345 })
    )]
    #[case::six(
        "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1",
        Some(ListeningSocket { port: 80, inode: 7 })
    )]
    #[case::established(
        "   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 12345 1",
        None
    )]
    #[case::cut("   0: 0100007F:1F90 00000000:0000 0A 00000000", None)]
    #[case::empty("", None)]
    fn a_row_is_parsed_if_its_socket_listens(#[case] row: &str, #[case] listener: Option<ListeningSocket>) {
        assert_eq!(listening(row), listener);
    }

    #[test]
    fn a_process_holds_its_listening_sockets() {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = four.local_addr().unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // Some machines have no IPv6.
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();

        let myself = Process::myself().unwrap();
        let mut listeners = ListeningSockets::default();
        let held = |listeners: &mut ListeningSockets, port| {
            let held = listeners.held_by(&myself, |held| held == port).unwrap();
            held.iter().map(|listener| listener.port).collect::<Vec<_>>()
        };
        assert_eq!(held(&mut listeners, port), [port]);
        assert_eq!(held(&mut listeners, client.local_addr().unwrap().port()), [0_u16; 0]);
        if let Some(six) = six {
            let port = six.local_addr().unwrap().port();
            assert_eq!(held(&mut listeners, port), [port]);
        }
        let namespace = myself.network_namespace().unwrap();
        assert!(listeners.new_ports(&myself).contains(&(namespace, port)));
        assert_eq!(listeners.new_ports(&myself), []);
    }
}
