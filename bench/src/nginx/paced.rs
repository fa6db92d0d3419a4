//! A load with a fixed rate: it sends one request per interval, whether or not responses are late.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::not_interrupted;

const REQUEST: &[u8] = b"GET /products/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends `rate` requests per second for `duration`, alternating between `connections`. Returns the number of responses.
///
/// A response is read before the next request on its connection: after 1.6 ms at 20,000 per second on 32 connections.
pub(super) fn load(address: &str, connections: usize, rate: u32, duration: Duration) -> Result<u64> {
    let mut connections: Vec<_> = (0..connections).map(|_| connect(address)).collect::<Result<_>>()?;
    let length = connections.first_mut().map_or(Ok(0), response_length)?;
    let mut response = vec![0; length];

    let interval = Duration::from_secs(1) / rate;
    let requests = u64::from(rate) * duration.as_secs();
    let start = Instant::now();
    let count = connections.len() as u64;
    for number in 0..requests {
        let connection = &mut connections[(number % count) as usize];
        if number >= count {
            connection.read_exact(&mut response).context("cannot read a response")?;
        }
        let due = start + interval * u32::try_from(number).context("a load of seconds has fewer than 2³² requests")?;
        // A late request is sent at once, so that the rate is kept.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        connection.write_all(REQUEST).context("cannot send a request")?;
        if number % u64::from(rate) == 0 {
            not_interrupted()?;
        }
    }
    for connection in &mut connections {
        connection.read_exact(&mut response).context("cannot read a response")?;
    }
    Ok(requests + 1)
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// The length of a response. All responses are equal.
fn response_length(stream: &mut TcpStream) -> Result<usize> {
    stream.write_all(REQUEST).context("cannot send a request")?;
    let mut response = [0; 4096];
    let mut length = 0;
    while !response[..length].ends_with(b"hello, world") {
        ensure!(length < response.len(), "the response is not the configured one");
        let read = stream.read(&mut response[length..]).context("cannot read a response")?;
        ensure!(read > 0, "the server closed the connection");
        length += read;
    }
    Ok(length)
}
