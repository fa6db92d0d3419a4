//! A client of HTTPS that keeps its connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Child;

use anyhow::{Context as _, Result, ensure};

use crate::world::World;

/// `openssl s_client`, which sends what it is given.
#[derive(Debug)]
pub struct SecureClient(Child);

impl SecureClient {
    /// Its service name.
    pub const NAME: &str = "openssl";

    /// Starts it in the watched cgroup. `address`: the server's `IP:PORT`.
    pub fn connect(world: &World, address: &str) -> Result<Self> {
        let mut openssl = world.command("openssl");
        openssl.args(["s_client", "-quiet", "-connect", address]);
        Ok(Self(world.spawn(&mut openssl)?))
    }

    /// Sends a request. Returns the last line of the response, which must be a JSON object.
    pub fn get(&mut self, path: &str) -> Result<String> {
        let input = self.0.stdin.as_mut().context("it has an input")?;
        write!(input, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        // The server keeps the connection open, so the output does not end.
        let mut output = BufReader::new(self.0.stdout.as_mut().context("it has an output")?);
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            ensure!(output.read_line(&mut line)? > 0, "the connection was closed");
        }
        Ok(line)
    }
}

impl Drop for SecureClient {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
