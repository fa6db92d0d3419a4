//! What tests of Kubernetes need: an API server that knows pods only, and processes in cgroups that are named as the kubelet
//! and containerd name them.

mod api;
mod node;
mod pod;

pub use self::api::ApiServer;
pub use self::node::{Driver, Node, RunningContainer};
pub use self::pod::{Owned, PodSpec};
