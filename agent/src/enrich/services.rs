//! Examines processes and remembers their services.
//!
//! This reads /proc and files in the processes' roots. On a mount that hangs it may wait forever, so it runs on a thread
//! that nothing waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use opentelemetry_sdk::Resource;
use rustc_hash::FxHashMap;

use super::host::Host;
use super::instance::{self, Instance};
use super::resource;
use super::{ENDED_KEPT, PROCESSES_KEPT};
use crate::discover::process::{Identity, Process, Unreadable};
use crate::discover::select::{Applied, Selectors, Treatment};
use crate::runtimes::Recogniser;
use onlooker_engine::model::reporting::Reporting;
use onlooker_engine::model::service::{PendingService, Service, UnknownService};
use onlooker_protocols::propagation::TraceContext;

/// The services of the host's processes.
#[derive(Debug)]
pub struct Services {
    host: Arc<Host>,
    recogniser: Arc<Recogniser>,
    processes: FxHashMap<u32, Known>,
    /// Processes in the order in which they were remembered. Some may have been forgotten since.
    order: VecDeque<Identity>,
    ended: VecDeque<Identity>,
    /// By the instance and the index of the rule that applies to it.
    instances: FxHashMap<(Instance, Option<usize>), Weak<Service>>,
    /// Rules that may say what the service of a process is.
    selectors: Option<Selectors>,
}

#[derive(Debug)]
struct Known {
    /// The start time is 0 for a child that is not examined yet. It has its parent's service.
    identity: Identity,
    service: Arc<Service>,
    /// The span that it was started for, as its environment says.
    started_by: Option<Arc<TraceContext>>,
}

/// The service of a process that ended before it could be examined.
pub(super) fn unexamined(host: &Host, pid: u32, comm: &str) -> Service {
    let instance = Instance::by_comm(Identity { pid, started: 0 }, comm);
    let resource = resource::of_unexamined(host, &instance);
    Service { reporting: host.reporting(), ..Service::new(instance.name.to_string(), resource) }
}

impl UnknownService for Host {
    fn unknown_service(&self, pid: u32, comm: &str) -> Service {
        unexamined(self, pid, comm)
    }
}

impl Services {
    /// `recogniser` may be shared: it remembers executables, not processes.
    #[must_use]
    pub fn new(host: Arc<Host>, recogniser: Arc<Recogniser>) -> Self {
        Self {
            selectors: None,
            host,
            recogniser,
            processes: FxHashMap::default(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            instances: FxHashMap::default(),
        }
    }

    /// Answers a request for a service.
    pub fn answer(&mut self, pending: &PendingService) {
        let (pid, comm) = pending.process();
        let service = self.of(pid, comm);
        let started_by = self.processes.get(&pid).and_then(|known| known.started_by.clone());
        pending.set_started(service, started_by);
    }

    /// The service of a process. `comm` is the kernel's name of it, which is used if it has ended and was never examined.
    pub fn of(&mut self, pid: u32, comm: &str) -> Arc<Service> {
        // A zombie has no program to recognise it by.
        let running = Process::open(pid).ok().filter(|process| !process.is_zombie());
        if let Some(known) = self.processes.get(&pid)
            // If it has ended, its pid is unused. Otherwise the pid may have been reused.
            && running.as_ref().is_none_or(|process| process.identity() == known.identity)
        {
            return Arc::clone(&known.service);
        }
        if let Some(service) = running.and_then(|process| self.examine(&process)) {
            return service;
        }
        if let Some(known) = self.processes.get(&pid).filter(|known| known.identity.started == 0) {
            // It ended while it was examined.
            return Arc::clone(&known.service);
        }
        let identity = Identity { pid, started: 0 };
        let general = (None, self.host.reporting());
        let service = self.service(Instance::by_comm(identity, comm), general, resource::of_unexamined);
        self.remember(identity, &service, None);
        service
    }

    /// Examines a running process, because it may have ended when its first span is made. None if it ends meanwhile. An
    /// ending process loses its executable before it disappears from /proc, so what was read may be incomplete.
    pub fn examine(&mut self, process: &Process) -> Option<Arc<Service>> {
        let (mut instance, members) = instance::of(process, &self.recogniser);
        if matches!(process.executable(), Ok(None) | Err(Unreadable::Gone { .. })) {
            return None;
        }
        let (rule, treatment, reporting) = match self.selectors.as_ref().map(|rules| rules.applied_to(process)) {
            Some(Applied { rule, treatment, reporting }) => (rule, treatment.cloned().unwrap_or_default(), reporting),
            None => (None, Treatment::default(), self.host.reporting()),
        };
        if let Some(name) = &treatment.service_name {
            instance.name = name.as_str().into();
        }
        let make = |host: &Host, instance: &Instance| resource::of(host, instance, &members, &treatment);
        let service = self.service(instance, (rule, reporting), make);
        let started_by = members.last().and_then(|own| own.environment.started_by.clone());
        self.remember(process.identity(), &service, started_by);
        Some(service)
    }

    /// A process forked. A child that ends before it is examined has its parent's service.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(known) = self.processes.get(&parent) {
            let (service, started_by) = (Arc::clone(&known.service), known.started_by.clone());
            self.remember(Identity { pid: child, started: 0 }, &service, started_by);
        }
    }

    /// A process executed a program. Its earlier service, or its parent's, is no longer its own.
    pub fn executed(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// A process ended. It is remembered until many others have ended, because spans may still follow.
    pub fn ended(&mut self, pid: u32) {
        let Some(known) = self.processes.get(&pid) else { return };
        self.ended.push_back(known.identity);
        if self.ended.len() > ENDED_KEPT
            && let Some(identity) = self.ended.pop_front()
        {
            self.drop_process(identity);
        }
    }

    /// Applies other rules from now on. Every process must be examined again.
    pub fn apply(&mut self, selectors: Selectors) {
        self.host.report(Arc::clone(selectors.general()));
        self.selectors = Some(selectors);
        self.forget();
        self.instances.clear();
    }

    /// Forgets all processes, because changes were missed.
    pub fn forget(&mut self) {
        self.processes.clear();
        self.order.clear();
        self.ended.clear();
    }

    /// The service of an instance. It is made if no process has it yet.
    fn service(
        &mut self,
        instance: Instance,
        (rule, reporting): (Option<usize>, Arc<Reporting>),
        make: impl FnOnce(&Host, &Instance) -> Resource,
    ) -> Arc<Service> {
        let instance = (instance, rule);
        if let Some(service) = self.instances.get(&instance).and_then(Weak::upgrade) {
            return service;
        }
        let resource = make(&self.host, &instance.0);
        let service = Arc::new(Service { reporting, ..Service::new(instance.0.name.to_string(), resource) });
        if self.instances.len() >= 2 * self.processes.len() + 64 {
            self.instances.retain(|_, service| service.strong_count() > 0);
        }
        self.instances.insert(instance, Arc::downgrade(&service));
        service
    }

    fn remember(&mut self, identity: Identity, service: &Arc<Service>, started_by: Option<Arc<TraceContext>>) {
        let known = Known { identity, service: Arc::clone(service), started_by };
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
