//! The daemon: loads the kernel side, selects, runs the pipeline, exports, and takes everything down in reverse.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onlooker_common::capture::Capture;
use onlooker_common::limits;
use onlooker_common::process::{ProcessChange, lifecycle};
use onlooker_protocols::Direction;
use tokio::io::unix::AsyncFd;

use crate::cli;
use crate::clock;
use crate::discover::select::Selectors;
use crate::enrich::{Directory, Host};
use crate::export::{self, Exporting, Output};
use crate::kernel::{self, Control, Kernel, Losses, ring::Ring};
use crate::memory;
use crate::watch::{Change, Inbox, SharedKernel, Watch, Watching};
use onlooker_engine::connections::Limits;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::model::service::PendingService;
use onlooker_engine::pipeline::{Pipeline, Surroundings};

/// How long the exporters may take to deliver what is left when the agent ends.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long the start may take to find out what services the selected processes are: not for ever.
const FIRST_LOOKS: Duration = Duration::from_secs(2);
/// How long spans may wait at the end to know whose they are.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How long the thread that follows processes may take to end, beyond what the exporters took.
const WATCH_ENDS: Duration = Duration::from_millis(500);

/// Steps of the wall clock are looked for this often, in nanoseconds.
const CLOCK_INTERVAL: u64 = 1_000_000_000;

/// The agent, watching.
#[derive(Debug)]
pub struct Agent {
    kernel: SharedKernel,
    ring: Ring,
    pipeline: Pipeline<Machine>,
    exporting: Exporting,
    losses: Losses,
    counters: Arc<Counters>,
    watching: Watching,
    /// How often changes of processes were missed when everybody was asked for anew.
    missed: u64,
    /// When the clocks were read last (kernel monotonic).
    clock_read: u64,
    /// How many processes were selected at the start.
    pub selected: usize,
}

/// What the agent counted: name, meaning, value.
pub type Summary = Vec<(&'static str, &'static str, u64)>;

impl Agent {
    /// Loads, attaches and selects. From the return on nothing that a selected process begins is missed.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(tracing: &cli::Tracing, selectors: Selectors, output: Output) -> Result<Self> {
        let config = export::Config::from_env(&tracing.choices())?;
        let counters = Arc::new(Counters::default());
        let mut kernel =
            Kernel::load(&kernel::Options { ring_bytes: tracing.ring_bytes, kernel_log: tracing.kernel_log })?;
        for missing in &kernel.missing {
            tracing::warn!(
                structure = missing.structure,
                member = missing.member,
                "not in this kernel: {} is off",
                missing.needed_for
            );
        }
        if tracing.kernel_log {
            spawn_kernel_log(kernel.logger()?)?;
        }
        kernel.attach()?;
        let ring = kernel.ring()?;
        let control = kernel.control()?;
        let capture = Capture { request: tracing.request_capture, response: tracing.response_capture };
        let (selection, losses) = (kernel.selection(capture)?, kernel.losses()?);
        let exporting = export::start(&config, output, counters.clone())?;
        let host = Arc::new(Host::read());
        let its_losses = kernel.losses()?;
        let kernel = Arc::new(Mutex::new(Some(kernel)));
        let mut watch = Watch::new(kernel.clone(), selection, its_losses, selectors, host.clone(), counters.clone());
        let selected = watch.scan().context("cannot look through the processes")?;
        memory::give_back();
        let (inbox, watching) = watch.start().context("cannot start the thread that follows processes")?;
        if !watching.has_looked(FIRST_LOOKS) {
            tracing::warn!("it takes long to find out what services the selected processes are");
        }
        let directory = Directory::new(host);
        let machine = Machine { directory, control, inbox: Some(inbox), counters: counters.clone() };
        let limits = Limits {
            connections: tracing.max_connections,
            request_age: tracing.request_age.saturating_mul(1_000_000_000),
            ..Limits::default()
        };
        let reading = clock::read().context("cannot read the clocks")?;
        let pipeline = Pipeline::new(machine, limits, reading, counters.clone());
        Ok(Self {
            kernel,
            ring,
            pipeline,
            exporting,
            losses,
            counters,
            watching,
            missed: 0,
            clock_read: reading.monotonic,
            selected,
        })
    }

    /// Watches until `stop` is done.
    pub async fn watch_until(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let left = self.look();
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::task::yield_now(), if left == Left::Records => {}
                waited = self.ring.wait(left == Left::Waiting), if left != Left::Records => {
                    waited.context("cannot wait for records of the kernel")?;
                }
            }
        }
    }

    /// Takes what the ring holds, and no more of it at once than may be sent on together.
    fn look(&mut self) -> Left {
        /// At 300,000 operations a second those of 14 ms: spans leave in time also when the ring is never empty.
        const MOST: usize = 4096;
        let pipeline = &mut self.pipeline;
        let missed = self.watching.missed();
        if missed != std::mem::replace(&mut self.missed, missed) {
            pipeline.surroundings().directory.forget();
        }
        let records = self.ring.drain(MOST, |record| pipeline.record(record));
        // As long as there are more, what seems to be missing may be among them.
        let now = if records == MOST { pipeline.latest() } else { monotonic() };
        if now.saturating_sub(self.clock_read) >= CLOCK_INTERVAL {
            self.clock_read = now;
            match clock::read() {
                Ok(reading) => pipeline.clock(reading),
                Err(error) => tracing::warn!(%error, "cannot read the clock"),
            }
        }
        let mut shipment = self.exporting.shipment();
        pipeline.advance(now, |finished| shipment.add(finished.span));
        pipeline.surroundings().tell();
        match records {
            MOST => Left::Records,
            0 if !pipeline.is_busy() => Left::Nothing,
            _ => Left::Waiting,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.counters.all().chain(self.losses.all()).collect()
    }

    /// Takes everything down: what is open is ended, what is ended is delivered.
    #[must_use]
    pub fn stop(mut self) -> Summary {
        // First of all nobody is recorded any more, whatever becomes of the rest. That waits for every processor several
        // times.
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken_down = std::thread::Builder::new().name("take-down".to_owned()).spawn(move || drop(kernel));
        // Records of what happened until now may still be on their way.
        let now = monotonic();
        while self.look() == Left::Records && self.pipeline.latest() < now {}
        let mut shipment = self.exporting.shipment();
        self.pipeline.shutdown(monotonic(), |finished| shipment.add(finished.span));
        let answers_by = Instant::now() + LAST_ANSWERS;
        while self.pipeline.waits_for_services() && Instant::now() < answers_by {
            std::thread::sleep(Duration::from_millis(1));
            self.pipeline.advance(monotonic(), |finished| shipment.add(finished.span));
        }
        self.pipeline.advance(u64::MAX, |finished| shipment.add(finished.span));
        drop(shipment);
        // It may be at something that never ends. What is to be delivered must not wait for that.
        self.watching.stop();
        self.pipeline.surroundings().inbox = None;
        self.exporting.shutdown(SHUTDOWN);
        if let Ok(taken_down) = taken_down {
            // It panicked, or the kernel side is down.
            let _ = taken_down.join();
        }
        if !self.watching.has_ended(WATCH_ENDS) {
            tracing::warn!(
                "the thread that follows processes waits for a file or process that does not answer: it is left behind"
            );
        }
        self.counters.all().chain(self.losses.all()).collect()
    }
}

