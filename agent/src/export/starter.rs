//! A row of the table of sinks, and what a sink is started with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::account::{Account, SinkQueue, Ticket};
use super::batch::{BatchSink, Batcher};
use super::environment::Environment;
use super::error::{ConfigError, StartError};
use super::output::Output;
use super::settings::{Choices, Config};
use super::threads::Threads;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::sink::Sink;

/// Takes spans on the pipeline's thread, and exports them on a thread of its own. A span that it refuses is counted in the
/// ticket. When it is dropped, what it holds is exported without further delay.
pub(super) type BoxedSink = Box<dyn Sink<Arc<Ticket>>>;

/// One row of the table of sinks.
pub(super) struct SinkRow {
    pub(super) name: &'static str,
    /// Whether `OTEL_TRACES_EXPORTER` and `--export` may list its name. Otherwise only settings of its own choose it.
    pub(super) is_listed: bool,
    /// Whether its own settings choose it where no list of exporters does.
    pub(super) is_implied: fn(&Choices, &Environment<'_>) -> bool,
    /// Reads its settings, if it is chosen.
    pub(super) configure: fn(&Choices, &Environment<'_>, &mut Config) -> Result<(), ConfigError>,
    /// Starts it. None if the configuration does not have it.
    pub(super) start: fn(&mut Starter<'_>) -> Result<Option<BoxedSink>, StartError>,
}

/// What sinks are started with.
pub(super) struct Starter<'a> {
    pub(super) config: &'a Config,
    pub(super) counters: Arc<Counters>,
    /// For the sink that prints, which takes it.
    pub(super) output: Option<Output>,
    pub(super) account: Account,
    /// Set to make sinks open their files again.
    pub(super) reopen_files: Arc<AtomicBool>,
    pub(super) threads: Threads,
}

impl Starter<'_> {
    /// The next sink's queue.
    pub(super) fn queue(&mut self) -> Arc<SinkQueue> {
        self.account.open_queue(self.config.schedule.max_queue_size)
    }

    /// A queue that collects spans into OTLP requests, and the sink that fills it.
    pub(super) fn batcher(&mut self) -> (Arc<Batcher>, BoxedSink) {
        let batcher = Batcher::new(self.queue(), self.config.schedule.clone());
        (Arc::clone(&batcher), Box::new(BatchSink(batcher)))
    }
}
