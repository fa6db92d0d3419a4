//! Follows processes. Selects matching ones as they appear, and answers which services processes are.
//!
//! This runs on a thread of its own, because reading /proc and executables would delay records. If a mount hangs, the
//! thread may wait forever. Then only the kernel selects new processes (children of selected ones), spans of processes
//! that were not examined have the kernel's name of the process, and the agent ends without this thread.

mod by_port;
mod callers;
mod injecting;
mod messages;
mod pods;
mod scanning;
mod selecting;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::time::Instant;

use onlooker_common::process::lifecycle;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use self::callers::Callers;
use self::selecting::Since;
use crate::attach::java::Jvms;
use crate::attach::{Libraries, Units};
use crate::discover::cgroup::CgroupError;
use crate::discover::process::Process;
use crate::discover::select::{Decision, Selectors};
use crate::enrich::{Host, Services};
use crate::injection::Injection;
use crate::kernel::{FunctionPrograms, Losses, Selection, SharedKernel, UnitSources};
use crate::runtimes::Recogniser;
use crate::undecided::Verdict;
use onlooker_engine::model::counters::Counters;

pub use self::messages::{LifecycleChange, WatchSender};
pub use self::thread::WatchThread;

/// Follows processes, after it is started.
#[derive(Debug)]
pub struct Watch {
    kernel: SharedKernel,
    selection: Selection,
    losses: Losses,
    selectors: Selectors,
    services: Services,
    recogniser: Arc<Recogniser>,
    units: Units,
    programs: FunctionPrograms,
    libraries: Libraries,
    /// Only if TLS of JVMs is read.
    jvms: Option<Jvms>,
    /// Only if `traceparent` is added to requests.
    injection: Option<Injection>,
    /// Where processes are reported that are not recorded any more, and go on.
    deselected: Option<Sender<u32>>,
    counters: Arc<Counters>,
    /// Selected processes whose services are not examined yet.
    unexamined: Vec<u32>,
    /// The flags of selected processes, where there are any. Children inherit them.
    flags: FxHashMap<u32, u64>,
    callers: Callers,
    ticks_traced: bool,
    /// Lost changes that a scan has made up for.
    losses_handled: u64,
    stop: Arc<AtomicBool>,
    missed: Arc<AtomicU64>,
}

impl Watch {
    #[must_use]
    pub fn new(
        kernel: SharedKernel,
        selection: Selection,
        units: UnitSources,
        losses: Losses,
        selectors: Selectors,
        host: Arc<Host>,
        counters: Arc<Counters>,
    ) -> Self {
        let recogniser = Arc::clone(selectors.recogniser());
        let programs = FunctionPrograms::new(Arc::clone(&kernel));
        let units = Units::start(units, programs.clone(), Arc::clone(&recogniser), Arc::clone(&counters));
        let libraries = Libraries::off(Arc::clone(&counters));
        let mut services = Services::new(host, Arc::clone(&recogniser));
        services.apply(selectors.clone());
        if let Some(pods) = selectors.pods() {
            services.look_up_pods(Arc::clone(pods));
        }
        Self {
            kernel,
            selection,
            losses,
            services,
            selectors,
            units,
            programs,
            libraries,
            jvms: None,
            injection: None,
            deselected: None,
            recogniser,
            counters,
            unexamined: Vec::new(),
            flags: FxHashMap::default(),
            callers: Callers::default(),
            ticks_traced: false,
            losses_handled: 0,
            stop: Arc::default(),
            missed: Arc::default(),
        }
    }

    /// Makes the JVMs among the selected processes hand over the plaintext of their TLS.
    pub fn load_into_jvms(&mut self) {
        let (libraries, recogniser) = (self.libraries.clone(), Arc::clone(&self.recogniser));
        self.jvms = Some(Jvms::start(libraries, recogniser, Arc::clone(&self.counters)));
    }

    /// Adds `traceparent` to the requests of selected processes. To be called before anything is selected.
    ///
    /// # Errors
    /// If there are no cgroups to attach to.
    pub fn inject(&mut self) -> Result<(), CgroupError> {
        let mut injection = Injection::new(Arc::clone(&self.kernel), Arc::clone(&self.counters))?;
        // Later processes connect before this thread knows of them.
        for cgroup in self.selectors.cgroups_to_inject() {
            injection.cover(cgroup);
        }
        self.injection = Some(injection);
        Ok(())
    }