/// What a look at the ring has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// More records.
    Records,
    /// None, but there were some, or something waits to be settled: more will come soon.
    Waiting,
    Nothing,
}

/// Shows what the kernel programs say of themselves, as long as the agent runs.
fn spawn_kernel_log(logger: kernel::Log) -> Result<()> {
    // SAFETY: the logger owns its map's descriptor and keeps it open and the same until it is dropped, with the AsyncFd.
    let mut readable = unsafe { AsyncFd::register(logger) }?;
    tokio::spawn(async move {
        while let Ok(mut guard) = readable.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

fn monotonic() -> u64 {
    clock::monotonic().unwrap_or(0)
}

/// The machine as the pipeline sees it: nothing here waits.
#[derive(Debug)]
struct Machine {
    directory: Directory,
    control: Control,
    inbox: Option<Inbox>,
    counters: Arc<Counters>,
}

impl Machine {
    /// Tells the kernel side what is complete since it was told last.
    fn tell(&mut self) {
        self.counters.completions_not_told.add(self.control.tell());
    }
}

impl Surroundings for Machine {
    fn whose(&mut self, tgid: u32) -> PendingService {
        self.directory.whose(tgid, |whose| self.inbox.as_ref().is_some_and(|inbox| inbox.ask(whose)))
    }

    fn completed(&mut self, cookie: u64, until: u64) {
        self.control.completed(cookie, until);
    }

    fn raise(&mut self, cookie: u64) {
        let capture = Capture { request: limits::LARGEST_CAPTURE, response: limits::LARGEST_CAPTURE };
        if self.control.raise(cookie, capture).is_err() {
            self.counters.captures_not_raised.add(1);
        }
    }

    fn raise_process(&mut self, tgid: u32, direction: Direction) {
        if self.control.raise_process(tgid, direction).is_err() {
            self.counters.captures_not_raised.add(1);
        }
    }

    fn forget(&mut self, cookie: u64) {
        self.control.forget(cookie);
    }

    fn process(&mut self, process: &ProcessChange) {
        match process.change {
            lifecycle::EXEC => {
                self.directory.executed(process.tgid, process.comm);
                self.control.forget_process(process.tgid);
            }
            lifecycle::FORK => self.directory.forked(process.tgid, process.other),
            lifecycle::EXIT => {
                self.directory.ended(process.tgid);
                self.control.forget_process(process.tgid);
            }
            _ => {}
        }
        if let Some(inbox) = &self.inbox {
            inbox.changed(Change { change: process.change, tgid: process.tgid, other: process.other });
        }
    }
}
