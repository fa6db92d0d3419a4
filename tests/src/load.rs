//! Load: numbered requests over keep-alive connections, with a fixed number of them in flight.
//!
//! The number is the last segment of the request's path. The server repeats it in the calls that it makes for the
//! request. So every span's path shows which request it belongs to: see [`crate::parents`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::RawClient;
use crate::times::Measured;
use crate::wait::{self, within};
use crate::world::World;

/// A load that takes longer than this hangs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Describes requests to one server.
#[derive(Debug, Clone)]
pub struct Load {
    address: String,
    prefix: String,
    in_flight: usize,
    aborts: Option<u64>,
    traced: bool,
}

/// How far a running load has come.
#[derive(Debug)]
pub struct Progress {
    next: AtomicU64,
    end: AtomicU64,
    done: AtomicU64,
    sent: Mutex<Sent>,
}

/// The requests that a load has sent, by number.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// Requests that were answered with a 2xx status.
    pub answered: BTreeMap<u64, Measured>,
    /// Requests that the client aborted.
    pub aborted: BTreeMap<u64, Abort>,
}

/// How a client aborts a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// It closes the connection in the middle of the request's head.
    InHead,
    /// It closes the connection after sending the request.
    AfterRequest,
    /// It resets the connection after sending the request. If the server has not read the request, it no longer can.
    ByReset,
}

/// The trace id that [`Load::with_traceparent`] puts into the request with this number.
#[must_use]
pub fn trace_of(number: u64) -> String {
    format!("{:032x}", (1 << 64) + u128::from(number))
}

/// The parent span id that [`Load::with_traceparent`] puts into the request with this number.
#[must_use]
pub fn caller_of(number: u64) -> String {
    format!("{:016x}", (1 << 32) + number)
}

impl Sent {
    /// Returns how many requests the server began to serve: all whose head was sent completely. For requests aborted by
    /// reset, `was_read` says whether the server read them.
    pub fn begun(&self, was_read: impl Fn(u64) -> bool) -> usize {
        let begun = |(&number, &how): (&u64, &Abort)| match how {
            Abort::InHead => false,
            Abort::AfterRequest => true,
            Abort::ByReset => was_read(number),
        };
        self.answered.len() + self.aborted.iter().filter(|&aborted| begun(aborted)).count()
    }
}

impl Load {
    /// `GET PREFIX/NUMBER` at `address` (`HOST:PORT`), one in flight.
    #[must_use]
    pub fn on(address: &str, prefix: &str) -> Self {
        Self { address: address.to_owned(), prefix: prefix.to_owned(), in_flight: 1, aborts: None, traced: false }
    }

    /// Uses this many connections, each with one request at a time.
    #[must_use]
    pub fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    /// Aborts every `nth` request, cycling through the ways of [`Abort`].
    #[must_use]
    pub fn aborting(self, nth: u64) -> Self {
        Self { aborts: Some(nth), ..self }
    }

    /// Gives each request its own `traceparent`, derived from its number: see [`trace_of`] and [`caller_of`].
    #[must_use]
    pub fn with_traceparent(self) -> Self {
        Self { traced: true, ..self }
    }

    /// The server's address: `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How this load aborts the request with this number; none if it does not.
    #[must_use]
    pub fn aborts(&self, number: u64) -> Option<Abort> {
        let nth = self.aborts.filter(|nth| number.is_multiple_of(*nth))?;
        Some([Abort::InHead, Abort::AfterRequest, Abort::ByReset][usize::try_from(number / nth % 3).unwrap_or(0)])
    }

    /// Sends one request for each of `numbers`. Fails unless each is answered with a 2xx status.
    pub fn run(&self, numbers: Range<u64>) -> Result<Sent> {
        Ok(self.send(Progress::over(numbers), |_| Ok(()))?.1)
    }

    /// Like [`Load::run`], in a watched process of its own. `program` is the test binary `load_client`.
    pub fn run_watched(&self, world: &World, program: &Path, numbers: Range<u64>) -> Result<Sent> {
        let mut client = world.command(program);
        client.args([&self.address, &self.prefix, &self.in_flight.to_string()]);
        let output = world.run(client.args([numbers.start.to_string(), numbers.end.to_string()]))?;
        let answered = serde_json::from_slice(&output.stdout).context("load_client printed no list of its requests")?;
        Ok(Sent { answered, aborted: BTreeMap::new() })
    }

