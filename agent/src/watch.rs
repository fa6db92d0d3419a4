//! Follows processes: selects those that are asked for as they appear, tells the kernel what they are, and the pipeline
//! whose the spans are.
//!
//! Runs on a thread of its own, because it reads /proc and executables: records must not wait for that. On a mount that
//! hangs it waits for ever. Then nobody new is selected but by the kernel, the spans of processes that were not looked
//! at go by the kernel's name of them, and the agent ends without it.

mod callers;
mod inbox;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use onlooker_common::event::lifecycle;
use onlooker_common::loss::Loss;
use onlooker_common::process::{Capture, process_flag};
use rustc_hash::FxHashMap;

use self::callers::{Callers, Seen};
use self::inbox::{Incoming, Told};
use crate::discover::process::{Process, Unreadable};
use crate::discover::runtime::{Runtimes, Work};
use crate::discover::select::Selectors;
use crate::discover::sockets::Listeners;
use crate::enrich::{Host, Services};
use crate::kernel::{Kernel, LoadError, Losses, Selection};
use crate::metrics::Metrics;

pub use self::inbox::{Change, Inbox};

/// How often it is looked whether changes were missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after one look through all processes the next may come: where changes are missed, the machine is busy.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked for what is selected and is no more: nearly always it is told of.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Follows processes, once it is started.
#[derive(Debug)]
pub struct Watch {
    kernel: Kernel,
    selection: Selection,
    losses: Losses,
    selectors: Selectors,
    services: Services,
    runtimes: Arc<Runtimes>,
    metrics: Arc<Metrics>,
    /// What was judged of selected processes, if anything: their children are the same.
    judged: FxHashMap<u32, u64>,
    callers: Callers,
    turns_watched: bool,
    /// Changes that the ring had no room for, as far as they were made up for.
    losses_seen: u64,
    stop: Arc<AtomicBool>,
    missed: Arc<AtomicU64>,
}

