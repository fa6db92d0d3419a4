//! Selects and deselects processes one by one.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use onlooker_common::process::Execution;
use onlooker_common::selection::process_flag;

use super::Watch;
use super::by_port::Children;
use crate::discover::process::Process;
use crate::discover::select::{Decision, Judgement};
use crate::discover::sockets::ListeningSockets;
use crate::kernel::BY_PORT;
use crate::runtimes::Work;
use crate::undecided::Verdict;

/// Since when a process runs its program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    /// It was running before. What the kernel side knows about it stays true.
    Before,
    /// It has just executed it.
    Exec,
}

impl Watch {
    /// Selects the process that is going to execute a command. No other process matches the selectors yet, so a scan would
    /// find nothing.
    pub fn select_command(&mut self, pid: u32, mut listeners: ListeningSockets) {
        self.report_what_selectors_need();
        self.select(pid, Since::Before, &mut listeners);
    }

    /// Decides whether a process is selected that executed a program.
    pub(super) fn decide(&mut self, execution: &Execution) -> Verdict {
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

    /// Applies the selectors to a process that executed a program or moved to another cgroup.
    pub(super) fn judge(&mut self, tgid: u32, since: Since) {
        match self.selectors.select(tgid) {
            Ok(Decision::Included(_)) => {
                self.promote(tgid);
                self.select_and_examine(tgid, since);
            }
            Ok(Decision::Excluded) => self.exclude(tgid),
            // A service manager passes its sockets on, and this program has none of the ports.
            Ok(Decision::Unmatched) if self.is_other_service(tgid) => self.deselect(tgid),
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
    pub(super) fn exclude(&mut self, tgid: u32) {
        if self.selection.flags(tgid).is_some() {
            tracing::debug!(pid = tgid, "excluded");
            self.deselect(tgid);
        }
    }

    /// Ends the recording of a process that goes on.
    fn deselect(&mut self, tgid: u32) {
        self.forget(tgid);
        self.selection.deselect(tgid);
        self.units.ended(tgid);
        self.libraries.ended(tgid);
        if let Some(jvms) = &self.jvms {
            jvms.ended(tgid);
        }
        if let Some(deselected) = &self.deselected {
            // This fails only when the agent ends.
            let _ = deselected.send(tgid);
        }
    }

    pub(super) fn listening(&mut self, namespace: u64, port: u16) {
        // The kernel numbers namespaces with 32 bits. The inode number is the same.
        let Ok(namespace) = u32::try_from(namespace) else { return };
        if let Err(error) = self.selection.listening(namespace, port) {
            self.counters.listeners_not_registered.add(1);
            tracing::warn!(port, %error, "cannot store a listening port in the kernel map");
        }
    }

    pub(super) fn select_and_examine(&mut self, tgid: u32, since: Since) {
        for process in self.select_with_children(tgid, since, &mut ListeningSockets::default()) {
            self.services.examine(&process);
        }
    }

    /// Selects a process and its descendants so far. The kernel selects later ones. Returns those that run a program of
    /// their own.
    pub(super) fn select_with_children(
        &mut self,
        tgid: u32,
        since: Since,
        listeners: &mut ListeningSockets,
    ) -> Vec<Process> {
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
    pub(super) fn select(&mut self, tgid: u32, since: Since, listeners: &mut ListeningSockets) -> Option<Process> {
        let process = Process::open(tgid).ok()?;
        let known = self.selection.flags(tgid).map(|known| known & BY_PORT);
        let standing = known.unwrap_or_else(|| self.standing(&process));
        self.select_as(process, since, standing, listeners)
    }

    /// Selects a process. `standing`: see [`Selection::stand`](crate::kernel::Selection::stand).
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
        let flags = if is_my_fork { 0 } else { self.flags_of(&process, true, false) };
        let injects = is_my_fork || self.injects(&process);
        let given = flags | standing | if injects { 0 } else { process_flag::NOT_INJECTED };
        let selected = match since {
            Since::Before => self.selection.select(tgid, given),
            Since::Exec => self.selection.select_anew(tgid, given),
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
        if injects && let Some(injection) = &mut self.injection {
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

    /// The flags that follow from the program of a process. `threads_are_known`: no virtual thread was taken for the thread
    /// that ran it. `makes_calls`: the process has loaded what it calls with.
    pub(super) fn flags_of(&self, process: &Process, threads_are_known: bool, makes_calls: bool) -> u64 {
        let program = self.recogniser.recognise(process);
        let proxy = if program.runtime.is_proxy { process_flag::PROXY } else { 0 };
        let stays = program.runtime.enrolment.stays(process, makes_calls);
        let stays = if stays { process_flag::STAYS_ENROLLED } else { 0 };
        let work = match program.work {
            Work::ThreadUntilProvenOtherwise => 0,
            Work::EventLoop => process_flag::LOOP,
            Work::EventLoopNoQueue => process_flag::LOOP | process_flag::NO_QUEUE,
            Work::VirtualThreads if threads_are_known => process_flag::SCHEDULER,
            Work::Scheduler | Work::VirtualThreads => process_flag::LOOP | process_flag::SCHEDULER,
        };
        work | proxy | stays
    }
}
