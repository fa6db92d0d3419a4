//! Access to tracefs.
//!
//! Attaching to a system call's tracepoint needs its number, which is in tracefs. If tracefs is not mounted, one thread
//! mounts it in a mount namespace of its own. The host does not see the mount, and it ends with the thread.

use std::ffi::CStr;
use std::path::Path;
use std::thread;

const MOUNT_POINT: &CStr = c"/sys/kernel/tracing";

/// Runs `work` on a thread that can read tracefs.
pub fn with<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    if mounted() {
        return Ok(work());
    }
    thread::scope(|scope| {
        scope
            .spawn(|| {
                mount_privately()?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread that mounts tracefs panicked")))
    })
}

fn mounted() -> bool {
    ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"].iter().any(|path| Path::new(path).exists())
}

fn mount_privately() -> std::io::Result<()> {
    let check = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: system calls with constant, NUL-terminated strings. unshare affects this thread alone: it stops sharing its file
    // system context with the others. Private mounts do not propagate to the host.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            c"none".as_ptr(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        ))?;
        check(libc::mount(
            c"tracefs".as_ptr(),
            MOUNT_POINT.as_ptr(),
            c"tracefs".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            std::ptr::null(),
        ))
    }
}