/// The thread at work.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<AtomicBool>,
    missed: Arc<AtomicU64>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl Watch {
    pub fn new(
        mut kernel: Kernel,
        capture: Capture,
        selectors: Selectors,
        host: Arc<Host>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LoadError> {
        let runtimes = Arc::new(Runtimes::default());
        Ok(Self {
            selection: kernel.selection(capture)?,
            losses: kernel.losses()?,
            kernel,
            selectors,
            services: Services::new(host, Arc::clone(&runtimes)),
            runtimes,
            metrics,
            judged: FxHashMap::default(),
            callers: Callers::default(),
            turns_watched: false,
            losses_seen: 0,
            stop: Arc::default(),
            missed: Arc::default(),
        })
    }

    /// Selects what is there already. Gives how many processes that are.
    pub fn scan(&mut self) -> Result<usize, Unreadable> {
        for cgroup in self.selectors.cgroup_ids() {
            if let Err(error) = self.selection.select_cgroup(cgroup) {
                tracing::warn!(cgroup, %error, "the kernel cannot watch the cgroup: what starts in it is selected a moment later");
            }
        }
        let scan = self.selectors.scan()?;
        self.metrics.processes_unreadable.add(scan.unreadable);
        let mut listeners = Listeners::default();
        for (namespace, port) in listeners.ports(scan.selected.iter().copied()) {
            self.listening(namespace, port);
        }
        for &pid in &scan.selected {
            self.select(pid, Since::Before);
        }
        Ok(scan.selected.len())
    }

    /// Follows changes and answers questions until the sender is gone; takes the kernel side down then.
    pub fn start(self) -> std::io::Result<(Inbox, Watching)> {
        let (inbox, incoming) = inbox::open(Arc::clone(&self.metrics));
        let (running, ended) = channel();
        let watching = Watching { stop: Arc::clone(&self.stop), missed: Arc::clone(&self.missed), ended };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            self.run(&incoming);
            drop(running);
        })?;
        Ok((inbox, watching))
    }

    fn run(mut self, incoming: &Incoming) {
        let start = Instant::now();
        let (mut next_look, mut next_scan, mut next_sweep) = (start, start, start + SWEEP_INTERVAL);
        let mut overflowed = false;
        while !self.stop.load(Relaxed) {
            let due = self.callers.next_look().map_or(next_look, |caller| caller.min(next_look));
            match incoming.told.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Told::Asked(whose)) => self.services.answer(&whose),
                Ok(Told::Changed(change)) => self.changed(change),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if self.callers.next_look().is_some_and(|due| due <= now) || self.turns_watched && now >= next_look {
                self.look_at_callers(now);
            }
            if now < next_look {
                continue;
            }
            next_look = now + LOOK_INTERVAL;
            overflowed |= incoming.overflowed();
            let lost = self.losses.count(Loss::RingFullProcess);
            if now >= next_scan && (overflowed || lost > self.losses_seen) {
                next_scan = now + SCAN_INTERVAL;
                overflowed = false;
                self.losses_seen = lost;
                self.make_up_for_missed();
            }
            if now >= next_sweep {
                next_sweep = now + SWEEP_INTERVAL;
                self.sweep();
            }
        }
    }

    fn changed(&mut self, Change { change, tgid, other }: Change) {
        match change {
            lifecycle::EXEC => {
                self.forget(tgid);
                self.services.executed(tgid);
                self.judge(tgid, Since::Exec);
                self.calls_already(tgid);
            }
            lifecycle::MOVED if self.selectors.ask_cgroups() => self.judge(tgid, Since::Before),
            lifecycle::LISTEN => {
                let port = u16::try_from(other).unwrap_or_default();
                if self.selectors.select_listening(tgid, port) && self.selection.flags(tgid).is_none() {
                    self.select_with_listeners(tgid, Since::Before);
                }
            }
            lifecycle::FORK => {
                self.services.forked(tgid, other);
                // It may have forked before it was judged.
                if let Some(&flags) = self.judged.get(&tgid)
                    && self.selection.flags(other).is_some()
                {
                    self.selection.add(other, flags);
                    self.judged.insert(other, flags);
                }
                self.calls_already(other);
            }
            lifecycle::CALLS => self.callers.add(tgid, Instant::now()),
            lifecycle::EXIT => {
                self.forget(tgid);
                self.services.ended(tgid);
            }
            _ => {}
        }
    }

    /// What is known of the process is not true of it any more.
    fn forget(&mut self, tgid: u32) {
        self.judged.remove(&tgid);
        self.callers.remove(tgid);
    }

    /// A process that executed a program or came into another cgroup is judged by the selectors.
    fn judge(&mut self, tgid: u32, since: Since) {
        match self.selectors.select(tgid) {
            Ok(true) => self.select_with_listeners(tgid, since),
            // The child of a selected process stays selected whatever it executes, as something else than it was.
            Ok(false) if self.selection.flags(tgid).is_some() => self.select(tgid, since),
            Ok(false) => {}
            Err(error) => {
                self.metrics.processes_unreadable.add(1);
                tracing::debug!(pid = tgid, %error, "not judged");
            }
        }
    }

    fn select_with_listeners(&mut self, tgid: u32, since: Since) {
        for (namespace, port) in Listeners::default().ports([tgid]) {
            self.listening(namespace, port);
        }
        self.select(tgid, since);
    }

    fn listening(&mut self, namespace: u64, port: u16) {
        // The kernel numbers namespaces with 32 bits; the file system shows the same number.
        let Ok(namespace) = u32::try_from(namespace) else { return };
        if let Err(error) = self.selection.listening(namespace, port) {
            self.metrics.listeners_not_told.add(1);
            tracing::warn!(port, %error, "cannot tell the kernel of a listening port");
        }
    }

    fn select(&mut self, tgid: u32, since: Since) {
        let Ok(process) = Process::open(tgid) else { return };
        // The command of `exec` waits to be executed: what runs in it is the agent's program, and says nothing.
        let waits = process.is_my_fork();
        let flags = if waits { 0 } else { self.flags(&process) };
        let selected = match since {
            Since::Before => self.selection.select(tgid, flags),
            Since::Exec => self.selection.select_anew(tgid, flags),
        };
        if let Err(error) = selected {
            self.metrics.processes_not_selected.add(1);
            tracing::warn!(pid = tgid, %error, "cannot select the process");
            return;
        }
        if !process.is_alive() {
            // Its end was before, and came to nothing: the next with its number must not be taken for it.
            self.selection.deselect(tgid);
            return;
        }
        tracing::debug!(pid = tgid, comm = process.comm(), flags, "selected");
        if flags != 0 {
            self.judged.insert(tgid, flags);
        }
        if !waits {
            self.services.look_at(&process);
        }
    }

    /// What its program says of how a process works.
    fn flags(&self, process: &Process) -> u64 {
        match self.runtimes.of(process).work {
            Work::ThreadUntilProvenOtherwise => 0,
            Work::EventLoop => process_flag::LOOP,
            Work::EventLoopNoQueue => process_flag::LOOP | process_flag::NO_QUEUE,
            Work::Scheduler => process_flag::LOOP | process_flag::SCHEDULER,
        }
    }

    /// A process that the kernel has seen to make calls before this was known of it.
    fn calls_already(&mut self, tgid: u32) {
        if self.selection.flags(tgid).is_some_and(|flags| flags & process_flag::CALLS != 0) {
            self.callers.add(tgid, Instant::now());
        }
    }

    /// Looks at processes that make calls: where one waits for events, its turns matter; and what runs in it may be
    /// more than when it began.
    fn look_at_callers(&mut self, now: Instant) {
        let mut callers = std::mem::take(&mut self.callers);
        callers.look(now, |tgid| {
            let process = Process::open(tgid).ok()?;
            let flags = self.selection.flags(tgid)? | self.flags(&process);
            self.selection.add(tgid, flags);
            Some(Seen { flags, has_event_poll: process.has_event_poll() })
        });
        self.callers = callers;
        let matter = self.callers.turns_matter(now, self.turns_watched);
        if matter != self.turns_watched {
            self.turns_watched = matter;
            tracing::debug!(watched = matter, "turns of event loops");
            if matter { self.kernel.attach_boundaries() } else { self.kernel.detach_boundaries() }
        }
    }

    /// Changes were missed: all processes are looked through, and nobody is who he was.
    fn make_up_for_missed(&mut self) {
        tracing::debug!("changes of processes were missed");
        self.services.forget();
        self.missed.fetch_add(1, Relaxed);
        self.sweep();
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot look through the processes");
        }
        for tgid in self.selection.selected() {
            self.calls_already(tgid);
        }
    }

    /// Deselects who is no more.
    fn sweep(&mut self) {
        for tgid in self.selection.selected() {
            if !Process::open(tgid).is_ok_and(|process| process.is_alive()) {
                self.selection.deselect(tgid);
            }
        }
        let selection = &self.selection;
        self.judged.retain(|tgid, _| selection.flags(*tgid).is_some());
    }
}

impl Watching {
    /// How often changes were missed so far, and everybody is to be asked for anew.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Ends the thread, at the latest when it has done what it is at. To be called when the sender is gone.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether it has ended, within this time.
    #[must_use]
    pub fn has_ended(&self, within: Duration) -> bool {
        self.ended.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Since when a process is what is judged.
#[derive(Debug, Clone, Copy)]
enum Since {
    /// For longer: what the kernel has seen of it is true.
    Before,
    /// It has just executed its program.
    Exec,
}

#[cfg(test)]
mod tests;
