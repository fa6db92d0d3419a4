//! Who the processes are, as far as the pipeline knows: nothing here reads or waits.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;
use rustc_hash::FxHashMap;

use super::host::Host;
use super::{ENDED_KEPT, PROCESSES_KEPT};
use onlooker_engine::model::service::{PendingService, UnknownService};

/// Names remembered of processes that executed something, and as many before these: more than start within the second
/// or two in which one is asked for.
const NAMES_KEPT: usize = 4096;

/// The kernel's name of a process.
type Comm = [u8; 16];

/// Processes as their spans hold them.
#[derive(Debug)]
pub struct Directory {
    host: Arc<Host>,
    processes: FxHashMap<u32, Entry>,
    /// In the order of their ends.
    ended: VecDeque<u32>,
    names: FxHashMap<u32, Comm>,
    names_before: FxHashMap<u32, Comm>,
}

#[derive(Debug)]
struct Entry {
    whose: PendingService,
    /// Whether the question was taken: one who has too many takes none.
    asked: bool,
    ended: bool,
}

impl Directory {
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            processes: FxHashMap::default(),
            ended: VecDeque::new(),
            names: FxHashMap::default(),
            names_before: FxHashMap::default(),
        }
    }

    /// PendingService the spans of the process are. For one that is not known yet, `ask` is given what is to be answered; it says
    /// whether it took it.
    pub fn whose(&mut self, pid: u32, ask: impl FnOnce(PendingService) -> bool) -> PendingService {
        match self.processes.get(&pid) {
            Some(Entry { whose, asked: true, .. }) => whose.clone(),
            _ => self.ask(pid, ask),
        }
    }

    #[cold]
    fn ask(&mut self, pid: u32, ask: impl FnOnce(PendingService) -> bool) -> PendingService {
        if self.processes.len() >= PROCESSES_KEPT {
            self.forget();
        }
        let name = self.names.get(&pid).or_else(|| self.names_before.get(&pid));
        let name = name.map_or_else(CompactString::default, |name| {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            CompactString::from_utf8_lossy(&name[..end])
        });
        let host = &self.host;
        let entry = self.processes.entry(pid).or_insert_with(|| {
            let whose = PendingService::new(pid, name, Arc::clone(host) as Arc<dyn UnknownService>);
            Entry { whose, asked: false, ended: false }
        });
        entry.asked = ask(entry.whose.clone());
        entry.whose.clone()
    }

    /// A process executed a program, by which the kernel calls it `comm`: who it was before, it is no more.
    pub fn executed(&mut self, pid: u32, comm: Comm) {
        self.processes.remove(&pid);
        self.name(pid, comm);
    }

    /// A process forked: `child` is nobody who was called so before.
    pub fn forked(&mut self, parent: u32, child: u32) {
        self.processes.remove(&child);
        if let Some(comm) = self.names.get(&parent).or_else(|| self.names_before.get(&parent)).copied() {
            self.name(child, comm);
        }
    }

    /// A process ended. Its spans may still come: it is remembered until many others have ended.
    pub fn ended(&mut self, pid: u32) {
        let Some(entry) = self.processes.get_mut(&pid).filter(|entry| !entry.ended) else { return };
        entry.ended = true;
        self.ended.push_back(pid);
        if self.ended.len() > ENDED_KEPT
            && let Some(oldest) = self.ended.pop_front()
            // Another may have its number by now.
            && self.processes.get(&oldest).is_some_and(|entry| entry.ended)
        {
            self.processes.remove(&oldest);
        }
    }

    /// Asks anew of everybody: what became of processes was missed.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.ended.clear();
    }

    fn name(&mut self, pid: u32, comm: Comm) {
        if self.names.len() >= NAMES_KEPT {
            self.names_before = std::mem::take(&mut self.names);
        }
        self.names.insert(pid, comm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::services;

    fn directory() -> Directory {
        Directory::new(Arc::default())
    }

    fn comm(name: &str) -> Comm {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        comm
    }

    /// Answers by the name that the question brings.
    fn answer(whose: PendingService) -> bool {
        let (pid, comm) = whose.process();
        let service = services::unseen(&Host::default(), pid, comm);
        whose.set(Arc::new(service));
        true
    }

    fn name(whose: &PendingService) -> Option<&str> {
        whose.service().map(|service| service.name.as_str())
    }

    #[test]
    fn of_a_process_is_asked_once_and_anew_when_it_is_another() {
        let mut directory = directory();
        let asked_again = |_: PendingService| panic!("it is known");
        directory.executed(7, comm("curl"));
        let curl = directory.whose(7, answer);
        assert_eq!(name(&curl), Some("curl"));
        directory.whose(7, asked_again);

        directory.executed(7, comm("nginx"));
        assert_eq!(name(&directory.whose(7, answer)), Some("nginx"));
        assert_eq!(name(&curl), Some("curl"), "what it did before is not the other program's");

        // Its spans come after its end, too.
        directory.ended(7);
        assert_eq!(name(&directory.whose(7, asked_again)), Some("nginx"));

        // Another process is given the number.
        directory.executed(8, comm("redis-server"));
        directory.forked(8, 7);
        assert_eq!(name(&directory.whose(7, answer)), Some("redis-server"));
    }

    #[test]
    fn who_is_not_known_in_time_goes_by_what_the_kernel_calls_it() {
        let mut directory = directory();
        directory.executed(7, comm("python3"));
        let mut question = None;
        let whose = directory.whose(7, |asked| question.insert(asked).service().is_none());
        assert_eq!(name(&whose), None);
        assert_eq!(whose.give_up().name, "unknown_service:python3");
        assert_eq!(name(&directory.whose(7, |_| panic!("it was asked"))), Some("unknown_service:python3"));
        answer(PendingService::new(7, "checkout".into(), Arc::new(Host::default())));
        let late = services::unseen(&Host::default(), 7, "checkout");
        question.unwrap().set(Arc::new(late));
        assert_eq!(name(&directory.whose(7, |_| panic!("it was asked"))), Some("checkout"));
        assert_eq!(whose.give_up().name, "checkout");
    }

    #[test]
    fn a_question_that_nobody_took_is_asked_again() {
        let mut directory = directory();
        directory.executed(7, comm("curl"));
        let whose = directory.whose(7, |_| false);
        directory.whose(7, answer);
        assert_eq!(name(&whose), Some("curl"), "all who wait for it are answered");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut directory = directory();
        for pid in 0..3 * PROCESSES_KEPT as u32 {
            directory.executed(pid, comm("curl"));
            directory.whose(pid, answer);
            if pid % 2 == 0 {
                directory.ended(pid);
            }
        }
        assert!(directory.processes.len() <= PROCESSES_KEPT);
        assert!(directory.ended.len() <= ENDED_KEPT);
        assert!(directory.names.len() + directory.names_before.len() <= 2 * NAMES_KEPT);
    }
}
