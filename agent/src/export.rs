//! Sends spans to sinks: over OTLP, to a file, to the console.
//!
//! The pipeline's thread puts spans into a [`Shipment`] one by one, and never waits there. Each sink has its own queue,
//! limit and thread, so a slow one delays neither the pipeline nor the others. For OTLP and the file, a span is encoded
//! into the next request of a [`batch::Batcher`]. The console gets a copy. [`account`] counts what a queue has no room for
//! and what cannot be delivered: at the end, spans made = exported + lost, exactly.
//!
//! [`sinks::SINKS`] is the table of sinks. To add one, add a row.

mod account;
mod batch;
mod buffers;
mod config;
mod console;
pub mod encode;
mod environment;
mod error;
mod file;
mod json;
mod otlp;
mod output;
mod settings;
mod sinks;
mod starter;
mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

pub use buffers::Buffers;
pub use error::{ConfigError, StartError};
pub use otlp::{checked_url, endpoint_origin, header_problem};
pub use output::Output;
pub use settings::{Choices, Config, Headers, Otlp, Protocol, Schedule, SpanFile, Tls};

use account::{Account, Ticket};
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::sink::Finished;
use sinks::SINKS;
use starter::{BoxedSink, Starter};
use threads::Stop;

/// The running sinks.
#[derive(Debug)]
pub struct Exporting {
    account: Arc<Account>,
    sinks: Vec<BoxedSink>,
    reopen_files: Arc<AtomicBool>,
    stop: Stop,
}

/// Starts the sinks of `config`. The console sink prints to `output`.
///
/// # Errors
/// When a file, a certificate or a thread is not available. A collector that does not answer is no error: it may answer
/// later.
pub fn start(config: &Config, output: Output, counters: Arc<Counters>) -> Result<Exporting, StartError> {
    let (threads, stop) = threads::threads();
    let account = Account::new(Arc::clone(&counters));
    let reopen_files = Arc::<AtomicBool>::default();
    let mut starter =
        Starter { config, counters, output: Some(output), account, reopen_files: Arc::clone(&reopen_files), threads };
    let mut sinks = Vec::new();
    for sink in SINKS {
        sinks.extend((sink.start)(&mut starter)?);
    }
    Ok(Exporting { account: Arc::new(starter.account), sinks, reopen_files, stop })
}

impl Exporting {
    /// For spans that are made together, such as those of one read of the ring.
    #[must_use]
    pub fn shipment(&self) -> Shipment<'_> {
        Shipment { exporting: self, ticket: self.account.ticket(), spans: 0 }
    }

    /// Opens files again before the next span is written, because they may have been renamed.
    pub fn reopen_files(&self) {
        self.reopen_files.store(true, Relaxed);
    }

    /// Delivers the remaining spans, for at most `within`. What is not delivered by then counts as failed.
    pub fn shutdown(self, within: Duration) {
        let Self { account, sinks, stop, .. } = self;
        stop.announce(within);
        drop(sinks);
        stop.wait(within);
        account.close();
    }
}

/// Spans on their way to the sinks. Complete when it is dropped.
#[derive(Debug)]
pub struct Shipment<'e> {
    exporting: &'e Exporting,
    ticket: Arc<Ticket>,
    spans: u64,
}

impl Shipment<'_> {
    /// Passes a span to the sinks. Never waits. A span that a queue has no room for is counted.
    pub fn add(&mut self, finished: Finished<'_>) {
        self.spans += 1;
        for sink in &self.exporting.sinks {
            sink.put(finished, &self.ticket);
        }
    }
}

impl Drop for Shipment<'_> {
    fn drop(&mut self) {
        self.ticket.enter(self.spans);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use onlooker_engine::testing as sample;

    use super::*;

    #[tokio::test]
    async fn a_failed_start_is_an_error_also_within_a_runtime() {
        let file = Config { file: Some("/nowhere/spans".into()), console: true, ..Config::default() };
        let output = Output::new(io::sink(), 80, false);
        let error = start(&file, output, Arc::default()).unwrap_err();
        assert!(matches!(error, StartError::File { .. }), "{error}");
    }

    #[test]
    fn without_sinks_spans_are_counted_as_exported() {
        let counters = Arc::new(Counters::default());
        let output = Output::new(io::sink(), 80, false);
        let exporting = start(&Config::default(), output, Arc::clone(&counters)).unwrap();
        let span = sample::span(1, &sample::service("shop"));
        exporting.shipment().add(sample::finished(&span));
        exporting.shutdown(Duration::from_secs(10));
        assert_eq!((counters.spans_made.get(), counters.spans_judged()), (1, 1));
    }
}
