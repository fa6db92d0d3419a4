//! The servers, one file each. They are had as their users have them: packages, with a configuration file and nothing more.
//!
//! A server is ready when its own log says so. Nothing is sent to it to find out, so that whoever watches from the beginning
//! sees the test's requests and no others.

mod app;
mod collector;
mod gunicorn;
mod nginx;
mod postgres;
mod redis;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::{self, within};

pub use self::app::{App, AppOptions};
pub use self::collector::Collector;
pub use self::gunicorn::{Gunicorn, GunicornOptions, Workers};
pub use self::nginx::{Nginx, Site};
pub use self::postgres::Postgres;
pub use self::redis::Redis;

/// The slowest of them takes a second alone; the machine may be busy with compiling.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What is left to do when the last client has gone takes this long at most.
const DONE_WITHIN: Duration = Duration::from_secs(30);

/// Waits until nobody is connected any more to the server at `address`, `127.0.0.1:PORT`: then it has done with all it was
/// asked for, also with what its clients gave up.
pub fn left_alone(address: &str) -> Result<()> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("an address has a port")?;
    wait::until(within(DONE_WITHIN), "end of the connections", || {
        let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
        Ok((connections_in(&table, port) == 0).then_some(()))
    })
}

/// proc(5): number, local and remote address as `IP:PORT` in hex, state. What is in TIME_WAIT is no process's any more.
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
    fn connections_are_counted_at_the_servers_end() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                        0: 0100007F:4E20 00000000:0000 0A 00000000:00000000\n\
                        1: 0100007F:4E20 0100007F:D431 01 00000000:00000000\n\
                        2: 0100007F:D431 0100007F:4E20 01 00000000:00000000\n\
                        3: 0100007F:4E20 0100007F:D432 06 00000000:00000000\n";
        assert_eq!((connections_in(table, 20_000), connections_in(table, 80)), (1, 0));
    }
}
