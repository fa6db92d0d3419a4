//! The daemon: loads the kernel side, selects, runs the pipeline, exports, and takes everything down in reverse.

use std::future::Future;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onlooker_common::event::{self, lifecycle};
use onlooker_common::limits;
use onlooker_common::process::Capture;
use rustc_hash::FxHashMap;
use tokio::io::unix::AsyncFd;

use crate::cli;
use crate::clock::Reading;
use crate::discover::runtime::Runtimes;
use crate::discover::select::Selectors;
use crate::enrich::{Service, Services};
use crate::export::{self, Exporting, Output};
use crate::kernel::{self, Control, Kernel, ring::Ring};
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, Surroundings};
use crate::stream::Limits;
use crate::watch::{Change, Watch};

/// How long the exporters may take to deliver what is left when the agent ends.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The agent, watching.
#[derive(Debug)]
pub struct Agent {
    ring: Ring,
    pipeline: Pipeline<Machine>,
    exporting: Exporting,
    control: Arc<Mutex<Control>>,
    metrics: Arc<Metrics>,
    watch: std::thread::JoinHandle<()>,
    /// How many processes were selected at the start.
    pub selected: usize,
}

/// What the agent counted, at its end: name, meaning, value.
pub type Summary = Vec<(&'static str, &'static str, u64)>;

impl Agent {
    /// Loads, attaches and selects. From the return on nothing that a selected process begins is missed.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(tracing: &cli::Tracing, selectors: Selectors, output: Output) -> Result<Self> {
        let config = export::Config::from_env(tracing.choices())?;
        let metrics = Arc::new(Metrics::default());
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
        let control = Arc::new(Mutex::new(kernel.control()?));
        let exporting = export::start(config, output, metrics.clone())?;
        let runtimes = Arc::new(Runtimes::default());
        let services = Arc::new(Mutex::new(Services::new(runtimes.clone())));
        let mut watch = Watch {
            kernel,
            control: control.clone(),
            selectors,
            services: services.clone(),
            capture: Capture { request: tracing.request_capture, response: tracing.response_capture },
            metrics: metrics.clone(),
            runtimes,
        };
        let selected = watch.scan().context("cannot look through the processes")?;
        let (changes, watch) = watch.start().context("cannot start the thread that follows processes")?;
        let machine = Machine {
            services,
            control: control.clone(),
            changes: Some(changes),
            metrics: metrics.clone(),
            names: FxHashMap::default(),
        };
        let limits = Limits {
            connections: tracing.max_connections,
            request_age: tracing.request_age.saturating_mul(1_000_000_000),
            ..Limits::default()
        };
        let reading = Reading::now().context("cannot read the clocks")?;
        let pipeline = Pipeline::new(machine, limits, reading, metrics.clone());
        Ok(Self { ring, pipeline, exporting, control, metrics, watch, selected })
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
        let records = self.ring.drain(MOST, |record| pipeline.record(record));
        // As long as there are more, what seems to be missing may be among them.
        let now = if records == MOST { pipeline.latest() } else { monotonic() };
        let mut shipment = self.exporting.shipment();
        pipeline.advance(now, |span| shipment.add(span));
        match records {
            MOST => Left::Records,
            0 if !pipeline.is_busy() => Left::Nothing,
            _ => Left::Waiting,
        }
    }

    /// Takes everything down: what is open is ended, what is ended is delivered.
    #[must_use]
    pub fn stop(mut self) -> Summary {
        // Records of what happened until now may still be on their way.
        let now = monotonic();
        while self.look() == Left::Records && self.pipeline.latest() < now {}
        let mut shipment = self.exporting.shipment();
        self.pipeline.shutdown(monotonic(), |span| shipment.add(span));
        drop(shipment);
        self.pipeline.surroundings.changes = None;
        if self.watch.join().is_err() {
            tracing::error!("the thread that follows processes panicked");
        }
        self.exporting.shutdown(SHUTDOWN);
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.all().chain(control.losses()).collect()
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

/// Nanoseconds of `CLOCK_MONOTONIC`, which the kernel programs stamp with.
fn monotonic() -> u64 {
    Reading::now().map_or(0, |reading| reading.monotonic)
}

/// The machine as the pipeline sees it.
#[derive(Debug)]
struct Machine {
    services: Arc<Mutex<Services>>,
    control: Arc<Mutex<Control>>,
    changes: Option<Sender<Change>>,
    metrics: Arc<Metrics>,
    /// What the kernel calls processes that executed something: for those that are gone before they are looked at.
    names: FxHashMap<u32, [u8; 16]>,
}

impl Surroundings for Machine {
    fn service(&mut self, tgid: u32) -> Arc<Service> {
        let comm = self.names.get(&tgid).copied().unwrap_or_default();
        let comm = String::from_utf8_lossy(&comm);
        self.services.lock().unwrap_or_else(PoisonError::into_inner).of(tgid, comm.trim_end_matches('\0'))
    }

    fn completed(&mut self, cookie: u64, until: u64) {
        if self.control.lock().unwrap_or_else(PoisonError::into_inner).completed(cookie, until).is_err() {
            self.metrics.completions_not_told.add(1);
        }
    }

    fn raise(&mut self, cookie: u64) {
        let capture = Capture { request: limits::LARGEST_CAPTURE, response: limits::LARGEST_CAPTURE };
        if self.control.lock().unwrap_or_else(PoisonError::into_inner).raise(cookie, capture).is_err() {
            self.metrics.captures_not_raised.add(1);
        }
    }

    fn forget(&mut self, cookie: u64) {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).forget(cookie);
    }

    fn process(&mut self, process: &event::Process) {
        /// Names kept: more processes than start within the seconds for which one is asked for.
        const NAMES: usize = 4096;
        if process.change == lifecycle::EXEC {
            if self.names.len() >= NAMES {
                self.names.clear();
            }
            self.names.insert(process.tgid, process.comm);
            self.services.lock().unwrap_or_else(PoisonError::into_inner).executed(process.tgid);
        }
        if process.change == lifecycle::FORK {
            self.services.lock().unwrap_or_else(PoisonError::into_inner).forked(process.tgid, process.other);
        }
        if let Some(changes) = &self.changes {
            // The thread ends only after this sender is gone.
            let _ = changes.send(Change { change: process.change, tgid: process.tgid, other: process.other });
        }
    }
}
