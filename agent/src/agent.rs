//! The agent: loads the kernel side, selects processes, runs the pipeline and exports. At its end it does the reverse.

mod machine;
mod start;

use std::future::Future;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

use self::machine::Machine;
use crate::clock;
use crate::config::Settings;
use crate::discover::select::Selectors;
use crate::export::{self, Exporting, Output};
use crate::kernel::ring::{Patience, Ring};
use crate::kernel::{Losses, SharedKernel};
use crate::kubernetes::Watcher;
use crate::undecided::{Taken, Undecided};
use crate::watch::WatchThread;
use onlooker_engine::model::counters::{Counters, Line};
use onlooker_engine::pipeline::Pipeline;

pub use self::start::{Prepared, Target};

/// How long exporters may take to deliver the remaining spans when the agent ends.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long the agent is not called ready while it looks for the units of work of the selected processes. It takes about 0.1 s for
/// each Node, and less for others.
const FIRST_UNITS: Duration = Duration::from_secs(1);
/// How long the agent is not called ready while it attaches to the TLS libraries of the selected processes. It takes milliseconds
/// for each process, unless the host is busy.
const FIRST_ATTACHMENT: Duration = Duration::from_secs(10);
/// How long former exporters may take to deliver their spans.
const RETIREMENT: Duration = Duration::from_secs(30);
/// How long spans may wait for their service when the agent ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How long the end waits until the thread that attaches to TLS libraries has counted what it was sent.
const LAST_LOOKS: Duration = Duration::from_secs(1);
/// How much longer than the exporters the thread that follows processes may take to end.
const WATCH_ENDS: Duration = Duration::from_millis(500);

/// How often steps of the wall clock are looked for, in nanoseconds.
const CLOCK_INTERVAL: u64 = 1_000_000_000;

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    kernel: SharedKernel,
    ring: Ring,
    pipeline: Pipeline<Machine>,
    undecided: Undecided,
    /// Processes that are not recorded any more, and go on.
    deselections: Receiver<u32>,
    /// Those of them whose last records may still be in the ring.
    deselected: Vec<u32>,
    exporting: Exporting,
    /// What `exporting` was started with.
    exporters: export::Config,
    /// Where the console prints to.
    output: fn() -> Output,
    /// Former exporters that deliver the rest of their spans.
    retired: Vec<JoinHandle<()>>,
    losses: Losses,
    counters: Arc<Counters>,
    watching: WatchThread,
    /// Follows pods until the end.
    _pods: Option<Watcher>,
    /// How often changes of processes had been missed when the services were last forgotten.
    missed: u64,
    /// When the clocks were read last (kernel monotonic).
    clock_read: u64,
    /// How many processes were selected at the start.
    pub selected: usize,
    /// Completes when it is known where these have their units of work.
    units_found: Option<oneshot::Receiver<()>>,
    /// Completes when their TLS libraries are attached to.
    attached: Option<oneshot::Receiver<()>>,
}

/// The counters of the agent: name, meaning, value.
pub type Summary = Vec<Line>;

impl Agent {
    /// Completes when the units of work and the TLS of the processes that were selected at the start are read. Units are waited for
    /// for a second, and TLS libraries for ten.
    pub fn is_ready(&mut self) -> impl Future<Output = ()> + use<> {
        let (found, attached) = (self.units_found.take(), self.attached.take());
        async move {
            let units = async {
                if let Some(found) = found {
                    let _ = tokio::time::timeout(FIRST_UNITS, found).await;
                }
            };
            let libraries = async {
                if let Some(attached) = attached
                    && tokio::time::timeout(FIRST_ATTACHMENT, attached).await.is_err()
                {
                    tracing::warn!("attaching to TLS libraries takes long; first requests over TLS may not be seen");
                }
            };
            tokio::join!(units, libraries);
        }
    }

