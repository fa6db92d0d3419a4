//! Follows processes. Selects matching ones as they appear, and answers which services processes are.
//!
//! This runs on a thread of its own, because reading /proc and executables would delay records. If a mount hangs, the
//! thread may wait forever. Then only the kernel selects new processes (children of selected ones), spans of processes
//! that were not examined have the kernel's name of the process, and the agent ends without this thread.

mod by_port;
mod callers;
mod messages;
mod pods;

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use onlooker_common::losses::Loss;
use onlooker_common::process::{Execution, lifecycle};
use onlooker_common::selection::{interest, process_flag};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use self::by_port::Children;
use self::callers::{Callers, Seen};
use self::messages::{OtherRules, WatchMessage, WatchReceiver};
use crate::attach::java::Jvms;
use crate::attach::{Libraries, Units};
use crate::discover::cgroup::CgroupError;
use crate::discover::process::{Process, Unreadable};
use crate::discover::select::{Decision, Judgement, Selectors};
use crate::discover::sockets::ListeningSockets;
use crate::enrich::{Host, Services};
use crate::injection::Injection;
use crate::kernel::{BY_PORT, FunctionPrograms, Losses, Selection, SharedKernel, UnitSources};
use crate::memory;
use crate::runtimes::{Recogniser, Work};
use crate::undecided::Verdict;
use onlooker_engine::model::counters::Counters;

pub use self::messages::{LifecycleChange, WatchSender};

/// How often it is checked whether changes were missed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two scans of all processes. When changes are missed, the host is busy.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is checked whether processes that a port selects accept on it.
const PROMOTION_INTERVAL: Duration = Duration::from_secs(5);
/// How often selected processes are checked for having ended. The kernel reports nearly all ends.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

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

/// The running thread.
#[derive(Debug)]
pub struct WatchThread {
    stop: Arc<AtomicBool>,
    missed: Arc<AtomicU64>,
    /// Receives one message when the processes selected at the start are examined. Disconnected when the thread ends.
    progress: Receiver<()>,
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
        for cgroup in self.selectors.cgroups() {
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

    /// Selects running processes, and returns how many are selected. The thread examines their services.
    pub fn scan(&mut self) -> Result<usize, Unreadable> {
        self.report_what_selectors_need();
        let scan = self.selectors.scan()?;
        self.counters.processes_unreadable.add(scan.unreadable);
        let mut listeners = ListeningSockets::default();
        for pid in scan.selected {
            self.promote(pid);
            let selected = self.select_with_children(pid, Since::Before, &mut listeners);
            self.unexamined.extend(selected.iter().map(Process::pid));
        }
        Ok(self.selection.selected().len())
    }

    /// Selects the process that is going to execute a command. No other process matches the selectors yet, so a scan would
    /// find nothing.
    pub fn select_command(&mut self, pid: u32) {
        self.report_what_selectors_need();
        self.select(pid, Since::Before, &mut ListeningSockets::default());
    }

    /// Makes the kernel side report what the selectors need to know of processes that are not selected.
    fn report_what_selectors_need(&mut self) {
        self.selection.forget_verdicts();
        let mut interest = self.selectors.interest();
        for name in self.selectors.names() {
            if let Err(error) = self.selection.report_name(name.beginning.as_bytes(), name.whole) {
                tracing::warn!(name = name.beginning, %error, "cannot filter programs by name; all are examined");
                interest |= interest::EXECS;
            }
        }
        if let Err(error) = self.selection.set_interest(interest) {
            tracing::warn!(%error, "cannot tell the kernel side what to report; only running processes are selected");
        }
        if let Err(error) = self.selection.select_ports(self.selectors.ports()) {
            tracing::warn!(%error, "cannot store the ports in the kernel map; services that are started with a listening socket are not traced");
        }
        let cgroups = self.selectors.cgroup_ids();
        let names = self.selectors.names().map(|name| (name.beginning.as_bytes(), name.whole));
        if let Err(error) = self.selection.forget_others(names, &cgroups) {
            tracing::warn!(%error, "cannot remove former rules from the kernel maps; more processes are examined");
        }
        for cgroup in cgroups {
            if let Err(error) = self.selection.select_cgroup(cgroup) {
                tracing::warn!(cgroup, %error, "cannot make the kernel select processes in the cgroup");
            }
        }
    }

    /// Starts the thread. It ends when the sender is dropped.
    ///
    /// Decisions about processes go to `verdicts`.
    pub fn start(self, verdicts: Sender<Verdict>) -> std::io::Result<(WatchSender, WatchThread)> {
        let (sender, receiver) = messages::channel(Arc::clone(&self.counters));
        if let Some(pods) = self.selectors.pods() {
            pods.on_news(sender.wake_for_pods());
        }
        let (report, progress) = mpsc::channel();
        let thread = WatchThread { stop: Arc::clone(&self.stop), missed: Arc::clone(&self.missed), progress };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || self.run(&receiver, &report, &verdicts))?;
        Ok((sender, thread))
    }

