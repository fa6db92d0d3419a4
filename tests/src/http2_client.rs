//! A client of HTTP/2 that decides which bytes of a request are written together. It sends one request per connection.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::http2_matrix::Kind;
use crate::wait::{self, within};

const PATIENCE: Duration = Duration::from_secs(30);

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types and flags of frames (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// When the server's SETTINGS have been read.
    AfterSettings,
    /// Together with the connection's preface.
    WithPreface,
    /// Like `AfterSettings`, in two writes. The first has so many bytes, and the server reads it before the second.
    InPieces(usize),
}

/// Sends a GET, or a call of gRPC, and reads the response.
pub fn request(address: &str, path: &str, kind: Kind, written: Written) -> Result<()> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let request = frames_of(address, path, kind)?;
    if written == Written::WithPreface {
        stream.write_all(&[begin, request].concat())?;
        return read_response(&mut stream);
    }
    stream.write_all(&begin)?;
    while read_frame(&mut stream)? != (SETTINGS, 0, 0) {}
    stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
    wait_until_read(&stream)?;
    let first = if let Written::InPieces(first) = written { first } else { 0 };
    let (first, rest) = request.split_at_checked(first).context("the request is shorter")?;
    stream.write_all(first)?;
    wait_until_read(&stream)?;
    stream.write_all(rest)?;
    read_response(&mut stream)
}

/// The frames of stream 1.
fn frames_of(address: &str, path: &str, kind: Kind) -> Result<Vec<u8>> {
    // RFC 7541 6.2.2: literals without indexing, with the name's index or the name; 6.1: fields of the static table.
    let literal = |name: &[u8], value: &str| -> Result<Vec<u8>> {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127).context("a value is long")?;
        Ok([name, &[length], value.as_bytes()].concat())
    };
    let (authority, path) = (literal(&[0x01], address)?, literal(&[0x04], path)?);
    const GET: u8 = 0x82;
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    Ok(match kind {
        Kind::Http => frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&[GET, HTTP], &authority[..], &path].concat()),
        Kind::Grpc => {
            let content_type = literal(&[0x0f, 0x10], "application/grpc")?;
            let trailers = literal(b"\x00\x02te", "trailers")?;
            let head = [&[POST, HTTP], &authority[..], &path, &content_type, &trailers].concat();
            // A message of one byte, not compressed.
            let body = [0, 0, 0, 0, 1, b'x'];
            [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, &body)].concat()
        }
    })
}

/// RFC 9113 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Type, flags and stream of the next frame.
fn read_frame(stream: &mut TcpStream) -> Result<(u8, u8, u32)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).context("cannot read a frame")?;
    let [a, b, c, kind, flags, number @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).context("cannot read the payload of a frame")?;
    Ok((kind, flags, u32::from_be_bytes(number)))
}

/// Reads to the end of stream 1.
fn read_response(stream: &mut TcpStream) -> Result<()> {
    loop {
        let (kind, flags, number) = read_frame(stream)?;
        if number == 1 {
            ensure!(matches!(kind, DATA | HEADERS), "the stream has a frame of type {kind}");
            if flags & END_STREAM != 0 {
                return Ok(());
            }
        }
    }
}

/// Waits until the other end has read all that was written.
fn wait_until_read(stream: &TcpStream) -> Result<()> {
    let (here, there) = (hexadecimal(stream.local_addr()?), hexadecimal(stream.peer_addr()?));
    wait::until(within(PATIENCE), "read bytes", || {
        let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
        // proc(5): number, local and remote address, state, and the lengths of the queues of sent and received bytes.
        let is_read = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.get(1..3) == Some(&[&*there, &*here])
                && fields.get(4).is_some_and(|queues| queues.ends_with(":00000000"))
        };
        Ok(table.lines().any(is_read).then_some(()))
    })
}

/// As in /proc/net/tcp, of 127.0.0.1.
fn hexadecimal(address: SocketAddr) -> String {
    format!("0100007F:{:04X}", address.port())
}
