//! The agent: loads the kernel side, selects processes, runs the pipeline and exports. At its end it does the reverse.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onlooker_common::capture::{Capture, HEADS};
use onlooker_common::limits;
use onlooker_common::process::{Execution, ProcessChange, lifecycle};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::attach::Libraries;
use crate::clock;
use crate::config::{ResourceAttributes, Settings};
use crate::discover::select::Selectors;
use crate::enrich::{Directory, Host};
use crate::export::{self, Exporting, Output};
use crate::injection::destinations::Destinations;
use crate::injection::{self, propagators};
use crate::kernel::ring::{Patience, Ring};
use crate::kernel::{self, Control, Kernel, Lines, Losses, Selection, SharedKernel};
use crate::kubernetes::{self, Mode, Pods, Source, Watcher};
use crate::undecided::{Taken, Undecided};
use crate::watch::{LifecycleChange, Watch, WatchSender, WatchThread};
use onlooker_engine::connections::Limits;
use onlooker_engine::model::counters::{Counters, Line};
use onlooker_engine::model::service::PendingService;
use onlooker_engine::pipeline::{Notice, Pipeline, Surroundings};
use onlooker_protocols::Capture as Wanted;

/// How long exporters may take to deliver the remaining spans when the agent ends.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long the start waits until the services of the selected processes are examined.
const FIRST_EXAMINATION: Duration = Duration::from_secs(2);
/// How long the start waits until the pods of this node are known. Without them, first spans may lack attributes of pods.
const FIRST_PODS: Duration = Duration::from_secs(3);
/// How long the agent is not called ready while it looks for the units of work of the selected processes. It takes about 0.1 s for
/// each Node, and less for others.
const FIRST_UNITS: Duration = Duration::from_secs(1);
/// How long the agent is not called ready while it attaches to the TLS libraries of the selected processes. It takes milliseconds
/// for each process, unless the host is busy.
const FIRST_ATTACHMENT: Duration = Duration::from_secs(10);
/// How long former exporters may take to deliver their spans.
const RETIREMENT: Duration = Duration::from_secs(30);
/// How long a command waits until the TLS libraries that it is linked with are attached to.
const COMMANDS_LIBRARIES: Duration = Duration::from_secs(2);
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
    exporting: Exporting,
    /// What `exporting` was started with.
    exporters: export::Config,
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

/// The loaded and attached kernel side. It records nothing, because no process is selected.
#[derive(Debug)]
pub struct Prepared<'options> {
    settings: &'options Settings,
    config: export::Config,
    kernel: Kernel,
    /// The header lines that are added to requests, if some are.
    lines: Option<Lines>,
    destinations: Destinations,
}

/// What is traced.
#[derive(Debug)]
pub enum Target {
    /// Processes that match, running ones and later ones.
    Matching(Selectors),
    /// A process that waits to execute a command. No other process matches yet.
    Command { pid: u32, program: PathBuf, selectors: Selectors },
}

impl<'options> Prepared<'options> {
    /// Loads and attaches the kernel side. To be called in a tokio runtime.
    pub fn new(settings: &'options Settings) -> Result<Self> {
        let tracing = &settings.tracing;
        let config = export::Config::choose(&tracing.choices(), &|name| settings.variable(name))?;
        let lines = lines_to_add(settings)?;
        let destinations = Destinations::parse(&tracing.inject_allow, &tracing.inject_deny);
        let destinations = destinations.map_err(|why| anyhow::anyhow!("--inject-{why}"))?;
        let mut kernel = Kernel::load(&kernel::Options { lines: lines.clone(), ..tracing.kernel_options() })?;
        for missing in &kernel.missing {
            tracing::warn!(
                structure = missing.structure,
                member = missing.member,
                "this kernel has no such member, so {} is off",
                missing.needed_for
            );
        }
        if tracing.kernel_log {
            spawn_kernel_log(kernel.logger()?)?;
        }
        kernel.attach()?;
        Ok(Self { settings, config, kernel, lines, destinations })
    }

