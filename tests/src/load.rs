//! Load: numbered requests over kept-alive connections, as many in flight as there are to be and no more.
//!
//! The number is the last segment of the path. What serves the request passes it on to those it calls, so that afterwards
//! each span says by its path which request it is of: see [`crate::parents`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::Connection;
use crate::times::Measured;
use crate::wait::{self, within};
use crate::world::World;

/// Much longer than a load takes on a busy machine: one that hangs fails.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Requests that are to be sent to one server.
#[derive(Debug, Clone)]
pub struct Load {
    address: String,
    prefix: String,
    in_flight: usize,
    aborts: Option<u64>,
    traced: bool,
}

/// How far a load has come.
#[derive(Debug)]
pub struct Progress {
    next: AtomicU64,
    end: AtomicU64,
    done: AtomicU64,
    sent: Mutex<Sent>,
}

/// What a load has sent, by number.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// What was answered with a status of success.
    pub answered: BTreeMap<u64, Measured>,
    /// What was not waited for.
    pub given_up: BTreeMap<u64, GivenUp>,
}

/// How a client gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// In the middle of the request's head: it is none yet.
    InTheHead,
    /// As soon as the request is sent.
    AtOnce,
    /// So that the server is told by a reset: it may not have read the request, and then can't any more.
    ByReset,
}

/// The trace that a traced load's request of this number belongs to.
#[must_use]
pub fn trace_of(number: u64) -> String {
    format!("{:032x}", (1 << 64) + u128::from(number))
}

/// The span that a traced load names as the caller of its request of this number.
#[must_use]
pub fn caller_of(number: u64) -> String {
    format!("{:016x}", (1 << 32) + number)
}

impl Sent {
    /// How many requests the server has begun to serve: all whose head was sent, but of those that were reset only what
    /// `was_read` says.
    pub fn begun(&self, was_read: impl Fn(u64) -> bool) -> usize {
        let begun = |(&number, &how): (&u64, &GivenUp)| match how {
            GivenUp::InTheHead => false,
            GivenUp::AtOnce => true,
            GivenUp::ByReset => was_read(number),
        };
        self.answered.len() + self.given_up.iter().filter(|&given_up| begun(given_up)).count()
    }
}

impl Load {
    /// `GET PREFIX/NUMBER` at `address`, which is `HOST:PORT`; one in flight.
    #[must_use]
    pub fn on(address: &str, prefix: &str) -> Self {
        Self { address: address.to_owned(), prefix: prefix.to_owned(), in_flight: 1, aborts: None, traced: false }
    }

    /// This many connections, each with one request at a time.
    #[must_use]
    pub fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    /// In place of every `nth` request one that is given up, by turns in each way.
    #[must_use]
    pub fn aborting(self, nth: u64) -> Self {
        Self { aborts: Some(nth), ..self }
    }

    /// Each request with a `traceparent` of its own, made of its number: see [`trace_of`] and [`caller_of`].
    #[must_use]
    pub fn traced(self) -> Self {
        Self { traced: true, ..self }
    }

    /// Where it goes: `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How this load gives up the request with this number, if it does.
    #[must_use]
    pub fn aborts(&self, number: u64) -> Option<GivenUp> {
        let nth = self.aborts.filter(|nth| number.is_multiple_of(*nth))?;
        Some([GivenUp::InTheHead, GivenUp::AtOnce, GivenUp::ByReset][usize::try_from(number / nth % 3).unwrap_or(0)])
    }

    /// Sends one request for each of `numbers`. Fails unless each gets an answer with a status of success.
    pub fn run(&self, numbers: Range<u64>) -> Result<Sent> {
        Ok(self.send(Progress::over(numbers), |_| Ok(()))?.1)
    }

    /// The same in a process of its own that is watched: `program` is that of `src/bin/ask.rs`.
    pub fn run_watched(&self, world: &World, program: &Path, numbers: Range<u64>) -> Result<Sent> {
        let mut ask = world.command(program);
        ask.args([&self.address, &self.prefix, &self.in_flight.to_string()]);
        let told = world.run(ask.args([numbers.start.to_string(), numbers.end.to_string()]))?;
        let answered = serde_json::from_slice(&told.stdout).context("the load does not say what it sent")?;
        Ok(Sent { answered, given_up: BTreeMap::new() })
    }

