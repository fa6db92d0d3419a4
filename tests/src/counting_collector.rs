//! A collector that receives spans over OTLP/HTTP and only counts them, so that it takes little CPU time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::{self, within};
use anyhow::{Context as _, Result};

/// The agent holds a batch for at most 200 ms. After a longer pause all spans have arrived.
const QUIET: Duration = Duration::from_millis(500);

/// The collector. It listens until this program ends.
#[derive(Debug)]
pub struct CountingCollector {
    address: SocketAddr,
    spans: Arc<AtomicU64>,
}

impl CountingCollector {
    /// Starts it on a port of loopback.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let collector = Self { address: listener.local_addr()?, spans: Arc::default() };
        let spans = collector.spans.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let spans = spans.clone();
                // Ends when the agent closes the connection. After a read error, the sum of spans and losses is wrong.
                thread::spawn(move || serve(stream, &spans));
            }
        });
        Ok(collector)
    }

    /// The value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of spans that arrived.
    #[must_use]
    pub fn spans(&self) -> u64 {
        self.spans.load(Relaxed)
    }

    /// Waits until no more spans arrive.
    pub fn wait_until_quiet(&self, patience: Duration) -> Result<()> {
        let (mut seen, mut since) = (self.spans(), Instant::now());
        wait::until(within(patience), "end of the spans", || {
            let now = self.spans();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            Ok((since.elapsed() >= QUIET).then_some(()))
        })
    }
}

fn serve(stream: TcpStream, spans: &AtomicU64) -> Result<()> {
    let mut responses = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    let mut body = Vec::new();
    while let Some(length) = length_of_request(&mut requests)? {
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        spans.fetch_add(count(&body), Relaxed);
        responses.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads a request's header and returns the length of its body. `None` at the end of the connection.
fn length_of_request(requests: &mut BufReader<TcpStream>) -> Result<Option<usize>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("Content-Length is not a number")?;
        }
    }
}

/// The number of spans in an `ExportTraceServiceRequest`: `resource_spans` (1) > `scope_spans` (2) > `spans` (2).
fn count(request: &[u8]) -> u64 {
    let resources = messages(request, 1);
    let scopes = resources.flat_map(|resource| messages(resource, 2));
    scopes.map(|scope| messages(scope, 2).count() as u64).sum()
}

/// The messages in `field` of a message. All fields at these levels are length-delimited.
fn messages(mut message: &[u8], field: u8) -> impl Iterator<Item = &[u8]> {
    const LENGTH_DELIMITED: u8 = 2;
    std::iter::from_fn(move || {
        loop {
            let (&key, rest) = message.split_first()?;
            let (length, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(length)?;
            message = rest;
            if key == field << 3 | LENGTH_DELIMITED {
                return Some(content);
            }
        }
    })
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..=last].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, &bytes[last + 1..]))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn spans_are_counted_across_resources_and_scopes() {
        let message = |key: u8, content: &[u8]| [&[key, content.len() as u8][..], content].concat();
        let span = message(0x12, b"ignored");
        let scope = message(0x12, &[message(0x0a, b"scope"), span.repeat(3), message(0x1a, b"url")].concat());
        let resource = message(0x0a, &[message(0x0a, b"resource"), scope.repeat(2)].concat());
        assert_eq!(count(&resource), 6);
        // A length that is encoded in two bytes.
        let long = [&[0x0a, 0x84, 0x01, 0x12, 0x81, 0x01, 0x12, 0x7f][..], &[0; 0x7f]].concat();
        assert_eq!(count(&long), 1);
    }
}
