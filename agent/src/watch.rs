//! Follows processes: selects those that are asked for as they appear, and tells the kernel what they are.
//!
//! Runs on a thread of its own, because it reads /proc and executables: records must not wait for that.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use onlooker_common::event::lifecycle;
use onlooker_common::process::{Capture, process_flag};

use crate::discover::process::Process;
use crate::discover::runtime::{Runtimes, Work};
use crate::discover::select::Selectors;
use crate::discover::sockets::Listeners;
use crate::enrich::Services;
use crate::kernel::{Control, Kernel};
use crate::metrics::Metrics;

/// A change of a process that the kernel told of.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub change: u32,
    pub tgid: u32,
    pub other: u32,
}

/// What the watch needs of the rest of the agent.
#[derive(Debug)]
pub struct Watch {
    pub kernel: Kernel,
    pub control: Arc<Mutex<Control>>,
    pub selectors: Selectors,
    pub services: Arc<Mutex<Services>>,
    pub capture: Capture,
    pub metrics: Arc<Metrics>,
    pub runtimes: Arc<Runtimes>,
}

impl Watch {
    /// Selects what is there already. Gives how many processes that are.
    pub fn scan(&mut self) -> Result<usize, crate::discover::process::Unreadable> {
        for cgroup in self.selectors.cgroup_ids() {
            let selected = self.control().select_cgroup(cgroup, self.capture);
            if let Err(error) = selected {
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
            self.select(pid);
        }
        Ok(scan.selected.len())
    }

    /// Follows changes until the last sender is gone; gives the kernel side back to be taken down.
    pub fn start(self) -> std::io::Result<(Sender<Change>, JoinHandle<()>)> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || self.run(&receiver))?;
        Ok((sender, thread))
    }

    fn run(mut self, changes: &Receiver<Change>) {
        while let Ok(Change { change, tgid, other }) = changes.recv() {
            match change {
                lifecycle::EXEC => {
                    self.services().forget(tgid);
                    self.judge(tgid);
                }
                lifecycle::MOVED if self.selectors.ask_cgroups() => self.judge(tgid),
                lifecycle::LISTEN => {
                    let port = u16::try_from(other).unwrap_or_default();
                    if self.selectors.select_listening(tgid, port) && !self.is_selected(tgid) {
                        self.select_with_listeners(tgid);
                    }
                }
                lifecycle::CALLS => self.calls(tgid),
                lifecycle::EXIT => self.services().forget(tgid),
                _ => {}
            }
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_selected(&self, tgid: u32) -> bool {
        self.control().flags(tgid).is_some()
    }

    /// A process executed a program, or came into another cgroup.
    fn judge(&mut self, tgid: u32) {
        match self.selectors.select(tgid) {
            Ok(true) => self.select_with_listeners(tgid),
            // The child of a selected process stays selected whatever it executes, as something else than it was.
            Ok(false) if self.is_selected(tgid) => self.select(tgid),
            Ok(false) => {}
            Err(error) => {
                self.metrics.processes_unreadable.add(1);
                tracing::debug!(pid = tgid, %error, "not judged");
            }
        }
    }

    fn select_with_listeners(&mut self, tgid: u32) {
        for (namespace, port) in Listeners::default().ports([tgid]) {
            self.listening(namespace, port);
        }
        self.select(tgid);
    }

    fn listening(&self, namespace: u64, port: u16) {
        // The kernel numbers namespaces with 32 bits; the file system shows the same number.
        let Ok(namespace) = u32::try_from(namespace) else { return };
        if let Err(error) = self.control().listening(namespace, port) {
            self.metrics.listeners_not_told.add(1);
            tracing::warn!(port, %error, "cannot tell the kernel of a listening port");
        }
    }

    fn select(&mut self, tgid: u32) {
        let Ok(process) = Process::open(tgid) else { return };
        let flags = match self.runtimes.of(&process).work {
            Work::ThreadUntilProvenOtherwise => 0,
            Work::EventLoop => process_flag::LOOP,
            Work::EventLoopNoQueue => process_flag::LOOP | process_flag::NO_QUEUE,
            Work::Scheduler => process_flag::LOOP | process_flag::SCHEDULER,
        };
        if let Err(error) = self.control().select(tgid, flags, self.capture) {
            self.metrics.processes_not_selected.add(1);
            tracing::warn!(pid = tgid, %error, "cannot select the process");
            return;
        }
        tracing::debug!(pid = tgid, comm = process.comm(), flags, "selected");
        self.services().prefetch(tgid);
    }

    /// A selected process makes calls: if it waits for events, its turns matter from now on.
    fn calls(&mut self, tgid: u32) {
        if Process::open(tgid).is_ok_and(|process| process.has_event_poll()) {
            self.kernel.attach_boundaries();
        }
    }
}
