//! The services of processes, as the pipeline knows them. Nothing here reads files or waits.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;
use rustc_hash::{FxHashMap, FxHashSet};

use super::host::Host;
use super::{ENDED_KEPT, ENDED_KEPT_FOR, PROCESSES_KEPT};
use onlooker_engine::model::service::{PendingService, UnknownService};

/// How many names of processes that executed a program are remembered in each of two generations. A name is needed for a
/// second or two.
const NAMES_KEPT: usize = 4096;

/// The kernel's name of a process, padded with NUL.
type Comm = [u8; 16];

/// The services that spans of processes refer to.
#[derive(Debug)]
pub struct Directory {
    host: Arc<Host>,
    processes: FxHashMap<u32, KnownProcess>,
    /// Ended processes, in the order of their ends, with the nanoseconds at which they ended.
    ended: VecDeque<(u64, u32)>,
    /// Their ids, as far as no other process was seen to have one since.
    gone: FxHashSet<u32>,
    names: FxHashMap<u32, Comm>,
    names_before: FxHashMap<u32, Comm>,
}

#[derive(Debug)]
struct KnownProcess {
    service: PendingService,
    /// Whether the request was accepted. It is not if too many requests wait.
    requested: bool,
    ended: bool,
}

impl Directory {
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            processes: FxHashMap::default(),
            ended: VecDeque::new(),
            gone: FxHashSet::default(),
            names: FxHashMap::default(),
            names_before: FxHashMap::default(),
        }
    }

    /// The service of a process. If it was not requested yet, calls `request` with it, which returns whether it accepts
    /// the request.
    pub fn service_of(&mut self, pid: u32, request: impl FnOnce(PendingService) -> bool) -> PendingService {
        match self.processes.get(&pid) {
            Some(KnownProcess { service, requested: true, .. }) => service.clone(),
            _ => self.request(pid, request),
        }
    }

    #[cold]
    fn request(&mut self, pid: u32, request: impl FnOnce(PendingService) -> bool) -> PendingService {
        if self.processes.len() >= PROCESSES_KEPT {
            self.forget();
        }
        let name = self.names.get(&pid).or_else(|| self.names_before.get(&pid));
        let name = name.map_or_else(CompactString::default, |name| {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            CompactString::from_utf8_lossy(&name[..end])
        });
        let (host, ended) = (&self.host, self.gone.contains(&pid));
        let process = self.processes.entry(pid).or_insert_with(|| {
            let service = PendingService::new(pid, name, Arc::clone(host) as Arc<dyn UnknownService>);
            KnownProcess { service, requested: false, ended }
        });
        process.requested = request(process.service.clone());
        process.service.clone()
    }

    /// A process executed a program, so it may be another service. `comm` is the kernel's new name of it.
    pub fn executed(&mut self, pid: u32, comm: Comm) {
        self.processes.remove(&pid);
        self.gone.remove(&pid);
        self.name(pid, comm);
    }

    /// A process forked. An earlier process with the pid of `child` is forgotten.
    pub fn forked(&mut self, parent: u32, child: u32) {
        self.processes.remove(&child);
        self.gone.remove(&child);
        if let Some(comm) = self.names.get(&parent).or_else(|| self.names_before.get(&parent)).copied() {
            self.name(child, comm);
        }
    }

    /// A process ended at `now` (kernel monotonic). It is remembered for a while, because spans may still follow. Its service may also be
    /// requested only then.
    pub fn ended(&mut self, pid: u32, now: u64) {
        if !self.gone.insert(pid) {
            return;
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.ended = true;
        }
        self.ended.push_back((now, pid));
        while let Some(&(at, oldest)) = self.ended.front()
            && (self.ended.len() > ENDED_KEPT || u128::from(now.saturating_sub(at)) > ENDED_KEPT_FOR.as_nanos())
        {
            self.ended.pop_front();
            // Its pid may have been reused.
            if self.gone.remove(&oldest) && self.processes.get(&oldest).is_some_and(|process| process.ended) {
                self.processes.remove(&oldest);
            }
        }
    }

    /// Forgets all services, because changes of processes were missed.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.ended.clear();
        self.gone.clear();
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

    /// Answers with the name in the request.
    fn answer(pending: PendingService) -> bool {
        let (pid, comm) = pending.process();
        let service = services::unexamined(&Host::default(), pid, comm);
        pending.set(Arc::new(service));
        true
    }

    fn name(pending: &PendingService) -> Option<&str> {
        pending.service().map(|service| service.name.as_str())
    }

    #[test]
    fn a_service_is_requested_once_per_program_of_a_process() {
        let mut directory = directory();
        let request_again = |_: PendingService| panic!("it is known");
        directory.executed(7, comm("curl"));
        let curl = directory.service_of(7, answer);
        assert_eq!(name(&curl), Some("curl"));
        directory.service_of(7, request_again);

        directory.executed(7, comm("nginx"));
        assert_eq!(name(&directory.service_of(7, answer)), Some("nginx"));
        assert_eq!(name(&curl), Some("curl"), "earlier spans keep the earlier service");

        // Spans may follow its end.
        directory.ended(7, 0);
        assert_eq!(name(&directory.service_of(7, request_again)), Some("nginx"));

        // The pid is reused.
        directory.executed(8, comm("redis-server"));
        directory.forked(8, 7);
        assert_eq!(name(&directory.service_of(7, answer)), Some("redis-server"));
    }

    #[test]
    fn an_unanswered_service_has_the_kernels_name_of_the_process() {
        let mut directory = directory();
        directory.executed(7, comm("python3"));
        let mut request = None;
        let pending = directory.service_of(7, |pending| request.insert(pending).service().is_none());
        assert_eq!(name(&pending), None);
        assert_eq!(pending.give_up().name, "unknown_service:python3");
        assert_eq!(name(&directory.service_of(7, |_| panic!("it was requested"))), Some("unknown_service:python3"));
        answer(PendingService::new(7, "checkout".into(), Arc::new(Host::default())));
        let late = services::unexamined(&Host::default(), 7, "checkout");
        request.unwrap().set(Arc::new(late));
        assert_eq!(name(&directory.service_of(7, |_| panic!("it was requested"))), Some("checkout"));
        assert_eq!(pending.give_up().name, "checkout");
    }

    #[test]
    fn a_refused_request_is_repeated() {
        let mut directory = directory();
        directory.executed(7, comm("curl"));
        let pending = directory.service_of(7, |_| false);
        directory.service_of(7, answer);
        assert_eq!(name(&pending), Some("curl"), "everything that waits for it is answered");
    }

    #[test]
    fn ended_processes_are_forgotten_after_a_while() {
        let mut directory = directory();
        let seconds = ENDED_KEPT_FOR.as_secs();
        for second in 0..4 * seconds {
            let pid = u32::try_from(second).unwrap();
            directory.executed(pid, comm("curl"));
            if second % 2 == 0 {
                directory.service_of(pid, answer);
            }
            directory.ended(pid, second * 1_000_000_000);
            // A span may follow, also as the first one of a process.
            directory.service_of(pid, answer);
            directory.service_of(pid, |_| panic!("it is known"));
        }
        let kept = usize::try_from(seconds).unwrap() + 1;
        assert_eq!((directory.processes.len(), directory.ended.len(), directory.gone.len()), (kept, kept, kept));
    }

    #[test]
    fn the_number_of_remembered_processes_is_bounded() {
        let mut directory = directory();
        for pid in 0..3 * PROCESSES_KEPT as u32 {
            directory.executed(pid, comm("curl"));
            directory.service_of(pid, answer);
            if pid % 2 == 0 {
                directory.ended(pid, 0);
            }
        }
        assert!(directory.processes.len() <= PROCESSES_KEPT);
        assert!(directory.ended.len() <= ENDED_KEPT && directory.gone.len() <= ENDED_KEPT);
        assert!(directory.names.len() + directory.names_before.len() <= 2 * NAMES_KEPT);
    }
}