    /// Selects. After that, every request of a selected process is seen. To be called in a tokio runtime.
    pub fn start(self, target: Target, output: Output) -> Result<Agent> {
        let Self { settings, config, mut kernel, lines, destinations } = self;
        let tracing = &settings.tracing;
        let counters = Arc::new(Counters::default());
        let ring = kernel.ring()?;
        let control = kernel.control()?;
        let capture = Capture { request: tracing.request_capture, response: tracing.response_capture };
        let mut selection = kernel.selection(capture)?;
        let injects = lines.is_some_and(|lines| can_inject(&mut kernel, &mut selection, &lines));
        let losses = kernel.losses()?;
        let units = kernel.unit_sources()?;
        let exporting = export::start(&config, output, counters.clone())?;
        let ResourceAttributes { list, attributes } = settings.resource();
        let host = Arc::new(Host::read(&list, attributes));
        let its_losses = kernel.losses()?;
        let followed = follow_pods(settings, &counters)?;
        let kernel = Arc::new(Mutex::new(Some(kernel)));
        if injects {
            destinations.follow(&kernel).context("cannot limit where a trace context is added")?;
        }
        let watch = |selectors: Selectors| {
            let selectors = match &followed {
                Some((pods, _)) => selectors.with_pods(Arc::clone(pods)),
                None if selectors.match_pods() => {
                    tracing::warn!("rules about Kubernetes match nothing, because pods are not followed");
                    selectors
                }
                None => selectors,
            };
            let mut watch =
                Watch::new(kernel.clone(), selection, units, its_losses, selectors, host.clone(), counters.clone());
            if tracing.tls || tracing.java {
                watch.read_tls();
            }
            if tracing.java {
                watch.load_into_jvms();
            }
            if injects && let Err(error) = watch.inject() {
                tracing::warn!("no traceparent is added to requests: {error}");
            }
            watch
        };
        let starts_command = matches!(target, Target::Command { .. });
        let (watch, selected) = match target {
            Target::Matching(selectors) => {
                let mut watch = watch(selectors);
                let selected = watch.scan().context("cannot scan the processes")?;
                (watch, selected)
            }
            Target::Command { pid, program, selectors } => {
                let mut watch = watch(selectors);
                watch.select_command(pid);
                watch.libraries().starts(pid, &program);
                (watch, 1)
            }
        };
        let (libraries, is_restricted) = (watch.libraries(), watch.is_restricted());
        let units_found = Some(watch.looks_for_units());
        let (undecided, verdicts) = Undecided::new(counters.clone());
        let (sender, watching) = watch.start(verdicts).context("cannot start the thread that follows processes")?;
        if !watching.has_examined(FIRST_EXAMINATION) {
            tracing::warn!("examining the selected processes takes long; their first spans may have no service name");
        }
        let attached = Some(libraries.looked_at());
        if starts_command && !libraries.have_looked(COMMANDS_LIBRARIES) {
            tracing::warn!(
                "attaching to the command's TLS libraries takes long; its first requests over TLS may not be seen"
            );
        }
        let directory = Directory::new(host);
        let machine =
            Machine { directory, control, watch: Some(sender), libraries, counters: counters.clone(), is_restricted };
        let limits = limits_of(settings);
        let reading = clock::read().context("cannot read the clocks")?;
        let pipeline = Pipeline::new(machine, limits, reading, counters.clone());
        Ok(Agent {
            kernel,
            ring,
            pipeline,
            undecided,
            exporting,
            exporters: config,
            retired: Vec::new(),
            losses,
            counters,
            watching,
            _pods: followed.map(|(_, watcher)| watcher),
            missed: 0,
            clock_read: reading.monotonic,
            selected,
            units_found,
            attached,
        })
    }
}

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
        let missed = self.watching.missed();
        if missed != std::mem::replace(&mut self.missed, missed) {
            pipeline.surroundings().directory.forget();
        }
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
            let exporting = export::start(&config, Output::stdout(), Arc::clone(&self.counters))?;
            let before = std::mem::replace(&mut self.exporting, exporting);
            self.exporters = config;
            self.retired.retain(|thread| !thread.is_finished());
            let retire = move || before.shutdown(RETIREMENT);
            self.retired.push(std::thread::Builder::new().name("export-former".to_owned()).spawn(retire)?);
        }
        self.pipeline.bound(&limits_of(settings));
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

fn limits_of(settings: &Settings) -> Limits {
    Limits {
        connections: settings.tracing.max_connections,
        request_age: settings.tracing.request_age.saturating_mul(1_000_000_000),
        ..Limits::default()
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

/// Follows the pods of this node, if that is wanted and possible.
fn follow_pods(settings: &Settings, counters: &Arc<Counters>) -> Result<Option<(Arc<Pods>, Watcher)>> {
    let options = &settings.tracing;
    let source = match Source::choose(options.kubernetes, options.kubernetes_node.as_deref()) {
        Ok(Some(source)) => source,
        Ok(None) => return Ok(None),
        Err(why) if options.kubernetes == Mode::Auto => {
            tracing::warn!("{why}");
            return Ok(None);
        }
        Err(why) => return Err(why.into()),
    };
    let pods = Arc::new(Pods::new(Arc::clone(counters)));
    let watcher = kubernetes::watch(source, Arc::clone(&pods), Arc::clone(counters)).context("cannot follow pods")?;
    if !watcher.has_listed(FIRST_PODS) {
        tracing::warn!("the pods of this node are not known yet; spans have no attributes of pods until they are");
    }
    Ok(Some((pods, watcher)))
}

/// The header lines that are added to requests, if some are.
fn lines_to_add(settings: &Settings) -> Result<Option<Lines>> {
    if !settings.tracing.inject {
        return Ok(None);
    }
    let list = settings.variable(propagators::VARIABLE).unwrap_or_default();
    let formats = propagators::chosen(&list.to_string_lossy());
    let formats = formats.map_err(|why| anyhow::anyhow!("{} {why}", propagators::VARIABLE))?;
    let lines = Lines::of(&formats);
    if lines.is_none() {
        tracing::warn!("no trace context is added to requests: {} has no format of one", propagators::VARIABLE);
    }
    Ok(lines)
}

/// Prepares the kernel side to add `traceparent` to requests. Returns whether it can.
fn can_inject(kernel: &mut Kernel, selection: &mut Selection, lines: &Lines) -> bool {
    match injection::prepare(kernel, selection, lines) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("no traceparent is added to requests: {error:#}");
            false
        }
    }
}

