//! What examining a process found, and what its pod adds to it.

use std::sync::Arc;

use onlooker_engine::model::reporting::Reporting;
use onlooker_engine::model::service::PodMetadata;

use super::instance::Instance;
use super::resource::Parts;
use crate::discover::container::Container;
use crate::kubernetes::{self, Found};
use crate::presentable::presentable;

/// A process as it was when it was examined, without its pod.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) instance: Instance,
    pub(super) parts: Parts,
    /// The index of the rule that applies.
    pub(super) rule: Option<usize>,
    pub(super) reporting: Arc<Reporting>,
    pub(super) container: Option<Container>,
    /// Whether it ended before anything was known about it, also whether it ran in a container.
    pub(super) is_unseen: bool,
    /// A rule or the process itself states the name of the service. Otherwise the pod names it.
    pub(super) is_named: bool,
}

/// The pod that a process runs in, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) container: Container,
    /// The version of the pod that the service has, and the index of the container.
    pub(super) seen: Option<(u64, Option<usize>)>,
    /// What the service is made from when more is known. The process may have ended by then.
    pub(super) examined: Option<Arc<Examined>>,
}

impl Examined {
    /// A process that ended before it could be examined.
    pub(super) fn without_pod(instance: Instance, parts: Parts, reporting: Arc<Reporting>) -> Self {
        Self { instance, parts, rule: None, reporting, container: None, is_unseen: false, is_named: false }
    }

    /// The instance, with the name that the pod gives it.
    pub(super) fn named_by(&self, found: Option<&Found>) -> Instance {
        let mut instance = self.instance.clone();
        let by_pod = found.filter(|_| !self.is_named).and_then(kubernetes::service_name);
        if let Some(name) = by_pod.as_deref().and_then(presentable) {
            instance.name = name.into();
        }
        instance
    }

    /// What is kept of a process in a pod. Without anybody who knows pods, no process is in one.
    pub(super) fn membership(self: &Arc<Self>, is_followed: bool, found: Option<&Found>) -> Option<Membership> {
        let container = self.container.clone().filter(|container| is_followed && container.is_in_pod)?;
        let seen = found.map(|found| (found.revision, found.container));
        let mut membership = Membership { container, seen, examined: None };
        if membership.metadata() != PodMetadata::Complete {
            membership.examined = Some(Arc::clone(self));
        }
        Some(membership)
    }
}

impl Membership {
    pub(super) fn metadata(&self) -> PodMetadata {
        match self.seen {
            None => PodMetadata::Unknown,
            Some((_, None)) => PodMetadata::WithoutContainer,
            Some((_, Some(_))) => PodMetadata::Complete,
        }
    }
}
