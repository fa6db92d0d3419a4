//! How far processes are selected that only a port selects.
//!
//! A process that holds a listening socket of the port may only pass it on. So it and its forks are `PORT_HOLDER`s, and what
//! its children execute are `CANDIDATE`s: see [`process_flag`]. The kernel programs clear both flags at the first use of a
//! connection that was accepted on the port.

use onlooker_common::selection::process_flag;

use super::Watch;
use crate::discover::process::{ExecImage, Process};
use crate::kernel::BY_PORT;

/// How far the existing children of a process are selected.
pub(super) struct Children {
    standing: u64,
    /// Which execution of a program the parent runs. Not read if `standing` is 0.
    image: Option<ExecImage>,
}

impl Children {
    /// Those of `parent`, which is selected with these flags.
    pub(super) fn of(parent: &Process, flags: u64) -> Self {
        let standing = flags & BY_PORT;
        Self { standing, image: if standing == 0 { None } else { parent.exec_image() } }
    }

    /// How far `child` is selected: see [`Selection::stand`](crate::kernel::Selection::stand).
    pub(super) fn standing(&self, child: &Process) -> u64 {
        match self.standing {
            process_flag::PORT_HOLDER if child.exec_image() != self.image => process_flag::CANDIDATE,
            standing => standing,
        }
    }
}

impl Watch {
    /// How far a process is selected that a selector matches: see [`Selection::stand`](crate::kernel::Selection::stand).
    pub(super) fn standing(&self, process: &Process) -> u64 {
        if self.selectors.ports().next().is_none() || self.selectors.match_without_ports(process) {
            0
        } else if process.is_service_manager() {
            process_flag::CANDIDATE
        } else {
            process_flag::PORT_HOLDER
        }
    }

    /// A selector matches a process that may be selected already, as a child of another.
    pub(super) fn promote(&mut self, tgid: u32) {
        if self.is_by_port(tgid, BY_PORT)
            && let Ok(process) = Process::open(tgid)
        {
            self.selection.stand(tgid, self.standing(&process));
        }
    }

    /// Selects candidates whose parents have proved to accept on the port since: they are part of the parent's work.
    pub(super) fn promote_children(&mut self) {
        if self.selectors.ports().next().is_none() {
            return;
        }
        for tgid in self.selection.selected() {
            if self.is_by_port(tgid, process_flag::CANDIDATE)
                && let Ok(process) = Process::open(tgid)
                && self.selection.flags(process.parent()).is_some_and(|flags| flags & BY_PORT == 0)
            {
                self.selection.stand(tgid, 0);
            }
        }
    }

    /// Whether a process is a candidate only because a service manager started it.
    pub(super) fn is_other_service(&self, tgid: u32) -> bool {
        self.is_by_port(tgid, process_flag::CANDIDATE)
            && Process::open(tgid)
                .and_then(|process| Process::open(process.parent()))
                .is_ok_and(|parent| parent.is_service_manager())
    }

    fn is_by_port(&self, tgid: u32, flags: u64) -> bool {
        self.selection.flags(tgid).is_some_and(|known| known & flags != 0)
    }
}
