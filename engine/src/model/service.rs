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
}

impl Service {
    /// A service of which everything is reported.
    #[must_use]
    pub fn new(name: impl Into<String>, resource: Resource) -> Self {
        Self { name: name.into(), resource, reporting: Arc::default() }
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
    /// The service of spans that could not wait for the answer.
    fallback: OnceLock<Arc<Service>>,
}

impl PendingService {
    /// `comm` is the kernel's name of the process, empty if that is unknown.
    #[must_use]
    pub fn new(pid: u32, comm: CompactString, unknown: Arc<dyn UnknownService>) -> Self {
        let (answer, started_by, fallback) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Pending { pid, comm, unknown, answer, started_by, fallback }))
    }

    /// A service that is known from the start.
    #[must_use]
    pub fn known(service: Arc<Service>) -> Self {
        let pending = Self::new(0, CompactString::default(), Arc::new(Unnamed));
        pending.set(service);
        pending
    }

    /// The answer, or the fallback if [`Self::give_up`] was called before an answer came.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.0.answer.get().or_else(|| self.0.fallback.get())
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
            pending.fallback.get_or_init(|| Arc::new(pending.unknown.unknown_service(pending.pid, &pending.comm)))
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