/// Logs diagnostics of the kernel programs while the agent runs.
fn spawn_kernel_log(logger: kernel::Log) -> Result<()> {
    // SAFETY: the logger owns the descriptor of its map. It stays open and unchanged until it is dropped with the AsyncFd.
    let mut readable = unsafe { AsyncFd::register(logger) }?;
    tokio::spawn(async move {
        while let Ok(mut guard) = readable.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

fn summary(counters: &Counters, losses: &Losses) -> Summary {
    let losses = losses.all().into_iter().map(|(name, meaning, value)| (name.into(), meaning.into(), value));
    counters.all().chain(losses).collect()
}

fn monotonic() -> u64 {
    clock::monotonic().unwrap_or(0)
}

/// The machine as the pipeline sees it: nothing here waits.
#[derive(Debug)]
struct Machine {
    directory: Directory,
    control: Control,
    watch: Option<WatchSender>,
    libraries: Libraries,
    counters: Arc<Counters>,
    /// Some requests are not to be reported.
    is_restricted: bool,
}

impl Machine {
    fn request_decision(&self, execution: &Execution) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.request_decision(execution))
    }

    /// Passes on to the kernel side which requests are complete.
    fn report_completions(&mut self) {
        self.counters.completions_not_reported.add(self.control.flush());
    }

    fn process(&mut self, process: &ProcessChange) {
        match process.change {
            // An ended process may have had the pid of one that is selected because it moved.
            lifecycle::MOVED => self.directory.executed(process.tgid, process.comm),
            lifecycle::EXEC => {
                self.directory.executed(process.tgid, process.comm);
                self.control.forget_process(process.tgid);
            }
            // The thread that follows processes has decided about it.
            lifecycle::EXEC_UNDECIDED => {
                self.directory.executed(process.tgid, process.comm);
                self.control.forget_process(process.tgid);
                return;
            }
            lifecycle::FORK => self.directory.forked(process.tgid, process.other),
            lifecycle::EXIT => {
                self.directory.ended(process.tgid);
                self.control.forget_process(process.tgid);
            }
            _ => {}
        }
        if let Some(watch) = &self.watch {
            watch.process_changed(LifecycleChange { change: process.change, tgid: process.tgid, other: process.other });
        }
    }
}

impl Surroundings for Machine {
    fn service(&mut self, tgid: u32) -> PendingService {
        self.directory
            .service_of(tgid, |pending| self.watch.as_ref().is_some_and(|watch| watch.request_service(pending)))
    }

    fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    fn take(&mut self, notice: Notice<'_>) {
        let changed = match notice {
            Notice::Completed { cookie, until } => {
                self.control.completed(cookie, until);
                return;
            }
            Notice::CaptureMore { cookie } => self.control.lift_limit(cookie),
            Notice::CaptureLess { cookie, direction, capture } => {
                let bytes = match capture {
                    Wanted::Heads | Wanted::Frames => HEADS,
                    Wanted::Most => limits::LARGEST_CAPTURE,
                };
                self.control.limit(cookie, direction, bytes)
            }
            Notice::FollowFrames { cookie } => self.control.follow_frames(cookie),
            Notice::FrameBegins { cookie, sent, position } => self.control.confirm_frames(cookie, sent, position),
            Notice::CaptureMoreOf { tgid, direction } => self.control.raise_process(tgid, direction),
            Notice::Encrypted { tgid } => return self.libraries.uses_tls(tgid),
            Notice::Forgotten { cookie } => return self.control.forget(cookie),
            Notice::ProcessChanged(process) => return self.process(process),
        };
        self.counters.captures_not_raised.add(u64::from(changed.is_err()));
    }
}