    /// Sends requests with numbers from `first` on as long as `story` goes on.
    pub fn during<T>(&self, first: u64, story: impl FnOnce(&Progress) -> Result<T>) -> Result<(T, Sent)> {
        self.send(Progress::over(first..u64::MAX), |progress| {
            let told = story(progress);
            progress.end.store(0, SeqCst);
            told
        })
    }

    fn send<T>(&self, progress: Progress, story: impl FnOnce(&Progress) -> Result<T>) -> Result<(T, Sent)> {
        let told = thread::scope(|scope| {
            let senders: Vec<_> =
                (0..self.in_flight).map(|_| scope.spawn(|| self.send_one_after_another(&progress))).collect();
            let told = story(&progress);
            for sender in senders {
                sender.join().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))??;
            }
            told
        })?;
        Ok((told, progress.sent.into_inner().map_err(|_| anyhow::anyhow!("a thread of the load panicked"))?))
    }

    fn send_one_after_another(&self, progress: &Progress) -> Result<()> {
        let mut connection = None;
        while let Some(number) = progress.take() {
            ensure!(!wait::interrupted(), "interrupted");
            if let Some(how) = self.aborts(number) {
                self.give_up(number, how).with_context(|| format!("cannot give up request {number}"))?;
                progress.tell(|sent| sent.given_up.extend([(number, how)]));
            } else {
                let answered = self.ask(&mut connection, number);
                // The others are not to go on for nothing.
                let measured = answered.inspect_err(|_| progress.end.store(0, SeqCst));
                let measured = measured.with_context(|| format!("request {number} was not answered"))?;
                progress.tell(|sent| sent.answered.extend([(number, measured)]));
            }
        }
        Ok(())
    }

    fn head(&self, number: u64) -> String {
        let context = if self.traced {
            format!("traceparent: 00-{}-{}-01\r\n", trace_of(number), caller_of(number))
        } else {
            String::new()
        };
        format!("GET {}/{number} HTTP/1.1\r\nHost: {}\r\n{context}\r\n", self.prefix, self.address)
    }

    /// Sends one request and reads its answer, on the connection that is kept if there is one.
    fn ask(&self, kept: &mut Option<Connection>, number: u64) -> Result<Measured> {
        let head = self.head(number);
        // A server may close a connection that it keeps at any time: what it did not answer a byte to, it did not serve.
        let again = match kept.take() {
            Some(mut connection) => connection.exchange_unless_closed(&head)?.map(|answered| (connection, answered)),
            None => None,
        };
        let (connection, (response, measured)) = match again {
            Some(answered) => answered,
            None => {
                let mut connection = Connection::open(&self.address)?;
                let answered = connection.exchange(&head)?;
                (connection, answered)
            }
        };
        ensure!((200..300).contains(&response.status), "the answer is\n{}", response.head);
        *kept = response.keeps_connection().then_some(connection);
        Ok(measured)
    }

    fn give_up(&self, number: u64, how: GivenUp) -> Result<()> {
        let head = self.head(number);
        let mut connection = Connection::open(&self.address)?;
        match how {
            GivenUp::InTheHead => drop(connection.send(&head[..head.len() / 2])?),
            GivenUp::AtOnce => drop(connection.send(&head)?),
            GivenUp::ByReset => {
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

    fn tell(&self, of: impl FnOnce(&mut Sent)) {
        // Only a thread that panicked poisons it, and then the load has failed.
        if let Ok(mut sent) = self.sent.lock() {
            of(&mut sent);
        }
        self.done.fetch_add(1, SeqCst);
    }

    /// The number that the next request will have: this one and all above are of requests that have not begun.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// Waits until `count` more requests are answered than now.
    pub fn more(&self, count: u64) -> Result<()> {
        let enough = self.done.load(SeqCst) + count;
        wait::until(within(ANSWERED_WITHIN), "further answers", || {
            ensure!(self.end.load(SeqCst) > 0, "the load has failed");
            Ok((self.done.load(SeqCst) >= enough).then_some(()))
        })
    }
}
