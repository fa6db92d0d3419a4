//! Looks at all processes: at the start, when changes were missed, and when the rules change.

use std::sync::atomic::Ordering::Relaxed;

use onlooker_common::selection::interest;

use super::Watch;
use super::selecting::Since;
use crate::discover::process::{self, Process, Unreadable};
use crate::discover::select::{Decision, Selectors};
use crate::discover::sockets::ListeningSockets;

impl Watch {
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

    /// Makes the kernel side report what the selectors need to know of processes that are not selected.
    pub(super) fn report_what_selectors_need(&mut self) {
        self.selection.forget_verdicts();
        let mut interest = self.selectors.interest();
        for name in self.selectors.names() {
            if let Err(error) = self.selection.report_name(name.beginning.as_bytes(), name.whole) {
                tracing::warn!(name = name.beginning, %error, "cannot filter programs by name; all are examined");
                interest |= interest::EXECS;
            }
        }
        if self.injection.is_some() && self.selectors.limit_injection() {
            interest |= interest::INJECTION;
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

    pub(super) fn examine_unexamined(&mut self) {
        for tgid in std::mem::take(&mut self.unexamined) {
            if let Ok(process) = Process::open(tgid) {
                self.services.examine(&process);
            }
        }
    }

    /// Scans all processes, because changes were missed. Nothing that was known about processes is certain any more.
    pub(super) fn rescan(&mut self) {
        tracing::debug!("changes of processes were missed; scanning all processes");
        self.services.forget();
        self.missed.fetch_add(1, Relaxed);
        self.sweep();
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot scan the processes");
        }
        self.examine_unexamined();
        for tgid in self.selection.selected() {
            self.judge_injection(tgid);
            self.add_if_caller(tgid);
        }
    }

    /// Applies other rules. A process that the former rules covered and these do not is deselected. All others go on being recorded.
    pub(super) fn apply(&mut self, rules: Selectors) {
        let rules = rules.with_memory_of(&self.selectors);
        self.services.apply(rules.clone());
        let before = std::mem::replace(&mut self.selectors, rules);
        if self.injection.is_none() && self.selectors.can_inject() && !before.can_inject() {
            tracing::warn!("requests get a trace context when Onlooker is started again: it was started without");
        }
        if let Err(error) = self.scan() {
            tracing::warn!(%error, "cannot scan the processes");
        }
        for tgid in self.selection.selected() {
            self.judge_injection(tgid);
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

    /// Deselects processes that have ended, and forgets those that the kernel side has deselected without a report of their end.
    pub(super) fn sweep(&mut self) {
        for tgid in process::ended(self.selection.selected()) {
            self.selection.deselect(tgid);
        }
        self.selection.sweep();
        self.units.sweep();
        self.libraries.sweep();
        if let Some(jvms) = &self.jvms {
            jvms.sweep();
        }
        // Files may have been renamed.
        self.selection.forget_verdicts();
        let selection = &self.selection;
        self.flags.retain(|tgid, _| selection.flags(*tgid).is_some());
    }
}
