//! Examines processes and remembers their services.
//!
//! This reads /proc and files in the processes' roots. On a mount that hangs it may wait forever, so it runs on a thread
//! that nothing waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::examined::{Examined, Membership};
use super::host::Host;
use super::instance::{self, Instance, Member};
use super::resource::{self, Parts};
use super::{AWAITING_KEPT, ENDED_KEPT, ENDED_KEPT_FOR, PROCESSES_KEPT};
use crate::discover::container::{self, Container};
use crate::discover::process::{Identity, Process, Unreadable};
use crate::discover::select::{Applied, Selectors, Treatment};
use crate::kubernetes::{Found, Pods};
use crate::runtimes::Recogniser;
use onlooker_engine::model::service::{PendingService, PodMetadata, Service, UnknownService};
use onlooker_protocols::propagation::TraceContext;

/// The services of the host's processes.
#[derive(Debug)]
pub struct Services {
    host: Arc<Host>,
    recogniser: Arc<Recogniser>,
    processes: FxHashMap<u32, Known>,
    /// Processes in the order in which they were remembered. Some may have been forgotten since.
    order: VecDeque<Identity>,
    /// Ended processes, in the order of their ends.
    ended: VecDeque<(Instant, Identity)>,
    instances: FxHashMap<InstanceKey, Weak<Service>>,
    /// Rules that may say what the service of a process is.
    selectors: Option<Selectors>,
    /// The pods of this node, if they are followed.
    pods: Option<Arc<Pods>>,
    /// Requests of processes whose pods are not known yet, in their order.
    awaiting: VecDeque<Awaiting>,
}

/// The instance, the index of the rule that applies to it, and the version and the container of its pod.
type InstanceKey = (Instance, Option<usize>, Option<(u64, Option<usize>)>);

#[derive(Debug)]
struct Known {
    /// The start time is 0 for a child that is not examined yet. It has its parent's service.
    identity: Identity,
    service: Arc<Service>,
    /// The span that it was started for, as its environment says.
    started_by: Option<Arc<TraceContext>>,
    /// Only if it runs in a pod.
    membership: Option<Membership>,
    /// Its pod has changed since: it is to be examined again. If it ends before, it keeps what it has.
    is_outdated: bool,
}

/// A request that is answered when the pod is known. It names its process no more: the process may end, and its id be reused.
#[derive(Debug)]
struct Awaiting {
    pending: PendingService,
    examined: Arc<Examined>,
    started_by: Option<Arc<TraceContext>>,
}

/// The service of a process that ended before it could be examined.
pub(super) fn unexamined(host: &Host, pid: u32, comm: &str) -> Service {
    let instance = Instance::by_comm(Identity { pid, started: 0 }, comm);
    let resource = resource::of_unexamined(host, &instance);
    Service { reporting: host.reporting(), ..Service::new(instance.name.to_string(), resource) }
}

