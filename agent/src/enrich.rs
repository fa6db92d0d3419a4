//! Who a span belongs to: the service instance a process is, as an OpenTelemetry Resource.

use opentelemetry_sdk::Resource;

/// A service instance: a process, or the processes of one server (its workers).
#[derive(Debug)]
pub struct Service {
    /// `service.name`, for people; also in `resource`.
    pub name: String,
    pub resource: Resource,
}
