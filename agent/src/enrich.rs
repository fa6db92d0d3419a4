//! Who a span belongs to: the service instance a process is, as an OpenTelemetry Resource.
//!
//! A process is looked at once, when it executes a program or when it is first asked for, and remembered until it has
//! ended. The processes of one server (a master and its workers) are one instance: that of the topmost process above
//! them that runs the same program.

mod container;
mod environment;
mod host;
mod instance;
mod resource;
mod service_name;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use rustc_hash::FxHashMap;

use self::host::Host;
use self::instance::Instance;
use crate::discover::process::{Identity, Process};
use crate::discover::runtime::Runtimes;

/// Processes remembered. More have never been traced at a time; what is forgotten is read again.
const PROCESSES_KEPT: usize = 16_384;
/// Ended processes remembered, for spans that come after their end: those of a busy second.
const ENDED_KEPT: usize = 4096;
/// How long a process is taken to be the one that was looked at, unless an event says otherwise. Guards against an
/// event that was lost; costs one small read of /proc.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A service instance: a process, or the processes of one server (its workers).
#[derive(Debug)]
pub struct Service {
    /// `service.name`, for people; also in `resource`.
    pub name: String,
    pub resource: Resource,
}

/// The services of this host's processes.
#[derive(Debug)]
pub struct Services {
    host: Host,
    runtimes: Arc<Runtimes>,
    processes: FxHashMap<u32, Known>,
    /// Pids in the order of their being remembered; some may have been forgotten since.
    order: VecDeque<Identity>,
    ended: VecDeque<Identity>,
    instances: FxHashMap<Instance, Weak<Service>>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    service: Arc<Service>,
    /// When it was last seen to be that process; `None` as long as nobody looked.
    seen: Option<Instant>,
}

impl Services {
    /// `runtimes` may be shared: it remembers executables, not processes.
    #[must_use]
    pub fn new(runtimes: Arc<Runtimes>) -> Self {
        Self {
            host: Host::read(),
            runtimes,
            processes: FxHashMap::default(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            instances: FxHashMap::default(),
        }
    }

    /// The service instance that the process is. `comm` is the kernel's name of it, taken if it has ended and was
    /// never looked at.
    pub fn of(&mut self, pid: u32, comm: &str) -> Arc<Service> {
        let now = Instant::now();
        if let Some(known) = self.processes.get_mut(&pid) {
            if known.seen.is_some_and(|seen| now.duration_since(seen) < TRUSTED_FOR) {
                return Arc::clone(&known.service);
            }
            // One that has ended still has its number, or nobody has.
            let same = there_is(pid).is_none_or(|process| process.identity() == known.identity);
            if same {
                known.seen = Some(now);
                return Arc::clone(&known.service);
            }
        }
        self.look(pid, comm, now)
    }

    /// Looks at a process that has just executed a program: it may have ended when its first span is made.
    pub fn prefetch(&mut self, pid: u32) {
        // One that is gone already is told about by its spans' own knowledge of it.
        if let Some(process) = there_is(pid) {
            self.learn(&process, Instant::now());
        }
    }

    /// A process forked. A child that is gone before anybody looks at it was what its parent is.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(known) = self.processes.get(&parent) {
            let service = Arc::clone(&known.service);
            self.remember(Identity { pid: child, started: 0 }, &service, None);
        }
    }

    /// A process executed a program: what it has of its parent, it is no more.
    pub fn executed(&mut self, pid: u32) {
        if self.processes.get(&pid).is_some_and(|known| known.identity.started == 0) {
            self.processes.remove(&pid);
        }
    }

    /// The process has ended, or the program it was. Its spans may still come: it is remembered until many others have
    /// ended, and if it lives on, beyond that.
    pub fn forget(&mut self, pid: u32) {
        let Some(known) = self.processes.get(&pid) else { return };
        self.ended.push_back(known.identity);
        if self.ended.len() > ENDED_KEPT
            && let Some(identity) = self.ended.pop_front()
            && Process::open(identity.pid).map_or(true, |process| process.identity() != identity)
        {
            self.drop_process(identity);
        }
    }

    fn look(&mut self, pid: u32, comm: &str, now: Instant) -> Arc<Service> {
        match there_is(pid) {
            Some(process) => self.learn(&process, now),
            None => {
                let identity = Identity { pid, started: 0 };
                let instance = Instance::by_comm(identity, comm);
                let service = self.service(instance, resource::of_unseen);
                self.remember(identity, &service, Some(now));
                service
            }
        }
    }

    fn learn(&mut self, process: &Process, now: Instant) -> Arc<Service> {
        let (instance, members) = instance::of(process, &self.runtimes);
        let service = self.service(instance, |host, instance| resource::of(host, instance, &members));
        self.remember(process.identity(), &service, Some(now));
        service
    }

    /// The instance's service, made if no process has it yet.
    fn service(&mut self, instance: Instance, make: impl FnOnce(&Host, &Instance) -> Resource) -> Arc<Service> {
        if let Some(service) = self.instances.get(&instance).and_then(Weak::upgrade) {
            return service;
        }
        let service = Arc::new(Service { name: instance.name.to_string(), resource: make(&self.host, &instance) });
        if self.instances.len() >= 2 * self.processes.len() + 64 {
            self.instances.retain(|_, service| service.strong_count() > 0);
        }
        self.instances.insert(instance, Arc::downgrade(&service));
        service
    }

    fn remember(&mut self, identity: Identity, service: &Arc<Service>, seen: Option<Instant>) {
        let known = Known { identity, service: Arc::clone(service), seen };
        let before = self.processes.insert(identity.pid, known);
        if before.is_none_or(|before| before.identity != identity) {
            self.order.push_back(identity);
        }
        while self.order.len() > PROCESSES_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.drop_process(oldest);
        }
    }

    fn drop_process(&mut self, identity: Identity) {
        if self.processes.get(&identity.pid).is_some_and(|known| known.identity == identity) {
            self.processes.remove(&identity.pid);
        }
    }
}

/// The process, unless it has ended or must not be looked at: a zombie has no program to be known by.
fn there_is(pid: u32) -> Option<Process> {
    Process::open(pid).ok().filter(|process| !process.is_zombie())
}

#[cfg(test)]
mod tests;
