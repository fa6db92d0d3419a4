//! Whose a span is: asked for when the span begins to be made, known a moment later.

use std::sync::{Arc, OnceLock};

use compact_str::CompactString;

use super::Service;
use super::host::Host;
use super::services;

/// A process from one exec to the next, as those hold it who want to know its service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Whose(Arc<Process>);

#[derive(Debug)]
struct Process {
    pid: u32,
    /// What the kernel calls it, empty if that is not known.
    comm: CompactString,
    host: Arc<Host>,
    told: OnceLock<Arc<Service>>,
    /// What its spans go by that could not wait any longer.
    unseen: OnceLock<Arc<Service>>,
}

impl Whose {
    pub(super) fn new(pid: u32, comm: CompactString, host: Arc<Host>) -> Self {
        Self(Arc::new(Process { pid, comm, host, told: OnceLock::new(), unseen: OnceLock::new() }))
    }

    /// One whose service is known from the beginning.
    #[must_use]
    pub fn known(service: Arc<Service>) -> Self {
        let whose = Self::new(0, CompactString::default(), Arc::default());
        whose.answer(service);
        whose
    }

    /// The service, as soon as it is known, or [`Self::give_up`] has said that nobody waits any longer.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.0.told.get().or_else(|| self.0.unseen.get())
    }

    /// Whether the service is that of an answer.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.0.told.get().is_some()
    }

    /// What to say instead of an answer that did not come in time. One that comes later goes before it.
    #[must_use]
    pub fn give_up(&self) -> &Arc<Service> {
        let process = &*self.0;
        process.told.get().unwrap_or_else(|| {
            process.unseen.get_or_init(|| Arc::new(services::unseen(&process.host, process.pid, &process.comm)))
        })
    }

    /// What the asked one needs.
    pub(super) fn asks(&self) -> (u32, &str) {
        (self.0.pid, &self.0.comm)
    }

    /// Tells, once.
    pub(super) fn answer(&self, service: Arc<Service>) {
        // Asked once, and answered once.
        let _ = self.0.told.set(service);
    }
}