    /// Runs until `stop` completes.
    pub async fn watch_until(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let left = self.process_records();
            let patience = match left {
                Left::Nothing => Patience::Idle,
                _ if self.pipeline.has_callers() => Patience::Prompt,
                _ => Patience::Relaxed,
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::task::yield_now(), if left == Left::Records => {}
                waited = self.ring.wait(patience), if left != Left::Records => {
                    waited.context("cannot wait for records of the kernel")?;
                }
            }
        }
    }

    /// Reads records from the ring, up to a limit, and exports the spans that are complete.
    fn process_records(&mut self) -> Left {
        /// As many as come in 14 ms at 300,000 operations a second. So spans are exported in time also if the ring is
        /// never empty.
        const MOST: usize = 4096;
        let pipeline = &mut self.pipeline;
        // In this order: what deselects processes is reported as missed afterwards.
        let missed = self.watching.missed();
        self.deselected.extend(self.deselections.try_iter());
        let undecided = &mut self.undecided;
        let records = self.ring.drain(MOST, |record| match undecided.take(record) {
            Taken::GoesOn => pipeline.record(record),
            Taken::Waits => {}
            Taken::Asks(execution) => {
                if !pipeline.surroundings().request_decision(execution) {
                    undecided.give_up(execution.change.tgid);
                }
            }
        });
        // If there are more records, those that seem to be missing may be among them.
        let now = if records == MOST { pipeline.latest() } else { monotonic() };
        undecided.decide(now, |record| pipeline.record(record));
        if records < MOST {
            for tgid in self.deselected.drain(..) {
                pipeline.process_deselected(tgid, now);
                pipeline.surroundings().control.forget_process(tgid);
            }
        }
        // Their last spans have the services of before.
        if self.deselected.is_empty() && missed != std::mem::replace(&mut self.missed, missed) {
            pipeline.surroundings().directory.forget();
        }
        if now.saturating_sub(self.clock_read) >= CLOCK_INTERVAL {
            self.clock_read = now;
            match clock::read() {
                Ok(reading) => pipeline.clock(reading),
                Err(error) => tracing::warn!(%error, "cannot read the clock"),
            }
        }
        let mut shipment = self.exporting.shipment();
        pipeline.advance(now, |finished| shipment.add(finished));
        pipeline.surroundings().report_completions();
        match records {
            MOST => Left::Records,
            0 if !pipeline.is_busy() && !undecided.is_waiting() => Left::Nothing,
            _ => Left::Waiting,
        }
    }

    /// Applies a configuration that was read again. Exporters are replaced only if theirs is another one: those of before deliver what they have.
    ///
    /// Returns where it is said that the rules are applied, and how many processes are selected then.
    ///
    /// # Errors
    /// When an exporter cannot be started. Then nothing has changed.
    pub fn reconfigure(
        &mut self,
        settings: &Settings,
        selectors: Selectors,
    ) -> Result<Option<oneshot::Receiver<usize>>> {
        let config = export::Config::choose(&settings.tracing.choices(), &|name| settings.variable(name))?;
        if config != self.exporters {
            let exporting = export::start(&config, (self.output)(), Arc::clone(&self.counters))?;
            let before = std::mem::replace(&mut self.exporting, exporting);
            self.exporters = config;
            self.retired.retain(|thread| !thread.is_finished());
            let retire = move || before.shutdown(RETIREMENT);
            self.retired.push(std::thread::Builder::new().name("export-former".to_owned()).spawn(retire)?);
        }
        self.pipeline.bound(&settings.limits());
        let machine = self.pipeline.surroundings();
        machine.is_restricted |= selectors.is_restricted();
        Ok(machine.watch.as_ref().map(|watch| watch.apply(selectors)))
    }

    /// Opens files of spans again before the next span is written.
    pub fn reopen_files(&self) {
        self.exporting.reopen_files();
    }

    /// The counters so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        summary(&self.counters, &self.losses)
    }

    /// Ends open exchanges, delivers the remaining spans, and removes the kernel side. Returns the counters.
    #[must_use]
    pub fn stop(mut self) -> Summary {
        // Recording ends first, whatever happens later. Detaching waits for every CPU several times, so it gets a thread.
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken_down = std::thread::Builder::new().name("take-down".to_owned()).spawn(move || drop(kernel));
        // Records of earlier operations may still be in the ring.
        let now = monotonic();
        while self.process_records() == Left::Records && self.pipeline.latest() < now {}
        let decided_by = Instant::now() + LAST_ANSWERS;
        while self.undecided.is_waiting() && Instant::now() < decided_by {
            std::thread::sleep(Duration::from_millis(1));
            self.undecided.decide(monotonic(), |record| self.pipeline.record(record));
        }
        let mut shipment = self.exporting.shipment();
        self.pipeline.shutdown(monotonic(), |finished| shipment.add(finished));
        let answers_by = Instant::now() + LAST_ANSWERS;
        while self.pipeline.waits_for_services() && Instant::now() < answers_by {
            std::thread::sleep(Duration::from_millis(1));
            self.pipeline.advance(monotonic(), |finished| shipment.add(finished));
        }
        self.pipeline.advance(u64::MAX, |finished| shipment.add(finished));
        drop(shipment);
        // The thread may wait for a file forever. Delivery must not wait for the thread.
        self.watching.stop();
        self.pipeline.surroundings().watch = None;
        self.exporting.shutdown(SHUTDOWN);
        for former in self.retired {
            // If it panicked, there is nothing left to do.
            let _ = former.join();
        }
        if let Ok(taken_down) = taken_down {
            // If the thread panicked, there is nothing left to do.
            let _ = taken_down.join();
        }
        // It counts connections whose TLS is not read. If it is late, these counters are too low.
        let _ = self.pipeline.surroundings().libraries.have_looked(LAST_LOOKS);
        if !self.watching.has_ended(WATCH_ENDS) {
            tracing::warn!("the thread that follows processes still waits for a file or process; ending without it");
        }
        summary(&self.counters, &self.losses)
    }
}

/// What remains after reading the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// More records.
    Records,
    /// No records, but there were some, or something must be settled soon.
    Waiting,
    Nothing,
}

fn summary(counters: &Counters, losses: &Losses) -> Summary {
    let losses = losses.all().into_iter().map(|(name, meaning, value)| (name.into(), meaning.into(), value));
    counters.all().chain(losses).collect()
}

fn monotonic() -> u64 {
    clock::monotonic().unwrap_or(0)
}
