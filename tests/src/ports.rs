//! Loopback ports that nobody else gets while a server is being started on them.
//!
//! Below the range that the kernel takes ports for outgoing connections from, so that a busy test can't lose its server's port to
//! a client. Among worlds, also of other processes, a port is claimed with an abstract unix socket of its name, which
//! the kernel frees with its owner and which leaves no file.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

use anyhow::{Result, bail};

/// Under net.ipv4.ip_local_port_range, whose default begins at 32768.
const RANGE: RangeInclusive<u16> = 20_000..=29_999;

/// A port on 127.0.0.1 that is ours until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UnixDatagram,
}

impl Port {
    /// Claims a port on which nothing listens.
    pub fn claim() -> Result<Self> {
        let count = RANGE.end() - RANGE.start() + 1;
        // Each process begins elsewhere, so that most claims succeed at once.
        let offset = u16::try_from(process::id() % u32::from(count)).unwrap_or(0);
        for step in 0..count {
            let number = RANGE.start() + (offset + step) % count;
            let name = SocketAddr::from_abstract_name(format!("onlooker-port-{number}"))?;
            let Ok(claim) = UnixDatagram::bind_addr(&name) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        bail!("every port from {} to {} is taken", RANGE.start(), RANGE.end())
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.number)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_claimed_port_is_not_given_twice() {
        let (first, second) = (Port::claim().unwrap(), Port::claim().unwrap());
        assert_ne!(first.number(), second.number());
    }
}
