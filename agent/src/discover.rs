//! Which processes are traced, and what runs inside them: the only reader of /proc.
//!
//! `process` reads one process, `select` judges whether it was asked for, `runtime` recognises what runs inside,
//! `sockets` says where it listens, `cgroup` where cgroups are.

pub mod cgroup;
pub mod process;
pub mod runtime;
pub mod select;
pub mod sockets;
