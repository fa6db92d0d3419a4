//! A client that sends exactly the bytes it is given and measures its exchanges. Spans are compared with these times.
//!
//! It runs in the test process, which is not watched, so its requests have server spans only. Its clock is wall-clock
//! time, like that of spans.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::scheduling::delay_here;
use crate::socket;
use crate::times::Measured;

/// Responses come sooner than this even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One HTTP connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
    /// When bytes were last read from the socket.
    read_at: u64,
}

/// A response and the times of its parts.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// Bytes of the body after removing the transfer coding.
    pub body: usize,
    /// When the last byte of the head was read.
    pub first: u64,
    /// When the last byte of the response was read.
    pub last: u64,
}

impl Response {
    /// Returns whether the server keeps the connection open for another request (RFC 9112 9.3).
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        field(&self.head, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"))
    }
}

/// Wall-clock time in nanoseconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures an exchange that has no response end of its own. `exchange` returns when it sent its first byte; the measured
/// time ends when `exchange` returns.
pub fn measure_until_return(exchange: impl FnOnce() -> Result<u64>) -> Result<((), Measured)> {
    let before = delay_here();
    let start = exchange()?;
    let end = now();
    Ok(((), Measured { start, end, scheduling_delay: delay_here().saturating_sub(before) }))
}

impl RawClient {
    /// Connects to `HOST:PORT`.
    pub fn open(address: &str) -> Result<Self> {
        Self::on(TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?)
    }

    /// Connects with a socket receive buffer of about `bytes`.
    pub fn open_with_receive_buffer(address: &str, bytes: i32) -> Result<Self> {
        let stream = socket::connect(address.parse()?, 0, Some(bytes));
        Self::on(stream.with_context(|| format!("cannot connect to {address}"))?)
    }

    /// Connects with MPTCP.
    pub fn open_mptcp(address: &str) -> Result<Self> {
        let stream = socket::connect(address.parse()?, libc::IPPROTO_MPTCP, None);
        Self::on(stream.with_context(|| format!("cannot connect to {address}"))?)
    }

