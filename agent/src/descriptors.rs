//! How many file descriptors the agent may have.
//!
//! Each attachment to a library or runtime of a process is a descriptor: a process with OpenSSL has four. The usual soft limit of 1,024 is
//! meant for programs that use select(2), which the agent does not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, ..before };
    if raised.current == before.current {
        return;
    }
    // None stands for no limit.
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            tracing::info!(from = ?before.current, to = ?raised.current, "the limit of file descriptors is raised");
        }
        Err(error) => {
            tracing::warn!(limit = ?before.current, %error, "cannot raise the limit of file descriptors; fewer processes can be attached to");
        }
    }
}
