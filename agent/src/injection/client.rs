//! The process of the self-test: `onlooker self-test-client PORT`.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// The hidden verb that runs it.
pub const VERB: &str = "self-test-client";

/// What it prints if everything is as it should be.
pub(super) const FINE: &str = "fine";

/// A request, and the response to it.
pub(super) const REQUEST: &[u8] = b"GET /self-test HTTP/1.1\r\nHost: onlooker\r\nAccept: */*\r\n\r\n";
pub(super) const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\nServer: onlooker\r\n\r\n";
pub(super) const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// The end of the request before which the line is added.
pub(super) const END: &[u8] = b"\r\n";

/// Where the request is cut: within a line.
const CUT: usize = 30;

const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for a byte on stdin, sends two requests, and prints what it found.
pub fn run(port: u16) {
    let found = match exchange(port) {
        Ok(()) => FINE.to_owned(),
        Err(error) => format!("{error:#}"),
    };
    // This fails only if the agent has given up.
    let _ = writeln!(io::stdout().lock(), "{found}");
}

fn exchange(port: u16) -> Result<()> {
    io::stdin().lock().read_exact(&mut [0])?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (begins, ends) = REQUEST.split_at(CUT);
    stream.write_all(begins)?;
    stream.write_all(ends)?;
    read(&mut stream, "after the first request")?;
    stream.write_all(REQUEST)?;
    read(&mut stream, "after the second request")
}

/// Reads a response when all of it waits.
fn read(stream: &mut TcpStream, when: &str) -> Result<()> {
    let by = Instant::now() + PATIENCE;
    let mut bytes = [0; RESPONSE.len()];
    // A peek waits until there are bytes.
    while stream.peek(&mut bytes).with_context(|| format!("no response {when}"))? < RESPONSE.len() {
        ensure!(Instant::now() < by, "the response is incomplete {when}");
    }
    let waiting = waiting(stream)?;
    ensure!(waiting == RESPONSE.len(), "FIONREAD answers {waiting} although {} bytes wait {when}", RESPONSE.len());
    stream.read_exact(&mut bytes)?;
    ensure!(bytes == RESPONSE, "the response arrived changed {when}");
    Ok(())
}

/// The number of bytes that can be read, as FIONREAD answers.
fn waiting(stream: &TcpStream) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the request writes an int.
    if unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONREAD, &raw mut waiting) } != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(waiting).map_err(io::Error::other)
}
