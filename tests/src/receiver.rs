//! A server of this process that keeps what it receives, byte for byte. No agent watches it.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

/// A request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Up to and including the empty line.
    pub head: String,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
}

/// What a server does with a connection.
type Serve = fn(TcpStream, &Mutex<Vec<Request>>) -> Result<()>;

/// A running server. Its threads end with this process.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Responds to each HTTP/1.1 request with its head.
    pub fn of_requests() -> Result<Self> {
        Self::start(serve_requests)
    }

    /// Responds to each HTTP/1.1 request with all of it. Chunks are repeated without their framing.
    pub fn of_repeated_requests() -> Result<Self> {
        Self::start(|stream, _| {
            serve_each(stream, |request, writer| respond(writer, &[request.head.as_bytes(), &request.body].concat()))
        })
    }

    /// Keeps the length and a digest in place of each body, and responds with as many bytes as the query's `answer` says.
    pub fn of_digests() -> Result<Self> {
        Self::start(|stream, kept| {
            serve_each(stream, |request, writer| {
                let answer =
                    request.path().split_once("answer=").and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0);
                let mut digest = DefaultHasher::new();
                digest.write(&request.body);
                let body = [request.body.len() as u64, digest.finish()].map(u64::to_le_bytes).concat();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Request { body, ..request });
                respond(writer, &(0..answer).map(|index: usize| (index % 251) as u8).collect::<Vec<_>>())
            })
        })
    }

    /// Sends all bytes back when the client has ended its direction.
    pub fn of_bytes() -> Result<Self> {
        Self::start(|stream, _| send_back(stream))
    }

    fn start(serve: Serve) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that breaks off shows in the test.
                thread::spawn(move || serve(stream, &kept));
            }
        });
        Ok(Self { port, requests })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT/path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The requests so far, in the order in which they were complete.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Request {
    /// Values of the fields with this name, which is compared without case.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The path of the request line.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

fn send_back(mut stream: TcpStream) -> Result<()> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    stream.write_all(&bytes)?;
    Ok(())
}

fn serve_requests(stream: TcpStream, kept: &Mutex<Vec<Request>>) -> Result<()> {
    serve_each(stream, |request, writer| {
        let head = request.head.clone();
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        respond(writer, head.as_bytes())
    })
}

fn respond(writer: &mut TcpStream, body: &[u8]) -> Result<()> {
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    // At once: otherwise the second part waits until the client acknowledges the first.
    Ok(writer.write_all(&response)?)
}

fn serve_each(stream: TcpStream, mut serve: impl FnMut(Request, &mut TcpStream) -> Result<()>) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = Request::default();
        while !request.head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut request.head)? == 0 {
                return Ok(());
            }
        }
        if !request.values("expect").is_empty() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(length) = request.values("content-length").first() {
            request.body = vec![0; length.parse()?];
            reader.read_exact(&mut request.body)?;
        } else if !request.values("transfer-encoding").is_empty() {
            request.body = chunks(&mut reader)?;
        }
        serve(request, &mut writer)?;
    }
}

/// The content of a chunked body without trailers.
fn chunks(reader: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).with_context(|| format!("no size of a chunk: {line:?}"))?;
        let begins = body.len();
        body.resize(begins + size, 0);
        reader.read_exact(&mut body[begins..])?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
