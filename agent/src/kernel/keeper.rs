//! Takes enrolled sockets out of their table when the agent has ended, however it ended.
//!
//! The kernel frees the table 20 ms after the agent's end. Until then, the sockets in it are not like others: on kernels with the defect,
//! FIONREAD answers 0 although bytes wait. So another process, `onlooker keep-sockets`, waits for the agent's end and removes them at once.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aya::maps::{Map, MapData, MapError, SockHash};

/// The hidden verb that runs it.
pub const VERB: &str = "keep-sockets";

/// The waiting process. It acts when its stdin is closed, which the end of the agent does in any case.
#[derive(Debug)]
pub(super) struct Keeper(#[expect(dead_code, reason = "the end of its stdin is what the process waits for")] Child);

impl Keeper {
    /// Starts the process, for a table with keys of 64 bits.
    pub(super) fn start(table: BorrowedFd<'_>) -> io::Result<Self> {
        let table = table.as_raw_fd();
        let mut command = Command::new("/proc/self/exe");
        command.arg0("onlooker-keeper").arg(VERB).arg(table.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let prepare = move || {
            // SAFETY: system calls with valid arguments, which may be made between fork and exec.
            unsafe {
                // It must outlive the agent when somebody presses Ctrl-C, or ends the service.
                libc::setsid();
                for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
                    libc::signal(signal, libc::SIG_IGN);
                }
                // The descriptor is meant for the new program.
                if libc::fcntl(table, libc::F_SETFD, 0) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
        };
        // SAFETY: it only makes system calls.
        unsafe { command.pre_exec(prepare) };
        command.spawn().map(Self)
    }
}

/// What the process does: waits for the end of stdin, and removes all sockets from the table.
///
/// # Errors
/// If the descriptor is no table of sockets.
pub fn keep(table: RawFd) -> Result<(), MapError> {
    if !Path::new(&format!("/proc/self/fd/{table}")).exists() {
        return Err(MapError::IoError(io::ErrorKind::NotFound.into()));
    }
    // SAFETY: the descriptor was inherited for this purpose, and nothing else in this process uses it.
    let table = unsafe { OwnedFd::from_raw_fd(table) };
    let mut table = SockHash::<_, u64>::try_from(Map::SockHash(MapData::from_fd(table)?))?;
    // Nothing is written. An error ends the wait too.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    // The program that enrols is detached, or about to be. So there may be new sockets for a moment.
    while let Some(Ok(cookie)) = { table.keys().next() } {
        // It may have been closed meanwhile.
        let _ = table.remove(&cookie);
    }
    Ok(())
}
