//! Follows processes: selects those that are asked for as they appear, tells the kernel what they are, and the pipeline
//! whose the spans are.
//!
//! Runs on a thread of its own, because it reads /proc and executables: records must not wait for that. On a mount that
//! hangs it waits for ever. Then nobody new is selected but by the kernel, the spans of processes that were not looked
//! at go by the kernel's name of them, and the agent delivers its spans and takes the kernel side down without it.

mod callers;
mod inbox;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use onlooker_common::losses::Loss;
use onlooker_common::process::lifecycle;
use onlooker_common::selection::process_flag;
use rustc_hash::FxHashMap;

use self::callers::{Callers, Seen};
use self::inbox::{Incoming, Told};
use crate::discover::process::{Process, Unreadable};
use crate::discover::select::Selectors;
use crate::discover::sockets::ListeningSockets;
use crate::enrich::{Host, Services};
use crate::kernel::{Kernel, Losses, Selection};
use crate::runtimes::{Recogniser, Work};
use onlooker_engine::model::counters::Counters;

pub use self::inbox::{Change, Inbox};

/// How often it is looked whether changes were missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after one look through all processes the next may come: where changes are missed, the machine is busy.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked for what is selected and is no more: nearly always it is told of.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The kernel side, as long as it is up. Locked for no longer than it takes to attach something.
pub type SharedKernel = Arc<Mutex<Option<Kernel>>>;

/// Follows processes, once it is started.
#[derive(Debug)]
pub struct Watch {
    kernel: SharedKernel,
    selection: Selection,
    losses: Losses,
    selectors: Selectors,
    services: Services,
    recogniser: Arc<Recogniser>,
    counters: Arc<Counters>,
    /// Processes that were selected and are still to be looked at for their services.
    unnamed: Vec<u32>,
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
    /// Tells when those were looked at that were selected at the start, and hangs up when the thread has ended.
    tells: Receiver<()>,
}

impl Watch {
    #[must_use]
    pub fn new(
        kernel: SharedKernel,
        selection: Selection,
        losses: Losses,
        selectors: Selectors,
        host: Arc<Host>,
        counters: Arc<Counters>,
    ) -> Self {
        let recogniser = Arc::new(Recogniser::default());
        Self {
            kernel,
            selection,
            losses,
            selectors,
            services: Services::new(host, Arc::clone(&recogniser)),
            recogniser,
            counters,
            unnamed: Vec::new(),
            judged: FxHashMap::default(),
            callers: Callers::default(),
            turns_watched: false,
            losses_seen: 0,
            stop: Arc::default(),
            missed: Arc::default(),
        }
    }

    /// Selects what is there already. Gives how many processes that are. Which services they are, the thread finds out.
    pub fn scan(&mut self) -> Result<usize, Unreadable> {
        for cgroup in self.selectors.cgroup_ids() {
            if let Err(error) = self.selection.select_cgroup(cgroup) {
                tracing::warn!(cgroup, %error, "the kernel cannot watch the cgroup: what starts in it is selected a moment later");
            }
        }
        let scan = self.selectors.scan()?;
        self.counters.processes_unreadable.add(scan.unreadable);
        let mut listeners = ListeningSockets::default();
        for pid in scan.selected {
            let selected = self.select_with_children(pid, Since::Before, &mut listeners);
            self.unnamed.extend(selected.iter().map(Process::pid));
        }
        Ok(self.selection.selected().len())
    }

