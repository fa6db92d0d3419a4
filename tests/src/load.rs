//! Load that knows exactly what it sent: kept connections, each asking for one path after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};

use crate::client::Connection;
use crate::times::Measured;

/// The target of every request that was answered, and when what happened.
type Answers = Vec<(String, Measured)>;

/// Requests under way on several connections, until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    connections: Vec<JoinHandle<Result<Answers>>>,
}

impl Load {
    /// Opens `connections` to `address`; each sends `GET PREFIX/N`, with another number for every request, as fast as it is
    /// answered with 200.
    #[must_use]
    pub fn start(address: &str, connections: usize, prefix: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let next = Arc::new(AtomicU64::new(0));
        let one = || {
            let (stop, answered, next) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&next));
            let (address, prefix) = (address.to_owned(), prefix.to_owned());
            thread::spawn(move || -> Result<_> {
                let mut client = Connection::open(&address)?;
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("{prefix}/{}", next.fetch_add(1, Ordering::Relaxed));
                    let (response, measured) = client.get(&path).with_context(|| format!("{path} had no answer"))?;
                    if response.status != 200 {
                        bail!("{path} was answered with\n{}", response.head);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    sent.push((path, measured));
                }
                Ok(sent)
            })
        };
        let connections = (0..connections).map(|_| one()).collect();
        Self { stop, answered, connections }
    }

    /// How many requests were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets what is under way be answered, and gives every path with its times. Fails if any request failed.
    pub fn stop(self) -> Result<HashMap<String, Measured>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = HashMap::new();
        for connection in self.connections {
            match connection.join() {
                Ok(told) => sent.extend(told?),
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(sent)
    }
}
