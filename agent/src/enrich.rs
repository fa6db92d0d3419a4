//! The service of a process, as an OpenTelemetry Resource.
//!
//! A process is examined when it executes a program and when it has its first span, and remembered until it has ended.
//! The processes of one server (a master and its workers) are one service instance. The instance is identified by the
//! topmost of its processes that runs the same program.
//!
//! Examining reads /proc and files, which may block, perhaps forever. So [`Services`] does that on a thread of its own.
//! The pipeline has a [`Directory`], which only remembers the answers: each process has a
//! [`PendingService`](onlooker_engine::model::service::PendingService), which is answered
//! later.
//!
//! In Kubernetes, the pod of a process may become known after the process. Then the request waits for the pod, and spans that cannot wait
//! have what is known without it.

mod directory;
mod environment;
mod examined;
mod host;
mod instance;
mod resource;
mod services;

use std::time::Duration;

pub use directory::Directory;
pub use host::Host;
pub use services::Services;

/// How many processes the directory and the services each remember. A process that is forgotten is examined again.
const PROCESSES_KEPT: usize = 16_384;
/// How long an ended process is remembered, for spans that follow its end. A span may wait ten seconds for its parent, and a record takes
/// less to come.
const ENDED_KEPT_FOR: Duration = Duration::from_secs(30);
/// How many ended processes are remembered, each with 4 KiB of attributes: as many as end in a busy second.
const ENDED_KEPT: usize = 4096;
/// How many requests of processes in unknown pods are remembered. The spans of others have the `container.id` for good.
const AWAITING_KEPT: usize = 4096;