    /// Follows changes and answers questions until the sender is gone.
    pub fn start(self) -> std::io::Result<(Inbox, Watching)> {
        let (inbox, incoming) = inbox::open(Arc::clone(&self.counters));
        let (tell, tells) = channel();
        let watching = Watching { stop: Arc::clone(&self.stop), missed: Arc::clone(&self.missed), tells };
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || self.run(&incoming, &tell))?;
        Ok((inbox, watching))
    }

    fn run(mut self, incoming: &Incoming, tell: &Sender<()>) {
        self.look_at_unnamed();
        // Nobody may be left to hear.
        let _ = tell.send(());
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
            lifecycle::MOVED if self.selectors.match_cgroups() => self.judge(tgid, Since::Before),
            lifecycle::LISTEN => {
                let port = u16::try_from(other).unwrap_or_default();
                if self.selection.flags(tgid).is_some() {
                    // The kernel may have seen it before it was selected, and the ports may have been read earlier still.
                    let namespace = Process::open(tgid).and_then(|process| process.network_namespace());
                    namespace.into_iter().for_each(|namespace| self.listening(namespace, port));
                } else if self.selectors.select_listening(tgid, port) {
                    self.select_and_look(tgid, Since::Before);
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
                self.selection.ended(tgid);
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
            Ok(true) => self.select_and_look(tgid, since),
            // The child of a selected process stays selected whatever it executes, as something else than it was.
            Ok(false) if self.selection.flags(tgid).is_some() => self.select_and_look(tgid, since),
            Ok(false) => {}
            Err(error) => {
                self.counters.processes_unreadable.add(1);
                tracing::debug!(pid = tgid, %error, "not judged");
            }
        }
    }

    fn listening(&mut self, namespace: u64, port: u16) {
        // The kernel numbers namespaces with 32 bits; the file system shows the same number.
        let Ok(namespace) = u32::try_from(namespace) else { return };
        if let Err(error) = self.selection.listening(namespace, port) {
            self.counters.listeners_not_told.add(1);
            tracing::warn!(port, %error, "cannot tell the kernel of a listening port");
        }
    }

    fn select_and_look(&mut self, tgid: u32, since: Since) {
        for process in self.select_with_children(tgid, since, &mut ListeningSockets::default()) {
            self.services.look_at(&process);
        }
    }

    /// Selects a process, and what it has forked already, and so on: what it forks from then on, the kernel selects. Gives
    /// those that are there and have a service.
    fn select_with_children(&mut self, tgid: u32, since: Since, listeners: &mut ListeningSockets) -> Vec<Process> {
        let was_selected = self.selection.flags(tgid).is_some();
        let mut selected = Vec::from_iter(self.select(tgid, since, listeners));
        let mut looked_at = 0;
        while !was_selected && let Some(parent) = selected.get(looked_at) {
            looked_at += 1;
            for child in parent.children() {
                if child != std::process::id() && self.selection.flags(child).is_none() {
                    selected.extend(self.select(child, Since::Before, listeners));
                }
            }
        }
        selected
    }

    /// Selects a process. Gives it if it is there and has a service.
    fn select(&mut self, tgid: u32, since: Since, listeners: &mut ListeningSockets) -> Option<Process> {
        let process = Process::open(tgid).ok()?;
        for (namespace, port) in listeners.new_ports(&process) {
            self.listening(namespace, port);
        }
        // The command of `exec` waits to be executed: what runs in it is the agent's program, and says nothing.
        let waits = process.is_my_fork();
        let flags = if waits { 0 } else { self.flags(&process) };
        let selected = match since {
            Since::Before => self.selection.select(tgid, flags),
            Since::Exec => self.selection.select_anew(tgid, flags),
        };
        if let Err(error) = selected {
            self.counters.processes_not_selected.add(1);
            tracing::warn!(pid = tgid, %error, "cannot select the process");
            return None;
        }
        if !process.is_alive() {
            // Its end was before, and came to nothing: the next with its number must not be taken for it.
            self.selection.deselect(tgid);
            return None;
        }
        tracing::debug!(pid = tgid, comm = process.comm(), flags, "selected");
        if flags != 0 {
            self.judged.insert(tgid, flags);
        }
        (!waits).then_some(process)
    }

    fn look_at_unnamed(&mut self) {
        for tgid in std::mem::take(&mut self.unnamed) {
            if let Ok(process) = Process::open(tgid) {
                self.services.look_at(&process);
            }
        }
    }

    /// What its program says of how a process works.
    fn flags(&self, process: &Process) -> u64 {
        match self.recogniser.recognise(process).work {
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
            if let Some(kernel) = self.kernel.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                if matter { kernel.attach_boundaries() } else { kernel.detach_boundaries() }
            }
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
        self.look_at_unnamed();
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
        self.selection.sweep();
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

    /// Waits until those were looked at that were selected at the start, for this time. Gives whether they were.
    #[must_use]
    pub fn has_looked(&self, within: Duration) -> bool {
        self.tells.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }

    /// Ends the thread, at the latest when it has done what it is at. To be called when the sender is gone.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether it has ended, within this time.
    #[must_use]
    pub fn has_ended(&self, within: Duration) -> bool {
        // What it told before may not have been heard.
        let by = Instant::now() + within;
        while self.tells.recv_timeout(by.saturating_duration_since(Instant::now())) == Ok(()) {}
        self.tells.try_recv() == Err(TryRecvError::Disconnected)
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