    /// Attaches to the TLS libraries of selected processes. To be called before anything is selected.
    pub fn read_tls(&mut self) {
        self.libraries = Libraries::start(self.programs.clone(), Arc::clone(&self.counters));
    }

    /// Where a process is reported whose TLS is not read.
    #[must_use]
    pub fn libraries(&self) -> Libraries {
        self.libraries.clone()
    }

    /// Whether any request is not to be reported.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.selectors.is_restricted()
    }

    /// Completes when it is known where the processes that were selected before have their units of work.
    #[must_use]
    pub fn looks_for_units(&self) -> oneshot::Receiver<()> {
        self.units.looked_at()
    }

    /// Starts the thread. It ends when the sender is dropped.
    ///
    /// Decisions about processes go to `verdicts`, and processes that are not recorded any more and go on to `deselected`.
    pub fn start(
        mut self,
        verdicts: Sender<Verdict>,
        deselected: Sender<u32>,
    ) -> std::io::Result<(WatchSender, WatchThread)> {
        self.deselected = Some(deselected);
        let (sender, receiver) = messages::channel(Arc::clone(&self.counters));
        if let Some(pods) = self.selectors.pods() {
            pods.on_news(sender.wake_for_pods());
        }
        let (report, progress) = mpsc::channel();
        let thread = WatchThread { stop: Arc::clone(&self.stop), missed: Arc::clone(&self.missed), progress };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || self.run(&receiver, &report, &verdicts))?;
        Ok((sender, thread))
    }

    fn changed(&mut self, LifecycleChange { change, tgid, other }: LifecycleChange) {
        match change {
            lifecycle::EXEC => {
                self.forget(tgid);
                self.services.executed(tgid);
                self.judge(tgid, Since::Exec);
                self.add_if_caller(tgid);
            }
            lifecycle::MOVED if self.selectors.match_cgroups() => self.judge(tgid, Since::Before),
            lifecycle::LISTEN => {
                let port = u16::try_from(other).unwrap_or_default();
                if self.selection.flags(tgid).is_some() {
                    // The kernel may not have recorded the port because the process was not selected yet, and the ports of
                    // the namespace may have been read even earlier.
                    let namespace = Process::open(tgid).and_then(|process| process.network_namespace());
                    namespace.into_iter().for_each(|namespace| self.listening(namespace, port));
                    if self.selectors.can_exclude()
                        && self.selectors.select(tgid).is_ok_and(|by| by == Decision::Excluded)
                    {
                        self.exclude(tgid);
                    } else if self.selectors.select_listening(tgid, port) {
                        self.promote(tgid);
                    }
                    if self.selectors.treat_by_port(port) {
                        self.judge_injection(tgid);
                        self.services.outdated(tgid);
                        self.missed.fetch_add(1, Relaxed);
                    }
                } else if self.selectors.select_listening(tgid, port) {
                    self.select_and_examine(tgid, Since::Before);
                }
            }
            lifecycle::FORK => {
                self.services.forked(tgid, other);
                self.units.forked(tgid, other);
                self.libraries.forked(tgid, other);
                self.selection.confirm(other);
                // The parent may have forked before its flags were known.
                if let Some(&flags) = self.flags.get(&tgid)
                    && self.selection.flags(other).is_some()
                {
                    self.selection.add(other, flags);
                    self.flags.insert(other, flags);
                }
                // Or before its rule was.
                self.judge_injection(other);
                self.add_if_caller(other);
            }
            lifecycle::CALLS => self.callers.add(tgid, Instant::now()),
            lifecycle::EXIT => {
                self.forget(tgid);
                self.selection.ended(tgid);
                self.services.ended(tgid, Instant::now());
                self.units.ended(tgid);
                self.libraries.ended(tgid);
                if let Some(jvms) = &self.jvms {
                    jvms.ended(tgid);
                }
            }
            _ => {}
        }
    }

    /// Forgets what is known about a process that executed a program or ended.
    fn forget(&mut self, tgid: u32) {
        self.flags.remove(&tgid);
        self.callers.remove(tgid);
    }
}

#[cfg(test)]
mod tests;
