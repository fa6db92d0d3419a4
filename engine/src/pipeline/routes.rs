//! The routes of each service.

use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;

use crate::model::service::Service;
use crate::route::Routes;

/// What each service has shown of its routes.
#[derive(Debug)]
pub(super) struct ServiceRoutes {
    known: FxHashMap<usize, (Weak<Service>, Routes)>,
    /// Services that are gone are looked for when so many are known. The look costs more with each service that is there.
    swept_at: usize,
}

impl Default for ServiceRoutes {
    fn default() -> Self {
        Self { known: FxHashMap::default(), swept_at: Self::KEPT }
    }
}

impl ServiceRoutes {
    /// So many services are kept without a look.
    const KEPT: usize = 1024;

    pub(super) fn of(&mut self, service: &Arc<Service>) -> &mut Routes {
        let place = Arc::as_ptr(service).addr();
        if self.known.len() >= self.swept_at && !self.known.contains_key(&place) {
            self.known.retain(|_, (service, _)| service.strong_count() > 0);
            self.swept_at = Self::KEPT.max(2 * self.known.len());
        }
        // The weak reference keeps the address from becoming another service's.
        let (_, routes) = self
            .known
            .entry(place)
            .or_insert_with(|| (Arc::downgrade(service), Routes::new(Arc::clone(&service.reporting))));
        routes
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::Resource;

    use super::*;

    fn service() -> Arc<Service> {
        Arc::new(Service::new("shop", Resource::builder_empty().build()))
    }

    #[test]
    fn services_that_are_gone_are_forgotten_when_their_number_has_doubled() {
        let mut routes = ServiceRoutes::default();
        let there: Vec<_> = std::iter::repeat_with(service).take(ServiceRoutes::KEPT).collect();
        for service in &there {
            routes.of(service);
        }
        let gone = service();
        routes.of(&gone);
        assert_eq!(routes.swept_at, 2 * ServiceRoutes::KEPT, "none was gone");
        drop(gone);
        while routes.known.len() < 2 * ServiceRoutes::KEPT {
            routes.of(&service());
        }
        routes.of(&there[0]);
        assert_eq!(routes.known.len(), 2 * ServiceRoutes::KEPT, "a known one causes no look");
        routes.of(&service());
        assert_eq!(routes.known.len(), ServiceRoutes::KEPT + 1);
    }
}
