//! The service a span belongs to. It may become known only after the span's exchange has ended.

use std::fmt;
use std::sync::{Arc, OnceLock};

use compact_str::CompactString;
use onlooker_protocols::propagation::TraceContext;
use opentelemetry_sdk::Resource;

use super::reporting::Reporting;

/// A service instance: a process, or the processes of one server (its workers).
#[derive(Debug)]
pub struct Service {
    /// `service.name`, for people; also in `resource`.
    pub name: String,
    pub resource: Resource,
    pub reporting: Arc<Reporting>,
    pub pod: PodMetadata,
}

/// How much is known about the Kubernetes pod that a service runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodMetadata {
    /// Everything, or it runs in no pod.
    #[default]
    Complete,
    /// The pod is known, but not which of its containers it is.
    WithoutContainer,
    /// The pod is unknown.
    Unknown,
}

impl Service {
    /// A service of which everything is reported.
    #[must_use]
    pub fn new(name: impl Into<String>, resource: Resource) -> Self {
        Self { name: name.into(), resource, reporting: Arc::default(), pod: PodMetadata::default() }
    }
}

/// Makes the service of a process that could not be examined in time.
pub trait UnknownService: fmt::Debug + Send + Sync {
    /// `comm` is the kernel's name of the process, empty if that is unknown.
    fn unknown_service(&self, pid: u32, comm: &str) -> Service;
}

/// The service of one process, from one exec to the next: requested when a span needs it, answered later. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PendingService(Arc<Pending>);

#[derive(Debug)]
struct Pending {
    pid: u32,
    comm: CompactString,
    unknown: Arc<dyn UnknownService>,
    answer: OnceLock<Arc<Service>>,
    /// The trace context in the process's environment. It is set before the answer.
    started_by: OnceLock<Arc<TraceContext>>,
    /// What is known of the service before the answer: without its pod, and without its container in the pod.
    provisional: [OnceLock<Arc<Service>>; 2],
    /// The service of spans that could not wait for the answer.
    fallback: OnceLock<Arc<Service>>,
}

impl PendingService {
    /// `comm` is the kernel's name of the process, empty if that is unknown.
    #[must_use]
    pub fn new(pid: u32, comm: CompactString, unknown: Arc<dyn UnknownService>) -> Self {
        let (answer, started_by) = (OnceLock::new(), OnceLock::new());
        let (provisional, fallback) = (Default::default(), OnceLock::new());
        Self(Arc::new(Pending { pid, comm, unknown, answer, started_by, provisional, fallback }))
    }

    /// A service that is known from the start.
    #[must_use]
    pub fn known(service: Arc<Service>) -> Self {
        let pending = Self::new(0, CompactString::default(), Arc::new(Unnamed));
        pending.set(service);
        pending
    }

    /// The answer, or the best fallback so far if [`Self::give_up`] was called before an answer came.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<Service>> {
        let Pending { answer, fallback, .. } = &*self.0;
        answer.get().or_else(|| fallback.get().map(|fallback| self.provisional().unwrap_or(fallback)))
    }

    /// Whether an answer came.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.0.answer.get().is_some()
    }

    /// The answer, or a fallback if none came in time. A later answer replaces the fallback.
    #[must_use]
    pub fn give_up(&self) -> &Arc<Service> {
        let pending = &*self.0;
        pending.answer.get().unwrap_or_else(|| {
            let unknown = || Arc::new(pending.unknown.unknown_service(pending.pid, &pending.comm));
            let provisional = self.provisional();
            let fallback = pending.fallback.get_or_init(|| provisional.map_or_else(unknown, Arc::clone));
            provisional.unwrap_or(fallback)
        })
    }

    /// The process, and the kernel's name of it.
    #[must_use]
    pub fn process(&self) -> (u32, &str) {
        (self.0.pid, &self.0.comm)
    }

    /// The trace context that the process was started with, if that is known and there is one.
    #[must_use]
    pub fn started_by(&self) -> Option<&Arc<TraceContext>> {
        self.0.started_by.get()
    }

    /// Whether the process was examined. Its service may still lack what others know about it.
    #[must_use]
    pub fn is_examined(&self) -> bool {
        self.is_answered() || self.provisional().is_some()
    }

    /// The best that is known before the answer.
    fn provisional(&self) -> Option<&Arc<Service>> {
        self.0.provisional.iter().rev().find_map(OnceLock::get)
    }

    /// Says what is known before the answer: the fallback of spans that cannot wait. It may become better once, when the pod is known.
    pub fn set_provisional(&self, service: Arc<Service>, started_by: Option<Arc<TraceContext>>) {
        if let Some(context) = started_by {
            let _ = self.0.started_by.set(context);
        }
        let [without_pod, without_container] = &self.0.provisional;
        let slot = if service.pod == PodMetadata::Unknown { without_pod } else { without_container };
        let _ = slot.set(service);
    }

    /// Answers, with the trace context that the process was started with. Only the first answer counts.
    pub fn set_started(&self, service: Arc<Service>, started_by: Option<Arc<TraceContext>>) {
        if let Some(context) = started_by
            && !self.is_answered()
        {
            let _ = self.0.started_by.set(context);
        }
        self.set(service);
    }

    /// Answers for a process that was started without a trace context. Only the first answer counts.
    pub fn set(&self, service: Arc<Service>) {
        let _ = self.0.answer.set(service);
    }
}

/// The fallback where none is needed.
#[derive(Debug)]
struct Unnamed;

impl UnknownService for Unnamed {
    fn unknown_service(&self, _pid: u32, _comm: &str) -> Service {
        Service::new("unknown_service", Resource::builder_empty().build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service::new(name, Resource::builder_empty().build()))
    }

    #[test]
    fn a_provisional_service_is_the_fallback_and_not_the_answer() {
        let pending = PendingService::new(7, CompactString::default(), Arc::new(Unnamed));
        let unknown =
            Service { pod: PodMetadata::Unknown, ..Service::new("unknown", Resource::builder_empty().build()) };
        pending.set_provisional(Arc::new(unknown), None);
        assert_eq!(pending.give_up().name, "unknown");
        let known = Service {
            pod: PodMetadata::WithoutContainer,
            ..Service::new("provisional", Resource::builder_empty().build())
        };
        pending.set_provisional(Arc::new(known), None);
        assert!(pending.is_examined() && !pending.is_answered());
        assert_eq!(pending.give_up().name, "provisional");
        assert_eq!(pending.service().map(|service| service.name.as_str()), Some("provisional"));
        pending.set(service("complete"));
        assert_eq!(pending.give_up().name, "complete");
    }

    #[test]
    fn a_provisional_service_replaces_an_unknown_one() {
        let pending = PendingService::new(7, CompactString::default(), Arc::new(Unnamed));
        assert_eq!(pending.give_up().name, "unknown_service");
        pending.set_provisional(service("provisional"), None);
        assert_eq!(pending.service().map(|service| service.name.as_str()), Some("provisional"));
        assert_eq!(pending.give_up().name, "provisional");
    }
}