impl Known {
    /// Whether it is the process that has the id now.
    fn is_running(&self) -> bool {
        Process::open(self.identity.pid).is_ok_and(|process| process.identity() == self.identity)
    }
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
            pods: None,
            awaiting: VecDeque::new(),
            host,
            recogniser,
            processes: FxHashMap::default(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            instances: FxHashMap::default(),
        }
    }

    /// Adds what is known about pods to the services of their processes.
    pub fn look_up_pods(&mut self, pods: Arc<Pods>) {
        self.pods = Some(pods);
    }

    /// Answers a request for a service. If the pod is not known yet, it is answered when that is known.
    pub fn answer(&mut self, pending: &PendingService) {
        let (pid, comm) = pending.process();
        let service = self.of(pid, comm);
        let known = self.processes.get(&pid);
        let started_by = known.and_then(|known| known.started_by.clone());
        let Some(examined) = known.and_then(|known| known.membership.as_ref()?.examined.clone()) else {
            pending.set_started(service, started_by);
            return;
        };
        pending.set_provisional(service, started_by.clone());
        if self.awaiting.len() >= AWAITING_KEPT {
            self.awaiting.pop_front();
        }
        self.awaiting.push_back(Awaiting { pending: pending.clone(), examined, started_by });
    }

    /// Pods became known or have changed. Returns whether services that were answered are others now, so that they must be
    /// requested again.
    pub fn pods_changed(&mut self) -> bool {
        let Some(pods) = self.pods.clone() else { return false };
        let mut are_others = false;
        let changed = |(pid, known): (&u32, &Known)| {
            if known.is_outdated {
                return None;
            }
            let membership = known.membership.as_ref()?;
            let found = pods.find(&membership.container)?;
            (membership.seen != Some((found.revision, found.container))).then_some((*pid, found))
        };
        for (pid, found) in self.processes.iter().filter_map(changed).collect::<Vec<_>>() {
            let examined = self.processes.get(&pid).and_then(|known| known.membership.as_ref()?.examined.clone());
            let Some(examined) = examined else {
                if let Some(known) = self.processes.get_mut(&pid).filter(|known| known.is_running()) {
                    known.is_outdated = true;
                    are_others = true;
                }
                continue;
            };
            let (service, membership) = self.in_pod(&examined, Some(&found));
            if let Some(known) = self.processes.get_mut(&pid) {
                (known.service, known.membership) = (service, membership);
            }
        }
        let mut awaiting = std::mem::take(&mut self.awaiting);
        awaiting.retain(|Awaiting { pending, examined, started_by }| {
            let Some(found) = examined.container.as_ref().and_then(|container| pods.find(container)) else {
                return true;
            };
            let (service, _) = self.in_pod(examined, Some(&found));
            if service.pod == PodMetadata::Complete {
                pending.set_started(service, started_by.clone());
                return false;
            }
            pending.set_provisional(service, started_by.clone());
            true
        });
        self.awaiting = awaiting;
        are_others
    }

    /// The service of a process. `comm` is the kernel's name of it, which is used if it has ended and was never examined.
    pub fn of(&mut self, pid: u32, comm: &str) -> Arc<Service> {
        // A zombie has no program to recognise it by.
        let running = Process::open(pid).ok().filter(|process| !process.is_zombie());
        let identity = running.as_ref().map(Process::identity);
        // If it has ended, its pid is unused. Otherwise the pid may have been reused.
        let is_same = |known: &&Known| identity.is_none_or(|identity| identity == known.identity);
        if let Some(known) = self.processes.get(&pid).filter(is_same)
            && (running.is_none() || !known.is_outdated)
        {
            return Arc::clone(&known.service);
        }
        if let Some(service) = running.and_then(|process| self.examine(&process)) {
            return service;
        }
        let has_parents = |known: &&Known| known.identity.started == 0;
        if let Some(known) = self.processes.get(&pid).filter(|known| has_parents(known) || is_same(known)) {
            // It ended while it was examined.
            return Arc::clone(&known.service);
        }
        let identity = Identity { pid, started: 0 };
        let instance = Instance::by_comm(identity, comm);
        let parts = Parts::of_unexamined(&self.host, &instance);
        let examined = Examined::without_pod(instance, parts, self.host.reporting());
        let (service, _) = self.in_pod(&Arc::new(Examined { is_unseen: true, ..examined }), None);
        self.remember(identity, &service, None, None);
        // The report of its end may have come before.
        self.has_ended(identity, Instant::now());
        service
    }

    /// Examines a running process, because it may have ended when its first span is made. None if it ends meanwhile, unless its
    /// container is known. An ending process loses its executable before it disappears from /proc, so what was read may be incomplete.
    pub fn examine(&mut self, process: &Process) -> Option<Arc<Service>> {
        // This is read in an instant. Recognising an executable for the first time takes longer.
        let container = container::of(process);
        let (mut instance, members) = instance::of(process, container.as_ref(), &self.recogniser);
        if matches!(process.executable(), Ok(None) | Err(Unreadable::Gone { .. })) {
            return self.ended_in(process, container?);
        }
        let (rule, treatment, reporting) = match self.selectors.as_ref().map(|rules| rules.applied_to(process)) {
            Some(Applied { rule, treatment, reporting }) => (rule, treatment.cloned().unwrap_or_default(), reporting),
            None => (None, Treatment::default(), self.host.reporting()),
        };
        let parts = Parts::of(&self.host, &instance, &members, &treatment);
        let is_stated = |member: &Member| member.stated_name().is_some_and(|name| name == instance.name);
        let is_named = treatment.service_name.is_some() || members.iter().any(is_stated);
        if let Some(name) = &treatment.service_name {
            instance.name = name.as_str().into();
        }
        let examined = Arc::new(Examined { instance, parts, rule, reporting, container, is_unseen: false, is_named });
        let found = self.pod_of(&examined);
        let (service, membership) = self.in_pod(&examined, found.as_ref());
        let started_by = members.last().and_then(|own| own.environment.started_by.clone());
        self.remember(process.identity(), &service, started_by, membership);
        Some(service)
    }

    /// The service of a process that ended while it was examined, in this container. None if it has its parent's.
    fn ended_in(&mut self, process: &Process, container: Container) -> Option<Arc<Service>> {
        let identity = process.identity();
        if self.processes.get(&identity.pid).is_some_and(|known| known.identity.started == 0) {
            return None;
        }
        let instance = Instance::by_comm(identity, process.comm());
        let parts = Parts::of_container(&self.host, &instance, &container);
        let examined = Examined::without_pod(instance, parts, self.host.reporting());
        let examined = Arc::new(Examined { container: Some(container), ..examined });
        let found = self.pod_of(&examined);
        let (service, membership) = self.in_pod(&examined, found.as_ref());
        self.remember(identity, &service, None, membership);
        // The report of its end may have come before.
        self.has_ended(identity, Instant::now());
        Some(service)
    }

    fn pod_of(&self, examined: &Examined) -> Option<Found> {
        self.pods.as_ref()?.find(examined.container.as_ref()?)
    }

    /// The service of a process in this pod, as far as the pod is known, and what is kept to complete it later.
    fn in_pod(&mut self, examined: &Arc<Examined>, found: Option<&Found>) -> (Arc<Service>, Option<Membership>) {
        let is_followed = self.pods.is_some();
        let membership = examined.membership(is_followed, found);
        let instance = examined.named_by(found);
        let seen = membership.as_ref().and_then(|membership| membership.seen);
        let key = (instance, examined.rule, seen);
        if let Some(service) = self.instances.get(&key).and_then(Weak::upgrade) {
            return (service, membership);
        }
        let name = key.0.name.to_string();
        let resource = examined.parts.resource(&name, found);
        let pod = match &membership {
            Some(membership) => membership.metadata(),
            None if is_followed && examined.is_unseen => PodMetadata::Unknown,
            None => PodMetadata::Complete,
        };
        let service = Arc::new(Service { name, resource, reporting: Arc::clone(&examined.reporting), pod });
        if self.instances.len() >= 2 * self.processes.len() + 64 {
            self.instances.retain(|_, service| service.strong_count() > 0);
        }
        self.instances.insert(key, Arc::downgrade(&service));
        (service, membership)
    }

    /// A process forked. A child that ends before it is examined has its parent's service.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(known) = self.processes.get(&parent) {
            let Known { service, started_by, membership, .. } = known;
            let (service, started_by, membership) = (Arc::clone(service), started_by.clone(), membership.clone());
            self.remember(Identity { pid: child, started: 0 }, &service, started_by, membership);
        }
    }

    /// A process executed a program. Its earlier service, or its parent's, is no longer its own.
    pub fn executed(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Another rule may apply to a process now: it is examined again when its service is asked for.
    pub fn outdated(&mut self, pid: u32) {
        if let Some(known) = self.processes.get_mut(&pid) {
            known.is_outdated = true;
        }
    }

    /// A process ended. It is remembered for a while, because spans may still follow.
    pub fn ended(&mut self, pid: u32, now: Instant) {
        let Some(known) = self.processes.get(&pid) else { return };
        let identity = known.identity;
        self.has_ended(identity, now);
    }

    fn has_ended(&mut self, identity: Identity, now: Instant) {
        self.ended.push_back((now, identity));
        while let Some(&(at, identity)) = self.ended.front()
            && (self.ended.len() > ENDED_KEPT || now.duration_since(at) > ENDED_KEPT_FOR)
        {
            self.ended.pop_front();
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

    fn remember(
        &mut self,
        identity: Identity,
        service: &Arc<Service>,
        started_by: Option<Arc<TraceContext>>,
        membership: Option<Membership>,
    ) {
        let service = Arc::clone(service);
        let known = Known { identity, service, started_by, membership, is_outdated: false };
        let before = self.processes.insert(identity.pid, known);
        if before.is_none_or(|before| before.identity != identity) {
            self.order.push_back(identity);
        }
        if self.order.len() >= 2 * self.processes.len() + 64 {
            let processes = &self.processes;
            self.order.retain(|identity| processes.get(&identity.pid).is_some_and(|known| known.identity == *identity));
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
#[cfg(test)]
mod tests_of_pods;
