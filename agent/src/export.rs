//! Sends spans away: over OTLP, to a file, to the console.
//!
//! Spans are put into a [`Shipment`] by the pipeline's thread, one by one as they are made, and never wait there. Each
//! exporter is a lane of its own, with its queue, its limit and its thread, so that a slow one holds up neither the
//! pipeline nor the others: for OTLP and the file a span is encoded into the next request of a [`batch::Batcher`], the
//! console takes a copy. What a lane has no room for, or cannot deliver, is counted by [`account`]: at the end, spans
//! made = exported + lost, to the unit.

mod account;
mod batch;
mod buffers;
mod config;
mod console;
pub mod encode;
mod file;
mod json;
mod otlp;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::time::Instant;

pub use batch::Schedule;
pub use buffers::Buffers;
pub use config::{Choices, Config, ConfigError, Headers, Otlp, Protocol, Tls};
pub use console::Output;

use account::{Account, Lane, Ticket};
use batch::Batcher;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::span::Span;

/// Why exporting cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use the OTLP endpoint: {0}")]
    Endpoint(String),
    #[error("cannot set up TLS for OTLP: {0}")]
    Tls(String),
    #[error("cannot open {} to append spans: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("cannot start the thread of an exporter: {0}")]
    Thread(#[from] io::Error),
}

/// The exporters at work.
#[derive(Debug)]
pub struct Exporting {
    account: Arc<Account>,
    batchers: Vec<Arc<Batcher>>,
    console: Option<console::Sender>,
    /// When the exporters must stop, once it is known.
    deadline: watch::Sender<Option<Instant>>,
    /// Hangs up when the last exporter has ended.
    ended: mpsc::Receiver<()>,
}

/// Starts the exporters of `config`; `output` is where the console exporter writes.
///
/// # Errors
/// When a file, a certificate or a thread cannot be had. That a collector does not answer is not an error: it may later.
pub fn start(config: Config, output: Output, counters: Arc<Counters>) -> Result<Exporting, StartError> {
    let (deadline, passed) = watch::channel(None);
    let (running, ended) = mpsc::channel();
    let mut exporting = Exporting {
        account: Account::open(Arc::clone(&counters)),
        batchers: Vec::new(),
        console: None,
        deadline,
        ended,
    };
    let limit = config.schedule.max_queue_size;
    let threads = Threads { deadline: passed, running };
    if let Some(otlp) = config.otlp {
        let batcher = Batcher::new(Lane::new(0, limit), config.schedule.clone());
        exporting.batchers.push(Arc::clone(&batcher));
        let (timeout, counters) = (config.schedule.export_timeout, Arc::clone(&counters));
        threads.spawn("export-otlp", move || Ok(otlp::Collector::new(&otlp, timeout, counters)?.run(batcher)))?;
    }
    if let Some(path) = config.file {
        let batcher = Batcher::new(Lane::new(1, limit), config.schedule);
        exporting.batchers.push(Arc::clone(&batcher));
        threads.spawn("export-file", move || Ok(file::Lines::open(path)?.run(batcher)))?;
    }
    if config.console {
        let (sender, receiver) = console::channel(Lane::new(2, limit));
        exporting.console = Some(sender);
        threads.spawn("export-console", move || Ok(console::run(receiver, output, counters)))?;
    }
    Ok(exporting)
}

impl Exporting {
    /// For spans that are made together, such as those of one look at the ring.
    #[must_use]
    pub fn shipment(&self) -> Shipment<'_> {
        Shipment { exporting: self, ticket: self.account.ticket(), spans: 0 }
    }

    /// Delivers what is left, for at most `within`; what is not delivered by then is counted as failed.
    pub fn shutdown(mut self, within: Duration) {
        self.deadline.send_replace(Some(Instant::now() + within));
        self.close();
        // An exporter that waits can be stopped at the deadline. One that is stuck in a write to a terminal cannot, and
        // is left behind.
        let grace = Duration::from_millis(100);
        let _hung_up = self.ended.recv_timeout(within + grace);
        self.account.close();
    }

    fn close(&mut self) {
        self.console = None;
        for batcher in &self.batchers {
            batcher.close();
        }
    }
}

/// Spans on their way to the exporters; complete when it is dropped.
#[derive(Debug)]
pub struct Shipment<'e> {
    exporting: &'e Exporting,
    ticket: Arc<Ticket>,
    spans: u64,
}

impl Shipment<'_> {
    /// Hands a span to the exporters. Never waits; what there is no room for is counted.
    pub fn add(&mut self, span: &Span) {
        self.spans += 1;
        for batcher in &self.exporting.batchers {
            batcher.put(&self.ticket, span);
        }
        if let Some(console) = &self.exporting.console {
            console.put(&self.ticket, span);
        }
    }
}

impl Drop for Shipment<'_> {
    fn drop(&mut self) {
        self.ticket.enter(self.spans);
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the exporters' threads are told, and tell.
struct Threads {
    deadline: watch::Receiver<Option<Instant>>,
    running: mpsc::Sender<()>,
}

impl Threads {
    /// Makes an exporter on a thread of its own, and runs it there until it is done or the deadline has passed. It has a
    /// runtime of its own there too: the caller may be in another one.
    fn spawn<E: Future<Output = ()>>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<E, StartError> + Send + 'static,
    ) -> Result<(), StartError> {
        let (report, reported) = mpsc::channel();
        let running = self.running.clone();
        let stopped = passed(self.deadline.clone());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_io().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return report.send(Err(error.into())).unwrap_or(()),
            };
            runtime.block_on(async {
                match make() {
                    Ok(exporter) => {
                        // The starter waits for the report.
                        report.send(Ok(())).unwrap_or(());
                        tokio::select! {
                            () = exporter => {}
                            () = stopped => {}
                        }
                    }
                    Err(error) => report.send(Err(error)).unwrap_or(()),
                }
            });
            // Tasks that were on their way end here, and their spans with them; then the exporter has ended.
            drop(runtime);
            drop(running);
        })?;
        reported.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once").into()))
    }
}

/// Returns when the deadline has passed, once there is one.
async fn passed(mut deadline: watch::Receiver<Option<Instant>>) {
    let at = deadline.wait_for(Option::is_some).await.map(|at| *at);
    match at {
        Ok(Some(at)) => tokio::time::sleep_until(at).await,
        // Nobody is left to set one: the exporter ends when its queue is empty.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use onlooker_engine::testing as sample;

    use super::*;

    #[tokio::test]
    async fn a_start_that_fails_is_an_error_also_in_a_runtime() {
        let file = Config { file: Some("/nowhere/spans".into()), console: true, ..Config::default() };
        let output = Output::new(io::sink(), 80, false);
        let error = start(file, output, Arc::default()).unwrap_err();
        assert!(matches!(error, StartError::File { .. }), "{error}");
    }

    #[test]
    fn without_exporters_spans_are_made_and_gone() {
        let counters = Arc::new(Counters::default());
        let output = Output::new(io::sink(), 80, false);
        let exporting = start(Config::default(), output, Arc::clone(&counters)).unwrap();
        exporting.shipment().add(&sample::span(1, &sample::service("shop")));
        exporting.shutdown(Duration::from_secs(10));
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (1, 1));
    }
}
