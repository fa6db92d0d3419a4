//! Looks at processes and remembers what services they are.
//!
//! Reads /proc, and files as the processes see them: on a mount that hangs, for ever. Runs where nobody waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use opentelemetry_sdk::Resource;
use rustc_hash::FxHashMap;

use super::host::Host;
use super::instance::{self, Instance};
use super::resource;
use super::{ENDED_KEPT, PROCESSES_KEPT};
use crate::discover::process::{Identity, Process, Unreadable};
use crate::runtimes::Recogniser;
use onlooker_engine::model::service::{PendingService, Service, UnknownService};

/// The services of this host's processes.
#[derive(Debug)]
pub struct Services {
    host: Arc<Host>,
    recogniser: Arc<Recogniser>,
    processes: FxHashMap<u32, Known>,
    /// Processes in the order of their being remembered; some may have been forgotten since.
    order: VecDeque<Identity>,
    ended: VecDeque<Identity>,
    instances: FxHashMap<Instance, Weak<Service>>,
}

#[derive(Debug)]
struct Known {
    /// Of a child that nobody looked at yet the start is 0: it is what its parent is.
    identity: Identity,
    service: Arc<Service>,
}

/// A process that was gone before it could be looked at.
pub(super) fn unseen(host: &Host, pid: u32, comm: &str) -> Service {
    let instance = Instance::by_comm(Identity { pid, started: 0 }, comm);
    Service { name: instance.name.to_string(), resource: resource::of_unseen(host, &instance) }
}

impl UnknownService for Host {
    fn unknown_service(&self, pid: u32, comm: &str) -> Service {
        unseen(self, pid, comm)
    }
}

impl Services {
    /// `recogniser` may be shared: it remembers executables, not processes.
    #[must_use]
    pub fn new(host: Arc<Host>, recogniser: Arc<Recogniser>) -> Self {
        Self {
            host,
            recogniser,
            processes: FxHashMap::default(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            instances: FxHashMap::default(),
        }
    }

    /// Tells who wants to know.
    pub fn answer(&mut self, whose: &PendingService) {
        let (pid, comm) = whose.process();
        whose.set(self.of(pid, comm));
    }

    /// The service instance that the process is. `comm` is the kernel's name of it, taken if it has ended and was
    /// never looked at.
    pub fn of(&mut self, pid: u32, comm: &str) -> Arc<Service> {
        // A zombie has no program to be known by.
        let there = Process::open(pid).ok().filter(|process| !process.is_zombie());
        if let Some(known) = self.processes.get(&pid)
            // One that has ended still has its number, or nobody has.
            && there.as_ref().is_none_or(|process| process.identity() == known.identity)
        {
            return Arc::clone(&known.service);
        }
        if let Some(service) = there.and_then(|process| self.look_at(&process)) {
            return service;
        }
        if let Some(known) = self.processes.get(&pid).filter(|known| known.identity.started == 0) {
            // It ended while it was looked at.
            return Arc::clone(&known.service);
        }
        let identity = Identity { pid, started: 0 };
        let service = self.service(Instance::by_comm(identity, comm), resource::of_unseen);
        self.remember(identity, &service);
        service
    }

    /// Looks at a process while it is there: it may have ended when its first span is made. None if it ends meanwhile: a
    /// process that ends loses its program before it loses its place in /proc.
    pub fn look_at(&mut self, process: &Process) -> Option<Arc<Service>> {
        let (instance, members) = instance::of(process, &self.recogniser);
        if matches!(process.executable(), Ok(None) | Err(Unreadable::Gone { .. })) {
            return None;
        }
        let service = self.service(instance, |host, instance| resource::of(host, instance, &members));
        self.remember(process.identity(), &service);
        Some(service)
    }

    /// A process forked. A child that is gone before anybody looks at it was what its parent is.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(known) = self.processes.get(&parent) {
            let service = Arc::clone(&known.service);
            self.remember(Identity { pid: child, started: 0 }, &service);
        }
    }

    /// A process executed a program: what it was, or has of its parent, it is no more.
    pub fn executed(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// The process has ended. Its spans may still come: it is remembered until many others have ended.
    pub fn ended(&mut self, pid: u32) {
        let Some(known) = self.processes.get(&pid) else { return };
        self.ended.push_back(known.identity);
        if self.ended.len() > ENDED_KEPT
            && let Some(identity) = self.ended.pop_front()
        {
            self.drop_process(identity);
        }
    }

    /// Looks at everybody anew who is asked for: what became of processes was missed.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.order.clear();
        self.ended.clear();
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

    fn remember(&mut self, identity: Identity, service: &Arc<Service>) {
        let known = Known { identity, service: Arc::clone(service) };
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

#[cfg(test)]
mod tests;