    /// Sends requests numbered from `first` on until `story` returns.
    pub fn run_during<T>(&self, first: u64, story: impl FnOnce(&Progress) -> Result<T>) -> Result<(T, Sent)> {
        self.send(Progress::over(first..u64::MAX), |progress| {
            let result = story(progress);
            progress.end.store(0, SeqCst);
            result
        })
    }

    fn send<T>(&self, progress: Progress, story: impl FnOnce(&Progress) -> Result<T>) -> Result<(T, Sent)> {
        let result = thread::scope(|scope| {
            let senders: Vec<_> =
                (0..self.in_flight).map(|_| scope.spawn(|| self.send_one_after_another(&progress))).collect();
            let result = story(&progress);
            for sender in senders {
                sender.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))??;
            }
            result
        })?;
        Ok((result, progress.sent.into_inner().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?))
    }

    fn send_one_after_another(&self, progress: &Progress) -> Result<()> {
        let mut connection = None;
        while let Some(number) = progress.take() {
            ensure!(!wait::interrupted(), "interrupted");
            if let Some(how) = self.aborts(number) {
                self.abort(number, how).with_context(|| format!("cannot abort request {number}"))?;
                progress.record(|sent| sent.aborted.extend([(number, how)]));
            } else {
                let answered = self.request(&mut connection, number);
                // Stop the other threads: the load has failed.
                let measured = answered.inspect_err(|_| progress.end.store(0, SeqCst));
                let measured = measured.with_context(|| format!("request {number} was not answered"))?;
                progress.record(|sent| sent.answered.extend([(number, measured)]));
            }
        }
        Ok(())
    }

    fn head(&self, number: u64) -> String {
        let header = if self.traced {
            format!("traceparent: 00-{}-{}-01\r\n", trace_of(number), caller_of(number))
        } else {
            String::new()
        };
        format!("GET {}/{number} HTTP/1.1\r\nHost: {}\r\n{header}\r\n", self.prefix, self.address)
    }

    /// Sends one request and reads its response. Reuses the kept connection if there is one.
    fn request(&self, kept: &mut Option<RawClient>, number: u64) -> Result<Measured> {
        let head = self.head(number);
        // A server may close an idle connection at any time. If it sent no byte, it did not serve this request.
        let again = match kept.take() {
            Some(mut connection) => connection.exchange_unless_closed(&head)?.map(|answered| (connection, answered)),
            None => None,
        };
        let (connection, (response, measured)) = match again {
            Some(answered) => answered,
            None => {
                let mut connection = RawClient::open(&self.address)?;
                let answered = connection.exchange(&head)?;
                (connection, answered)
            }
        };
        ensure!((200..300).contains(&response.status), "the response is\n{}", response.head);
        *kept = response.keeps_connection().then_some(connection);
        Ok(measured)
    }

    fn abort(&self, number: u64, how: Abort) -> Result<()> {
        let head = self.head(number);
        let mut connection = RawClient::open(&self.address)?;
        match how {
            Abort::InHead => drop(connection.send(&head[..head.len() / 2])?),
            Abort::AfterRequest => drop(connection.send(&head)?),
            Abort::ByReset => {
                connection.send(&head)?;
                connection.reset()?;
            }
        }
        Ok(())
    }
}

impl Progress {
    fn over(numbers: Range<u64>) -> Self {
        Self {
            next: AtomicU64::new(numbers.start),
            end: AtomicU64::new(numbers.end),
            done: AtomicU64::new(0),
            sent: Mutex::default(),
        }
    }

    fn take(&self) -> Option<u64> {
        let open = |next| (next < self.end.load(SeqCst)).then_some(next + 1);
        self.next.fetch_update(SeqCst, SeqCst, open).ok()
    }

    fn record(&self, change: impl FnOnce(&mut Sent)) {
        // The lock is poisoned only if a thread panicked, and then the load fails anyway.
        if let Ok(mut sent) = self.sent.lock() {
            change(&mut sent);
        }
        self.done.fetch_add(1, SeqCst);
    }

    /// The number of the next request. Requests with this and higher numbers have not begun.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// Waits until `count` more requests are answered.
    pub fn wait_for_more(&self, count: u64) -> Result<()> {
        let enough = self.done.load(SeqCst) + count;
        wait::until(within(ANSWERED_WITHIN), "more responses", || {
            ensure!(self.end.load(SeqCst) > 0, "the load has failed");
            Ok((self.done.load(SeqCst) >= enough).then_some(()))
        })
    }
}
