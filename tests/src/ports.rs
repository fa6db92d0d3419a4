//! Reserves loopback ports, so that a server gets the port that it is configured with.
//!
//! The ports lie below the range that the kernel uses for outgoing connections, so no client can take them. A port is
//! reserved among test processes by binding an abstract unix socket with its number in the name. The kernel frees that
//! name with its owner, and no file is left.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

use anyhow::{Result, bail};

/// Below net.ipv4.ip_local_port_range, which starts at 32768 by default.
const RANGE: RangeInclusive<u16> = 20_000..=29_999;

/// A port on 127.0.0.1, reserved until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UnixDatagram,
}

impl Port {
    /// Reserves a port on which nothing listens.
    pub fn claim() -> Result<Self> {
        let count = RANGE.end() - RANGE.start() + 1;
        // Each process starts at another port, so that most attempts succeed at once.
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

    /// The port number.
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
    fn a_port_is_reserved_once() {
        let (first, second) = (Port::claim().unwrap(), Port::claim().unwrap());
        assert_ne!(first.number(), second.number());
    }
}
