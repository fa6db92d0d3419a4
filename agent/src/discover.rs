//! Finds the processes to trace. This is the only reader of /proc.
//!
//! `process` reads one process, `select` decides whether a selector matches it, `sockets` lists the ports it listens on,
//! and `cgroup` finds cgroups.

pub mod cgroup;
pub mod process;
pub mod select;
pub mod sockets;
