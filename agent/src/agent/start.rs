//! Starts the agent in two steps: loading, which may fail for want of privileges, and selecting.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use onlooker_common::capture::Capture;
use onlooker_engine::model::counters::Counters;
use onlooker_engine::pipeline::Pipeline;
use tokio::io::unix::AsyncFd;

use super::Agent;
use super::machine::Machine;
use crate::attach::tls;
use crate::clock;
use crate::config::{ResourceAttributes, Settings};
use crate::descriptors;
use crate::discover::select::Selectors;
use crate::discover::sockets::ListeningSockets;
use crate::enrich::{Directory, Host};
use crate::export::{self, Output};
use crate::injection::destinations::Destinations;
use crate::injection::{self, propagators};
use crate::kernel::{self, Kernel, Lines, Selection};
use crate::kubernetes::{self, Mode, Pods, Source, Watcher};
use crate::undecided::Undecided;
use crate::watch::Watch;

/// How long the start waits until the services of the selected processes are examined.
const FIRST_EXAMINATION: Duration = Duration::from_secs(2);
/// How long the start waits until the pods of this node are known. Without them, first spans may lack attributes of pods.
const FIRST_PODS: Duration = Duration::from_secs(3);
/// How long a command waits until the TLS libraries that it is linked with are attached to.
const COMMANDS_LIBRARIES: Duration = Duration::from_secs(2);

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
    /// `listeners`: the sockets that listen around it.
    Command { pid: u32, program: PathBuf, selectors: Selectors, listeners: ListeningSockets },
}

impl<'options> Prepared<'options> {
    /// Loads and attaches the kernel side. To be called in a tokio runtime.
    pub fn new(settings: &'options Settings) -> Result<Self> {
        descriptors::raise_limit();
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
        kernel.attach(if tracing.tls { &[tls::BEGINS, tls::RETURNED] } else { &[] })?;
        Ok(Self { settings, config, kernel, lines, destinations })
    }

    /// Selects. After that, every request of a selected process is seen. The console prints to `output`. To be called in a tokio runtime.
    pub fn start(self, target: Target, output: fn() -> Output) -> Result<Agent> {
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
        let exporting = export::start(&config, output(), counters.clone())?;
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
            if tracing.tls {
                watch.read_tls();
            }
            match (tracing.java, tracing.tls) {
                (true, true) => watch.load_into_jvms(),
                (true, false) => tracing::warn!("TLS of Java programs is not read, because TLS is not"),
                (false, _) => {}
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
            Target::Command { pid, program, selectors, listeners } => {
                let mut watch = watch(selectors);
                watch.select_command(pid, listeners);
                watch.libraries().starts(pid, &program);
                (watch, 1)
            }
        };
        let (libraries, is_restricted) = (watch.libraries(), watch.is_restricted());
        let units_found = Some(watch.looks_for_units());
        let (undecided, verdicts) = Undecided::new(counters.clone());
        let (sender_of_deselected, deselections) = mpsc::channel();
        let (sender, watching) =
            watch.start(verdicts, sender_of_deselected).context("cannot start the thread that follows processes")?;
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
        let limits = settings.limits();
        let reading = clock::read().context("cannot read the clocks")?;
        let pipeline = Pipeline::new(machine, limits, reading, counters.clone());
        Ok(Agent {
            kernel,
            ring,
            pipeline,
            undecided,
            deselections,
            deselected: Vec::new(),
            exporting,
            exporters: config,
            output,
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
    if !settings.injects() {
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