    fn run(mut self, messages: &WatchReceiver, report: &Sender<()>, verdicts: &Sender<Verdict>) {
        self.examine_unexamined();
        // This fails only if the agent has given up waiting.
        let _ = report.send(());
        memory::give_back();
        let start = Instant::now();
        let (mut next_check, mut next_scan, mut next_sweep) = (start, start, start + SWEEP_INTERVAL);
        let mut next_promotion = start + PROMOTION_INTERVAL;
        let mut overflowed = false;
        while !self.stop.load(Relaxed) {
            let due = self.callers.next_look().map_or(next_check, |caller| caller.min(next_check));
            match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(WatchMessage::ServiceRequested(pending)) => self.services.answer(&pending),
                Ok(WatchMessage::ProcessChanged(change)) => self.changed(change),
                Ok(WatchMessage::Undecided(execution)) => {
                    // This fails only when the agent ends.
                    let _ = verdicts.send(self.decide(&execution));
                }
                Ok(WatchMessage::RulesChanged | WatchMessage::PodsChanged) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(OtherRules { rules, applied }) = messages.other_rules() {
                self.apply(rules);
                // This fails only if the receiver was dropped.
                let _ = applied.send(self.selection.selected().len());
            }
            overflowed |= self.take_news_of_pods();
            let now = Instant::now();
            if self.callers.next_look().is_some_and(|due| due <= now) || self.ticks_traced && now >= next_check {
                self.look_at_callers(now);
            }
            if now < next_check {
                continue;
            }
            next_check = now + CHECK_INTERVAL;
            overflowed |= messages.overflowed();
            let lost = self.losses.count(Loss::RingFullProcess);
            if now >= next_scan && (overflowed || lost > self.losses_handled) {
                next_scan = now + SCAN_INTERVAL;
                overflowed = false;
                self.losses_handled = lost;
                self.rescan();
            }
            if now >= next_promotion {
                next_promotion = now + PROMOTION_INTERVAL;
                self.promote_children();
            }
            if now >= next_sweep {
                next_sweep = now + SWEEP_INTERVAL;
                self.sweep();
            }
        }
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
                self.add_if_caller(other);
            }
            lifecycle::CALLS => self.callers.add(tgid, Instant::now()),
            lifecycle::EXIT => {
                self.forget(tgid);
                self.selection.ended(tgid);
                self.services.ended(tgid);
                self.units.ended(tgid);
                self.libraries.ended(tgid);
                if let Some(jvms) = &self.jvms {
                    jvms.ended(tgid);
                }
            }
            _ => {}
        }
    }

    /// Decides whether a process is selected that executed a program.
    fn decide(&mut self, execution: &Execution) -> Verdict {
        let tgid = execution.change.tgid;
        self.forget(tgid);
        self.services.executed(tgid);
        let path = CStr::from_bytes_until_nul(&execution.path).map_or(&execution.path[..], CStr::to_bytes);
        let judgement = self.selectors.judge_execution(tgid, Path::new(OsStr::from_bytes(path)));
        let matches = match judgement {
            Judgement::Certain { selected, lasting } => {
                if let Some(lasting) = lasting {
                    self.selection.remember(execution.executable, lasting);
                }
                selected
            }
            Judgement::ByPath(selected) => selected,
            Judgement::Unknown => {
                self.counters.processes_ended_undecided.add(1);
                false
            }
        };
        if matches {
            self.promote(tgid);
            self.select_and_examine(tgid, Since::Exec);
        } else {
            self.selection.reject(tgid);
            // Another selector may match.
            self.judge(tgid, Since::Exec);
        }
        self.add_if_caller(tgid);
        let selected = matches || self.selection.flags(tgid).is_some();
        Verdict { tgid, selected }
    }

    /// Forgets what is known about a process that executed a program or ended.
    fn forget(&mut self, tgid: u32) {
        self.flags.remove(&tgid);
        self.callers.remove(tgid);
    }

    /// Applies the selectors to a process that executed a program or moved to another cgroup.
    fn judge(&mut self, tgid: u32, since: Since) {
        match self.selectors.select(tgid) {
            Ok(Decision::Included(_)) => {
                self.promote(tgid);
                self.select_and_examine(tgid, since);
            }
            Ok(Decision::Excluded) => self.exclude(tgid),
            // A service manager passes its sockets on, and this program has none of the ports.
            Ok(Decision::Unmatched) if self.is_other_service(tgid) => self.selection.deselect(tgid),
            // A child of a selected process stays selected whatever it executes. Its flags may be different now.
            Ok(Decision::Unmatched) if self.selection.flags(tgid).is_some() => self.select_and_examine(tgid, since),
            Ok(Decision::Unmatched) => {}
            Err(error) => {
                self.counters.processes_unreadable.add(1);
                tracing::debug!(pid = tgid, %error, "cannot apply the selectors");
            }
        }
    }

    /// Ends the recording of a process that a rule excludes, if it was selected as a child of another or by the kernel side.
    fn exclude(&mut self, tgid: u32) {
        if self.selection.flags(tgid).is_some() {
            tracing::debug!(pid = tgid, "excluded");
            self.forget(tgid);
            self.selection.deselect(tgid);
            self.libraries.ended(tgid);
        }
    }

    fn listening(&mut self, namespace: u64, port: u16) {
        // The kernel numbers namespaces with 32 bits. The inode number is the same.
        let Ok(namespace) = u32::try_from(namespace) else { return };
        if let Err(error) = self.selection.listening(namespace, port) {
            self.counters.listeners_not_registered.add(1);
            tracing::warn!(port, %error, "cannot store a listening port in the kernel map");
        }
    }

    fn select_and_examine(&mut self, tgid: u32, since: Since) {
        for process in self.select_with_children(tgid, since, &mut ListeningSockets::default()) {
            self.services.examine(&process);
        }
    }

    /// Selects a process and its descendants so far. The kernel selects later ones. Returns those that run a program of
    /// their own.
    fn select_with_children(&mut self, tgid: u32, since: Since, listeners: &mut ListeningSockets) -> Vec<Process> {
        let was_selected = self.selection.flags(tgid).is_some();
        let mut selected = Vec::from_iter(self.select(tgid, since, listeners));
        let mut next = 0;
        while !was_selected && let Some(parent) = selected.get(next) {
            next += 1;
            // Of what a service manager started, those are selected that hold the socket.
            let children = if parent.is_service_manager() { Vec::new() } else { parent.children() };
            let by_port = Children::of(parent, self.selection.flags(parent.pid()).unwrap_or_default());
            for child in children {
                if child != std::process::id()
                    && self.selection.flags(child).is_none()
                    && let Ok(child) = Process::open(child)
                    && !self.is_excluded(&child, listeners)
                {
                    let standing = by_port.standing(&child);
                    selected.extend(self.select_as(child, Since::Before, standing, listeners));
                }
            }
        }
        selected
    }

    fn is_excluded(&self, process: &Process, listeners: &mut ListeningSockets) -> bool {
        self.selectors.can_exclude()
            && self
                .selectors
                .facts(process, listeners)
                .is_ok_and(|facts| self.selectors.decide(&facts) == Decision::Excluded)
    }

    /// Selects a process that a selector matches, or that is selected. Returns it if it exists and runs a program of its own.
    fn select(&mut self, tgid: u32, since: Since, listeners: &mut ListeningSockets) -> Option<Process> {
        let process = Process::open(tgid).ok()?;
        let known = self.selection.flags(tgid).map(|known| known & BY_PORT);
        let standing = known.unwrap_or_else(|| self.standing(&process));
        self.select_as(process, since, standing, listeners)
    }

    /// Selects a process. `standing`: see [`Selection::stand`].
    fn select_as(
        &mut self,
        process: Process,
        since: Since,
        standing: u64,
        listeners: &mut ListeningSockets,
    ) -> Option<Process> {
        let tgid = process.pid();
        for (namespace, port) in listeners.new_ports(&process) {
            self.listening(namespace, port);
        }
        // The child of `exec` that has not executed its command yet runs the agent's program, which says nothing about it.
        let is_my_fork = process.is_my_fork();
        let flags = if is_my_fork { 0 } else { self.flags_of(&process, true) };
        let selected = match since {
            Since::Before => self.selection.select(tgid, flags | standing),
            Since::Exec => self.selection.select_anew(tgid, flags | standing),
        };
        self.selection.stand(tgid, standing);
        if let Err(error) = selected {
            self.counters.processes_not_selected.add(1);
            tracing::warn!(pid = tgid, %error, "cannot select the process");
            return None;
        }
        if !process.is_alive() {
            // It ended before it was selected, so the kernel did not deselect it. Its pid may be reused.
            self.selection.deselect(tgid);
            return None;
        }
        tracing::debug!(pid = tgid, comm = process.comm(), flags, "selected");
        if let Some(injection) = &mut self.injection {
            injection.cover_process(&process);
        }
        if flags != 0 {
            self.flags.insert(tgid, flags);
        }
        if !is_my_fork {
            self.units.runs(tgid);
            self.libraries.runs(tgid, matches!(since, Since::Exec));
            if let Some(jvms) = &self.jvms {
                jvms.runs(tgid);
            }
        }
        (!is_my_fork).then_some(process)
    }

    fn examine_unexamined(&mut self) {
        for tgid in std::mem::take(&mut self.unexamined) {
            if let Ok(process) = Process::open(tgid) {
                self.services.examine(&process);
            }
        }
    }

    /// The flags that follow from the program of a process. `threads_are_known`: no virtual thread was taken for the thread
    /// that ran it.
    fn flags_of(&self, process: &Process, threads_are_known: bool) -> u64 {
        let program = self.recogniser.recognise(process);
        let proxy = if program.runtime.is_proxy { process_flag::PROXY } else { 0 };
        let work = match program.work {
            Work::ThreadUntilProvenOtherwise => 0,
            Work::EventLoop => process_flag::LOOP,
            Work::EventLoopNoQueue => process_flag::LOOP | process_flag::NO_QUEUE,
            Work::VirtualThreads if threads_are_known => process_flag::SCHEDULER,
            Work::Scheduler | Work::VirtualThreads => process_flag::LOOP | process_flag::SCHEDULER,
        };
        work | proxy
    }

    /// Adds a process that made calls before it was followed here.
    fn add_if_caller(&mut self, tgid: u32) {
        if self.selection.flags(tgid).is_some_and(|flags| flags & process_flag::CALLS != 0) {
            self.callers.add(tgid, Instant::now());
        }
    }

    /// Looks at processes that make calls. Ticks matter for those that wait for events. The flags of a process may have
    /// changed since it started.
    fn look_at_callers(&mut self, now: Instant) {
        let mut callers = std::mem::take(&mut self.callers);
        callers.look(now, |tgid| {
            let process = Process::open(tgid).ok()?;
            let flags = self.selection.flags(tgid)? | self.flags_of(&process, self.selection.reads_unit(tgid));
            self.selection.add(tgid, flags);
            Some(Seen { flags, has_event_poll: process.has_event_poll() })
        });
        self.callers = callers;
        let matter = self.callers.ticks_matter(now, self.ticks_traced);
        if matter != self.ticks_traced {
            self.ticks_traced = matter;
            tracing::debug!(traced = matter, "ticks of event loops");
            if let Some(kernel) = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                if matter { kernel.attach_boundaries() } else { kernel.detach_boundaries() }
            }
        }
    }

    /// Scans all processes, because changes were missed. Nothing that was known about processes is certain any more.
    fn rescan(&mut self) {
        tracing::debug!("changes of processes were missed; scanning all processes");
        self.services.forget();
        self.missed.fetch_add(1, Relaxed);
        self.sweep();
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot scan the processes");
        }
        self.examine_unexamined();
        for tgid in self.selection.selected() {
            self.add_if_caller(tgid);
        }
    }

    /// Applies other rules. A process that the former rules covered and these do not is deselected. All others go on being recorded.
    fn apply(&mut self, rules: Selectors) {
        let rules = rules.with_memory_of(&self.selectors);
        self.services.apply(rules.clone());
        let before = std::mem::replace(&mut self.selectors, rules);
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot scan the processes");
        }
        for tgid in self.selection.selected() {
            let Ok(process) = Process::open(tgid) else { continue };
            match self.selectors.decide_by_descent(&process) {
                Decision::Included(_) => {}
                Decision::Excluded => self.exclude(tgid),
                // Without the former rules it may be the child of a process that has ended. So it stays.
                Decision::Unmatched => {
                    if before.decide_by_descent(&process) != Decision::Unmatched {
                        self.exclude(tgid);
                    }
                }
            }
        }
        self.unexamined.extend(self.selection.selected());
        self.unexamined.sort_unstable();
        self.unexamined.dedup();
        self.examine_unexamined();
        // Spans from now on have the services that the rules name.
        self.missed.fetch_add(1, Relaxed);
    }

    /// Deselects processes that have ended.
    fn sweep(&mut self) {
        for tgid in self.selection.selected() {
            if !Process::open(tgid).is_ok_and(|process| process.is_alive()) {
                self.selection.deselect(tgid);
            }
        }
        self.selection.sweep();
        // Files may have been renamed.
        self.selection.forget_verdicts();
        let selection = &self.selection;
        self.flags.retain(|tgid, _| selection.flags(*tgid).is_some());
    }
}

impl WatchThread {
    /// How often changes were missed. After each time, all services must be requested again.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Waits until the processes that were selected at the start are examined. False if that takes longer than `within`.
    #[must_use]
    pub fn has_examined(&self, within: Duration) -> bool {
        self.progress.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }

    /// Makes the thread end after what it is doing. To be called after the sender was dropped.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether the thread ends within this time.
    #[must_use]
    pub fn has_ended(&self, within: Duration) -> bool {
        // The first message may not have been received.
        let by = Instant::now() + within;
        while self.progress.recv_timeout(by.saturating_duration_since(Instant::now())) == Ok(()) {}
        self.progress.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// Since when a process runs its program.
#[derive(Debug, Clone, Copy)]
enum Since {
    /// It was running before. What the kernel side knows about it stays true.
    Before,
    /// It has just executed it.
    Exec,
}

#[cfg(test)]
mod tests;
