//! Finds the processes to trace. This is the only reader of /proc.
//!
//! `process` reads one process, `select` decides whether a selector matches it, `sockets` lists the ports it listens on,
//! `cgroup` finds cgroups, and
//! `container` the id of a process's container.

pub mod cgroup;
pub mod container;
pub mod process;
pub mod select;
pub mod sockets;
