//! Load: numbered requests over kept-alive connections, as many in flight as there are to be and no more.
//!
//! The number is the last segment of the path. What serves the request passes it on to those it calls, so that afterwards
//! each span says by its path which request it is of: see [`crate::parents`].

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::socket::reset_on_close;
use crate::wait::{self, within};

/// Much longer than any answer takes on a busy machine: a load that hangs fails.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Requests that are to be sent to one server.
#[derive(Debug, Clone)]
pub struct Load {
    address: String,
    prefix: String,
    in_flight: usize,
    aborts: Option<u64>,
}

/// How far a load has come.
#[derive(Debug)]
pub struct Progress {
    next: AtomicU64,
    end: AtomicU64,
    answered: AtomicU64,
}

impl Load {
    /// `GET PREFIX/NUMBER` at `address`, which is `HOST:PORT`; one in flight.
    #[must_use]
    pub fn on(address: &str, prefix: &str) -> Self {
        Self { address: address.to_owned(), prefix: prefix.to_owned(), in_flight: 1, aborts: None }
    }

    /// This many connections, each with one request at a time.
    #[must_use]
    pub fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    /// In place of every `nth` request one that is given up: by turns in the middle of its head, as soon as it is sent, and
    /// so that the server is told by a reset.
    #[must_use]
    pub fn aborting(self, nth: u64) -> Self {
        Self { aborts: Some(nth), ..self }
    }

    /// Where it goes: `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether this load gives up the request with this number.
    #[must_use]
    pub fn aborts(&self, number: u64) -> bool {
        self.aborts.is_some_and(|nth| number.is_multiple_of(nth))
    }

    /// Sends one request for each of `numbers`. Fails unless each gets an answer with a status of success.
    pub fn run(&self, numbers: Range<u64>) -> Result<()> {
        let progress = Progress::over(numbers);
        self.send(&progress, || Ok(())).map(|((), _)| ())
    }

    /// Sends requests with numbers from `first` on as long as `story` goes on. Gives also the numbers that were sent.
    pub fn during<T>(&self, first: u64, story: impl FnOnce(&Progress) -> Result<T>) -> Result<(T, Range<u64>)> {
        let progress = Progress::over(first..u64::MAX);
        self.send(&progress, || {
            let told = story(&progress);
            progress.end.store(0, SeqCst);
            told
        })
        .map(|(told, end)| (told, first..end))
    }

    fn send<T>(&self, progress: &Progress, story: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        thread::scope(|scope| {
            let senders: Vec<_> =
                (0..self.in_flight).map(|_| scope.spawn(|| self.send_one_after_another(progress))).collect();
            let told = story();
            for sender in senders {
                sender.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))??;
            }
            Ok((told?, progress.next.load(SeqCst)))
        })
    }

    fn send_one_after_another(&self, progress: &Progress) -> Result<()> {
        let mut connection = None;
        while let Some(number) = progress.take() {
            ensure!(!wait::interrupted(), "interrupted");
            if self.aborts(number) {
                self.give_up(number).with_context(|| format!("cannot give up request {number}"))?;
            } else {
                let answered = self.ask(&mut connection, number);
                // The others are not to go on for nothing.
                let status = answered.inspect_err(|_| progress.end.store(0, SeqCst));
                let status = status.with_context(|| format!("no answer to request {number}"))?;
                ensure!((200..300).contains(&status), "request {number} was answered {status}");
            }
            progress.answered.fetch_add(1, SeqCst);
        }
        Ok(())
    }

    fn head(&self, number: u64) -> String {
        format!("GET {}/{number} HTTP/1.1\r\nHost: {}\r\n\r\n", self.prefix, self.address)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends one request and reads its answer, on the connection that is kept if there is one; gives the status.
    fn ask(&self, kept: &mut Option<BufReader<TcpStream>>, number: u64) -> Result<u16> {
        let head = self.head(number);
        if let Some(mut connection) = kept.take() {
            // A server may close a connection that it keeps at any time: what it did not answer a byte to, it did not serve.
            if connection.get_mut().write_all(head.as_bytes()).is_ok()
                && connection.fill_buf().is_ok_and(|b| !b.is_empty())
            {
                return answer(connection, kept);
            }
        }
        let mut connection = BufReader::new(self.connect()?);
        connection.get_mut().write_all(head.as_bytes())?;
        answer(connection, kept)
    }

    fn give_up(&self, number: u64) -> Result<()> {
        let head = self.head(number);
        let mut stream = self.connect()?;
        match number / self.aborts.unwrap_or(1) % 3 {
            0 => stream.write_all(&head.as_bytes()[..head.len() / 2])?,
            1 => stream.write_all(head.as_bytes())?,
            _ => {
                stream.write_all(head.as_bytes())?;
                reset_on_close(&stream)?;
            }
        }
        Ok(())
    }
}

impl Progress {
    fn over(numbers: Range<u64>) -> Self {
        Self { next: AtomicU64::new(numbers.start), end: AtomicU64::new(numbers.end), answered: AtomicU64::new(0) }
    }

    fn take(&self) -> Option<u64> {
        let open = |next| (next < self.end.load(SeqCst)).then_some(next + 1);
        self.next.fetch_update(SeqCst, SeqCst, open).ok()
    }

    /// The number that the next request will have: this one and all above are of requests that have not begun.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// Waits until `count` more requests are answered than now.
    pub fn more(&self, count: u64) -> Result<()> {
        let enough = self.answered.load(SeqCst) + count;
        wait::until(within(ANSWERED_WITHIN), "further answers", || {
            ensure!(self.end.load(SeqCst) > 0, "the load has failed");
            Ok((self.answered.load(SeqCst) >= enough).then_some(()))
        })
    }
}

/// Reads an answer; the connection is kept if it may be. RFC 9112: sections 6.3 and 9.3.
fn answer(mut connection: BufReader<TcpStream>, kept: &mut Option<BufReader<TcpStream>>) -> Result<u16> {
    let status = line(&mut connection)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.context("the answer has no status line")?;
    let (mut length, mut chunked, mut keep) = (None, false, true);
    loop {
        let field = line(&mut connection)?.to_ascii_lowercase();
        let Some((name, value)) = field.split_once(':') else { break };
        match (name, value.trim()) {
            ("content-length", value) => length = Some(value.parse::<u64>().context("not a length")?),
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => keep = false,
            _ => {}
        }
    }
    match length {
        _ if chunked => loop {
            let size = line(&mut connection)?;
            let size = u64::from_str_radix(size.trim(), 16).context("not the size of a chunk")?;
            skip(&mut connection, size + 2)?;
            if size == 0 {
                break;
            }
        },
        Some(length) => skip(&mut connection, length)?,
        None => bail!("the answer's length is not known"),
    }
    *kept = keep.then_some(connection);
    Ok(status)
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    ensure!(connection.read_line(&mut line)? > 0, "the connection was closed");
    Ok(line.trim_end().to_owned())
}

fn skip(connection: &mut BufReader<TcpStream>, length: u64) -> Result<()> {
    let read = io::copy(&mut connection.take(length), &mut io::sink())?;
    ensure!(read == length, "the connection was closed in the middle of the answer");
    Ok(())
}
