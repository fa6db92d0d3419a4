//! A client that sends exactly the bytes it is told and notes when: what spans' times are measured against.
//!
//! It is no watched process, so only servers have spans of what it asks. Its clock is the wall's, as that of spans.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::scheduling::waited_here;
use crate::socket;
use crate::times::Measured;

/// Nobody answers later than this, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    /// When the unread bytes, or the last of them, were read.
    read_at: u64,
}

/// One response, and when it came.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// Bytes of the body without their transfer coding.
    pub body: usize,
    /// When the head's last byte was read.
    pub first: u64,
    /// When the response's last byte was read.
    pub last: u64,
}

impl Response {
    /// Whether another request may follow on its connection: RFC 9112 9.3.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        field(&self.head, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"))
    }
}

/// Nanoseconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures what `story` does from the moment that it gives, when it sent a first byte, to its end: of exchanges that have
/// no end of their own.
pub fn measured_to_the_end(story: impl FnOnce() -> Result<u64>) -> Result<((), Measured)> {
    let before = waited_here();
    let start = story()?;
    let end = now();
    Ok(((), Measured { start, end, held_up: waited_here().saturating_sub(before) }))
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub fn open(address: &str) -> Result<Self> {
        Self::on(TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?)
    }

    /// The same with a buffer for about as many `bytes` of what is not yet read.
    pub fn open_narrow(address: &str, bytes: i32) -> Result<Self> {
        let stream = socket::connect_with_receive_buffer(address.parse()?, bytes);
        Self::on(stream.with_context(|| format!("cannot connect to {address}"))?)
    }

    fn on(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new(), read_at: 0 })
    }

    /// Writes all of `bytes`; the moment before.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<u64> {
        let before = now();
        self.stream.write_all(bytes.as_ref()).context("cannot send")?;
        Ok(before)
    }

    /// Sends a GET for `path`, keeping the connection, and reads the answer.
    pub fn get(&mut self, path: &str) -> Result<(Response, Measured)> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
    }

    /// Sends a request that has an ordinary response, and reads that.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Result<(Response, Measured)> {
        self.measured(|client| {
            let start = client.send(request)?;
            Ok((start, client.response()?))
        })
    }

    /// Sends a HEAD for `path` and reads the answer.
    pub fn get_head(&mut self, path: &str) -> Result<(Response, Measured)> {
        self.measured(|client| {
            let start = client.send(format!("HEAD {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n"))?;
            Ok((start, client.response_without_body()?))
        })
    }

    /// Sends a request in whatever way `story` does it, which gives when it began and the response.
    pub fn measured(
        &mut self,
        story: impl FnOnce(&mut Self) -> Result<(u64, Response)>,
    ) -> Result<(Response, Measured)> {
        let before = waited_here();
        let (start, response) = story(self)?;
        let measured = Measured { start, end: response.last, held_up: waited_here().saturating_sub(before) };
        Ok((response, measured))
    }

    /// As [`Connection::exchange`]; none if the server has closed the connection before the first byte of an answer.
    pub fn exchange_unless_closed(&mut self, request: impl AsRef<[u8]>) -> Result<Option<(Response, Measured)>> {
        let before = waited_here();
        let Ok(start) = self.send(request) else { return Ok(None) };
        if !self.more().unwrap_or(false) {
            return Ok(None);
        }
        let response = self.response()?;
        let measured = Measured { start, end: response.last, held_up: waited_here().saturating_sub(before) };
        Ok(Some((response, measured)))
    }

    /// Reads a response whose body is as its head says.
    pub fn response(&mut self) -> Result<Response> {
        let (head, first) = self.head()?;
        let status = status(&head)?;
        let body = match field(&head, "content-length") {
            _ if (100..200).contains(&status) || matches!(status, 204 | 304) => 0,
            Some(length) => {
                let length = length.parse().context("a Content-Length that is no number")?;
                self.take(length)?;
                length
            }
            None if field(&head, "transfer-encoding").is_some() => self.chunks()?,
            None => bail!("a response without a length:\n{head}"),
        };
        Ok(Response { status, head, body, first, last: self.read_at })
    }

    /// Reads a response that has no body whatever its head says: the answer to HEAD.
    pub fn response_without_body(&mut self) -> Result<Response> {
        let (head, first) = self.head()?;
        Ok(Response { status: status(&head)?, head, body: 0, first, last: first })
    }

    /// Reads the head of a response, and whatever of its body came with it.
    pub fn beginning(&mut self) -> Result<String> {
        Ok(self.head()?.0)
    }

    /// Reads `length` bytes, whatever they are of.
    pub fn bytes(&mut self, length: usize) -> Result<()> {
        self.take(length)
    }

    /// Reads until the server closes its side; how many bytes that were.
    pub fn rest(&mut self) -> Result<usize> {
        Ok(self.text()?.len())
    }

    /// The same, as text.
    pub fn text(&mut self) -> Result<String> {
        while self.more()? {}
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned())
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("cannot shut down")
    }

    /// Closes with a reset: what was sent and not read is thrown away on both sides.
    pub fn reset(self) -> Result<()> {
        socket::reset_on_close(&self.stream).context("cannot set SO_LINGER")
    }

    fn head(&mut self) -> Result<(String, u64)> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect::<Vec<_>>();
                return Ok((String::from_utf8_lossy(&head).into_owned(), self.read_at));
            }
            ensure!(self.more()?, "closed before the end of a head");
        }
    }

    /// Reads and drops `count` bytes.
    fn take(&mut self, mut count: usize) -> Result<()> {
        loop {
            let here = count.min(self.unread.len());
            self.unread.drain(..here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            ensure!(self.more()?, "closed {count} bytes before the end of a body");
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
                ensure!(self.more()?, "closed within a chunked body");
            };
            self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body += size;
        }
    }

    /// Reads what there is; whether anything came before the end.
    fn more(&mut self) -> Result<bool> {
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

    use super::Connection;

    #[test]
    fn responses_are_read_to_their_end_and_no_further() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Connection::open(&server.local_addr().unwrap().to_string()).unwrap();
        let (mut peer, _) = server.accept().unwrap();
        peer.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
              HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno\
              HTTP/1.1 304 Not Modified\r\ncontent-length: 20\r\n\r\nrest",
        )
        .unwrap();
        drop(peer);
        let told: Vec<_> = (0..3).map(|_| client.response().map(|r| (r.status, r.body)).unwrap()).collect();
        assert_eq!(told, [(200, 3), (404, 2), (304, 0)]);
        assert_eq!(client.rest().unwrap(), 4);
    }
}