    fn on(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new(), read_at: 0 })
    }

    /// Writes all of `bytes`. Returns the time before the write.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64> {
        let before = now();
        self.stream.write_all(bytes.as_ref()).context("cannot send")?;
        Ok(before)
    }

    /// Sends a keep-alive GET for `path` and reads the response.
    pub fn get(&mut self, path: &str) -> Result<(Response, Measured)> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
    }

    /// Sends a request and reads its response.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Result<(Response, Measured)> {
        self.measure(|client| {
            let start = client.send(request)?;
            Ok((start, client.response()?))
        })
    }

    /// Sends a HEAD for `path` and reads the response.
    pub fn head(&mut self, path: &str) -> Result<(Response, Measured)> {
        self.measure(|client| {
            let start = client.send(format!("HEAD {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))?;
            Ok((start, client.response_without_body()?))
        })
    }

    /// Measures `exchange`, which returns when it sent its first byte, and the response.
    pub fn measure(
        &mut self,
        exchange: impl FnOnce(&mut Self) -> Result<(u64, Response)>,
    ) -> Result<(Response, Measured)> {
        let before = delay_here();
        let (start, response) = exchange(self)?;
        let measured = Measured { start, end: response.last, scheduling_delay: delay_here().saturating_sub(before) };
        Ok((response, measured))
    }

    /// Like [`RawClient::exchange`], but returns `None` if the server closed the connection before sending any byte.
    pub fn exchange_unless_closed(&mut self, request: impl AsRef<[u8]>) -> Result<Option<(Response, Measured)>> {
        let before = delay_here();
        let Ok(start) = self.send(request) else { return Ok(None) };
        if !self.read_more().unwrap_or(false) {
            return Ok(None);
        }
        let response = self.response()?;
        let measured = Measured { start, end: response.last, scheduling_delay: delay_here().saturating_sub(before) };
        Ok(Some((response, measured)))
    }

    /// Reads a response whose head determines its body length.
    pub fn response(&mut self) -> Result<Response> {
        let (head, first) = self.read_head()?;
        let status = status(&head)?;
        let body = match field(&head, "content-length") {
            _ if (100..200).contains(&status) || matches!(status, 204 | 304) => 0,
            Some(length) => {
                let length = length.parse().context("the Content-Length is not a number")?;
                self.take(length)?;
                length
            }
            None if field(&head, "transfer-encoding").is_some() => self.chunks()?,
            None => bail!("the response has no length:\n{head}"),
        };
        Ok(Response { status, head, body, first, last: self.read_at })
    }

    /// Reads a response to a HEAD request, which has no body.
    pub fn response_without_body(&mut self) -> Result<Response> {
        let (head, first) = self.read_head()?;
        Ok(Response { status: status(&head)?, head, body: 0, first, last: first })
    }

    /// Reads the head of a response. Body bytes that were received with it stay buffered.
    pub fn response_head(&mut self) -> Result<String> {
        Ok(self.read_head()?.0)
    }

    /// Reads and discards `length` bytes.
    pub fn skip(&mut self, length: usize) -> Result<()> {
        self.take(length)
    }

    /// Reads until the server closes its side. Returns how many bytes were read.
    pub fn read_to_end(&mut self) -> Result<usize> {
        Ok(self.read_to_string()?.len())
    }

    /// Reads until the server closes its side. Returns what was read as text.
    pub fn read_to_string(&mut self) -> Result<String> {
        while self.read_more()? {}
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned())
    }

    /// Shuts down the sending side.
    pub fn shut_down_write(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("cannot shut down")
    }

    /// Closes the connection with a reset. Both kernels discard the data that was not read yet.
    pub fn reset(self) -> Result<()> {
        socket::reset_on_close(&self.stream).context("cannot set SO_LINGER")
    }

    fn read_head(&mut self) -> Result<(String, u64)> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect::<Vec<_>>();
                return Ok((String::from_utf8_lossy(&head).into_owned(), self.read_at));
            }
            ensure!(self.read_more()?, "the connection closed within a response head");
        }
    }

    /// Reads and discards `count` bytes.
    fn take(&mut self, mut count: usize) -> Result<()> {
        loop {
            let here = count.min(self.unread.len());
            self.unread.drain(..here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            ensure!(self.read_more()?, "the connection closed {count} bytes before the end of a body");
        }
    }

    fn chunks(&mut self) -> Result<usize> {
        let mut body = 0;
        loop {
            let size = loop {
                if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                    let line = self.unread.drain(..end + 2).collect::<Vec<_>>();
                    let digits = String::from_utf8_lossy(&line[..end]).into_owned();
                    break usize::from_str_radix(&digits, 16).with_context(|| format!("chunk size {digits:?}"))?;
                }
                ensure!(self.read_more()?, "the connection closed within a chunked body");
            };
            self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body += size;
        }
    }

    /// Reads what is available. Returns false at the end of the stream.
    fn read_more(&mut self) -> Result<bool> {
        let mut buffer = [0; 64 << 10];
        let read = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.context("cannot receive")?,
            }
        };
        self.read_at = now();
        self.unread.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }
}

fn status(head: &str) -> Result<u16> {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no status in {head:?}"))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::RawClient;

    #[test]
    fn a_response_is_read_exactly_to_its_end() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = RawClient::open(&server.local_addr().unwrap().to_string()).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        peer.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
              HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno\
              HTTP/1.1 304 Not Modified\r\ncontent-length: 20\r\n\r\nrest",
        )
        .unwrap();
        drop(peer);
        let responses: Vec<_> = (0..3).map(|_| client.response().map(|r| (r.status, r.body)).unwrap()).collect();
        assert_eq!(responses, [(200, 3), (404, 2), (304, 0)]);
        assert_eq!(client.read_to_end().unwrap(), 4);
    }
}
