//! `socket_calls PORT IN OUT`: an HTTP server that reads the second request of each connection with the system call IN and
//! answers it with OUT. `socket_calls try IN OUT` checks whether this kernel allows both calls.

mod calls;
mod compat;
mod io_uring;

use std::env;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail, ensure};

use self::calls::{receive, send};

/// Has more bytes than the kernel programs look at buffers: `onlooker_common::limits::BUFFERS`.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n\
    012345678901234567890123456789012345678901234567890123456789";

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [port, how_in, how_out] = &arguments[..] else { bail!("not a port and two calls") };
    if port == "try" {
        return attempt(how_in, how_out);
    }
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    writeln!(io::stdout(), "listening")?;
    for stream in listener.incoming() {
        serve(&stream?, how_in, how_out)?;
    }
    Ok(())
}

/// Moves bytes through a socket pair with both calls. Fails if the kernel refuses one.
fn attempt(how_in: &str, how_out: &str) -> Result<()> {
    let (one, other) = UnixStream::pair()?;
    let mut buffer = [0; 256];
    send(how_out, one.as_raw_fd(), RESPONSE).with_context(|| format!("{how_out} is refused"))?;
    let mut moved = 0;
    while moved < RESPONSE.len() {
        let read = receive(how_in, other.as_raw_fd(), &mut buffer[moved..]);
        moved += read.with_context(|| format!("{how_in} is refused"))?;
    }
    ensure!(&buffer[..moved] == RESPONSE, "{how_out} and {how_in} moved something else");
    Ok(())
}

fn serve(stream: &TcpStream, how_in: &str, how_out: &str) -> Result<()> {
    for number in 0.. {
        let (how_in, how_out) = if number == 1 { (how_in, how_out) } else { ("read", "write") };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            let read = receive(how_in, stream.as_fd().as_raw_fd(), &mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..read]);
        }
        send(how_out, stream.as_fd().as_raw_fd(), RESPONSE)?;
    }
    Ok(())
}
