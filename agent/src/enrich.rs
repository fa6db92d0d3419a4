//! Who a span belongs to: the service instance a process is, as an OpenTelemetry Resource.
//!
//! A process is looked at when it executes a program and when a span is first to be its, and remembered until it has
//! ended. The processes of one server (a master and its workers) are one instance: that of the topmost process above
//! them that runs the same program.
//!
//! Looking reads /proc and files, which may take long, or for ever. So [`Services`] does that on a thread of its own, and
//! the [`Directory`] of the pipeline only remembers what came back: a [`PendingService`](onlooker_engine::model::service::PendingService) is asked for, and answered later.

mod container;
mod directory;
mod environment;
mod host;
mod instance;
mod resource;
mod service_name;
mod services;

pub use directory::Directory;
pub use host::Host;
pub use services::Services;

/// Processes remembered, by the pipeline and by who looks at them: more have never been traced at a time. One that is
/// forgotten is asked for and looked at again.
const PROCESSES_KEPT: usize = 16_384;
/// Ended processes remembered, for spans that come after their end: those of a busy second.
const ENDED_KEPT: usize = 4096;
