//! The servers, one file each. They are installed from packages and configured, but otherwise unmodified.
//!
//! A server is ready when its log says so. No probe request is sent, so an agent that runs from the beginning sees only the
//! test's own requests.

mod app;
mod collector;
mod etcd;
mod gunicorn;
mod memcached;
mod nghttpx;
mod nginx;
mod postgres;
mod proxy;
mod redis;
mod stripped;
mod tier;
mod zipkin;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::{self, Deadline, within};

pub use self::app::{App, AppOptions, RUST_PACKAGES, build_rust};
pub use self::collector::Collector;
pub use self::etcd::Etcd;
pub use self::gunicorn::{Gunicorn, GunicornOptions, Workers};
pub use self::memcached::Memcached;
pub use self::nghttpx::Nghttpx;
pub use self::nginx::{Nginx, Site};
pub use self::postgres::Postgres;
pub use self::proxy::{Proxy, ProxyProgram};
pub use self::redis::Redis;
pub use self::stripped::Stripped;
pub use self::tier::{Tier, deployed};
pub use self::zipkin::Zipkin;

/// The slowest server needs one second on an idle machine, but a compiler may be running.
pub(crate) const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A server finishes its remaining work within this time.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// Waits until the server at `address` (`127.0.0.1:PORT`) has no connections left. Then it has finished all its requests,
/// aborted ones included.
pub fn wait_for_no_connections(address: &str) -> Result<()> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("an address has a port")?;
    wait::until(within(DONE_WITHIN), "end of the connections", || {
        let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
        Ok((connections_in(&table, port) == 0).then_some(()))
    })
}

/// Waits until a server listens on the port.
pub(crate) fn wait_until_listening(deadline: Deadline, port: u16) -> Result<()> {
    wait::until(deadline, "a listening socket", || {
        let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
        let listens = format!(":{port:04X} 00000000:0000 0A");
        Ok(table.contains(&listens).then_some(()))
    })
}

/// proc(5): number, local and remote address as hexadecimal `IP:PORT`, state. No process owns a socket in TIME_WAIT.
fn connections_in(table: &str, port: u16) -> usize {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let local_port = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        let state = fields.nth(1).unwrap_or_default();
        local.ends_with(&local_port) && ![TIME_WAIT, LISTEN].contains(&state)
    };
    table.lines().skip(1).filter(is_open).count()
}

#[cfg(test)]
mod tests {
    use super::connections_in;

    #[test]
    fn connections_are_counted_on_the_servers_side() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                        0: 0100007F:4E20 00000000:0000 0A 00000000:00000000\n\
                        1: 0100007F:4E20 0100007F:D431 01 00000000:00000000\n\
                        2: 0100007F:D431 0100007F:4E20 01 00000000:00000000\n\
                        3: 0100007F:4E20 0100007F:D432 06 00000000:00000000\n";
        assert_eq!((connections_in(table, 20_000), connections_in(table, 80)), (1, 0));
    }
}
