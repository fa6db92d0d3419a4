//! The Kubernetes pods of this node.
//!
//! `watcher` follows the pods of the own node with one watch, on a thread of its own. Of each it keeps a [`Pod`], in [`Pods`]. A process is
//! joined to its pod by its cgroup, which names the pod's uid and the container's id: see
//! [`Container`](crate::discover::container::Container). Nothing is joined by addresses or process ids, because these are reused.
//!
//! `attributes` says what a pod adds to the resource of a service. While the API server cannot be reached, known pods stay known.

mod attributes;
mod connection;
mod image;
mod observed;
mod owner;
mod pod;
mod pods;
mod watcher;

pub use self::attributes::{attributes, service_name};
pub use self::connection::{Mode, NotConfigured, Source, examine};
pub use self::owner::{Owner, OwnerKind};
pub use self::pod::{Pod, PodContainer};
pub use self::pods::{Found, News, Pods};
pub use self::watcher::{Watcher, watch};

#[cfg(test)]
pub(crate) use self::pod::testing;
