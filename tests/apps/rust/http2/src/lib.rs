//! What the programs have in common: a load of requests, and messages of gRPC that are bytes.

mod raw;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

pub use self::raw::Raw;

/// A connection of a client.
pub trait Connection: Clone + Send + 'static {
    /// Opens one to a server.
    fn open(url: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Sends a request, and reads its response to the end. Fails unless it succeeds.
    fn request(&mut self, number: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Sends requests, and prints how many nanoseconds each took. Arguments of the program: URL, how many, how many at once, over how many
/// connections.
pub async fn run<C: Connection>() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().context("no URL")?;
    let numbers = arguments.map(|number| number.parse().context("not a number")).collect::<Result<Vec<usize>>>()?;
    let [requests, streams, connections] = numbers[..] else { anyhow::bail!("not three numbers") };
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let connection = C::open(&url).await?;
        for _ in 0..streams / connections {
            let (mut connection, next) = (connection.clone(), Arc::clone(&next));
            workers.spawn(async move {
                let mut took = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return anyhow::Ok(took);
                    }
                    let begin = Instant::now();
                    connection.request(number).await?;
                    took.push(begin.elapsed());
                }
            });
        }
    }
    let mut sent = 0;
    while let Some(took) = workers.join_next().await {
        for took in took?? {
            println!("{}", took.as_nanos());
            sent += 1;
        }
    }
    ensure!(sent == requests, "{sent} of {requests} requests were sent");
    Ok(())
}
