//! The attach listener of a HotSpot JVM: its socket, and what is said there (`attachListener_linux.cpp`).
//!
//! A JVM opens the socket `/tmp/.java_pid<pid>` when it receives SIGQUIT and finds the file `/tmp/.attach_pid<pid>`. SIGQUIT
//! kills a program that does not expect it. So it is sent only to a process that catches it, after its options were read.
//! The JVM speaks only with its own user, so the connection is made as that user, by a thread of its own.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procfs::process::Status;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::NotLoaded;
use crate::discover::process::Process;

/// How long a JVM may take to open its socket. It does so at its next safepoint.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// A request that is older was left by a program that was killed. jcmd and jstack wait for 10 s.
const STALE_AFTER: Duration = Duration::from_secs(15);
/// How long it may take to load the library, with pauses of its collector.
const LOADS_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 4096;
/// The version of what is said there.
const VERSION: &str = "1";
/// Bit of SIGQUIT in a mask of signals.
const SIGQUIT: u64 = 1 << (libc::SIGQUIT - 1);

/// What a JVM answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The library was loaded, and returned this.
    Returned(i32),
    Refused(String),
    /// It ended before it answered.
    Nothing,
}

/// The attach listener of a JVM.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    user: Uid,
    group: Gid,
}

impl Listener {
    /// Finds the socket of a JVM in `folder`, its /tmp. Makes the JVM open it if there is none.
    pub(super) fn of(process: &Process, status: &Status, folder: &impl AsFd) -> Result<Self, NotLoaded> {
        let inner = status.nspid.as_ref().and_then(|pids| pids.last().copied());
        let pid = inner.unwrap_or_else(|| process.pid().cast_signed());
        let (user, group) = (Uid::from_raw(status.euid), Gid::from_raw(status.egid));
        let name = format!(".java_pid{pid}");
        let open = || socket(folder.as_fd(), &name, user).map(|socket| Self { socket, user, group });
        if let Some(listener) = open() {
            return Ok(listener);
        }
        let request = Request::new(folder.as_fd(), format!(".attach_pid{pid}"), user, group);
        let _request = request.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => NotLoaded::NotYet("another program attaches to the JVM".to_owned()),
            _ => NotLoaded::Failed(format!("cannot ask the JVM to open its socket: {error}")),
        })?;
        signal(process)?;
        let until = Instant::now() + OPENS_WITHIN;
        while Instant::now() < until {
            if let Some(listener) = open() {
                return Ok(listener);
            }
            std::thread::sleep(LOOKS_EVERY);
        }
        Err(NotLoaded::Failed("the JVM does not open its socket".to_owned()))
    }

    /// Has the JVM load the library at `path`.
    pub(super) fn load(&self, path: &Path) -> Result<Outcome, NotLoaded> {
        let failed = |error: io::Error| NotLoaded::Failed(format!("the JVM does not answer: {error}"));
        let mut stream = self.connect().map_err(failed)?;
        let mut request = Vec::new();
        for word in [VERSION.as_bytes(), b"load", path.as_os_str().as_bytes(), b"true", b""] {
            request.extend_from_slice(word);
            request.push(0);
        }
        stream.write_all(&request).map_err(failed)?;
        let mut answer = Vec::new();
        let (mut rest, until) = (stream.try_clone().map_err(failed)?.take(ANSWER_BYTES), Instant::now() + LOADS_WITHIN);
        let mut chunk = [0; 512];
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(LOOKS_EVERY);
            stream.set_read_timeout(Some(left)).map_err(failed)?;
            match rest.read(&mut chunk).map_err(failed)? {
                0 => break,
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
        Ok(Outcome::parse(&String::from_utf8_lossy(&answer)))
    }

    /// Connects as the JVM's user. The thread that does it ends afterwards.
    fn connect(&self) -> io::Result<UnixStream> {
        let path = format!("/proc/self/fd/{}", self.socket.as_raw_fd());
        let (user, group) = (self.user, self.group);
        let connect = move || -> io::Result<UnixStream> {
            // Not to be done twice: it gives up the right to do it.
            if rustix::process::getegid() != group {
                rustix::thread::set_thread_res_gid(group, group, group)?;
            }
            if rustix::process::geteuid() != user {
                rustix::thread::set_thread_res_uid(user, user, user)?;
            }
            UnixStream::connect(&path)
        };
        let thread = std::thread::Builder::new().name("java-attach".to_owned()).spawn(connect)?;
        let stream = thread.join().map_err(|_| io::Error::other("the thread that connects panicked"))??;
        stream.set_write_timeout(Some(LOADS_WITHIN))?;
        Ok(stream)
    }
}

impl Outcome {
    /// A line with 0, or an error. What the library returned follows: `return code: 0` since JDK 9, `0` before.
    fn parse(answer: &str) -> Self {
        if answer.is_empty() {
            return Self::Nothing;
        }
        let mut lines = answer.lines();
        let accepted = lines.next().is_some_and(|line| line.trim() == "0");
        let returned = lines.next().and_then(|line| line.trim_start_matches("return code:").trim().parse().ok());
        match returned {
            Some(code) if accepted => Self::Returned(code),
            _ => Self::Refused(answer.split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }
}

/// Opens the socket with this name, if it belongs to the user. A link to somewhere else is not followed.
fn socket(folder: BorrowedFd<'_>, name: &str, user: Uid) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&socket).ok()?;
    let is_its_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket && stat.st_uid == user.as_raw();
    is_its_socket.then_some(socket)
}

/// Sends SIGQUIT to a process that catches it.
fn signal(process: &Process) -> Result<(), NotLoaded> {
    let failed = |error: &dyn std::fmt::Display| NotLoaded::Failed(format!("cannot send SIGQUIT: {error}"));
    let pid = Pid::from_raw(process.pid().cast_signed()).ok_or_else(|| failed(&"no such process"))?;
    let process_descriptor = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(&error))?;
    // From here on, the descriptor and the handle are the same process, or the status cannot be read.
    let status = process.status().map_err(|error| failed(&error))?;
    if status.sigcgt & SIGQUIT == 0 {
        return Err(NotLoaded::NotYet("the JVM does not catch SIGQUIT".to_owned()));
    }
    pidfd_send_signal(&process_descriptor, Signal::QUIT).map_err(|error| failed(&error))
}

/// The file that says what SIGQUIT means. Dropping this removes it.
struct Request<'folder> {
    folder: BorrowedFd<'folder>,
    name: String,
}

impl<'folder> Request<'folder> {
    fn new(folder: BorrowedFd<'folder>, name: String, user: Uid, group: Gid) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if is_stale(folder, &name) {
            rustix::fs::unlinkat(folder, &name, AtFlags::empty())?;
        }
        let file = rustix::fs::openat(folder, &name, flags, Mode::RUSR | Mode::WUSR)?;
        let request = Self { folder, name };
        // JDK 8 wants it to belong to the user.
        rustix::fs::fchown(&file, Some(user), Some(group))?;
        Ok(request)
    }
}

/// Whether a request with this name was left behind. One that is not stale must stay: without it, SIGQUIT prints the JVM's threads.
fn is_stale(folder: BorrowedFd<'_>, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let changed = u64::try_from(stat.st_mtime).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
    age.is_some_and(|age| age > STALE_AFTER)
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // The JVM removes nothing. If somebody else did, there is nothing left to do.
        let _ = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::since_9("0\nreturn code: 0\n", Outcome::Returned(0))]
    #[case::library_failed("0\nreturn code: 103\n", Outcome::Returned(103))]
    #[case::java_8("0\n0\n", Outcome::Returned(0))]
    #[case::not_found("0\n/tmp/x.so was not loaded.\n/tmp/x.so: cannot open\n", Outcome::Refused("0 /tmp/x.so was not loaded. /tmp/x.so: cannot open".to_owned()))]
    #[case::version("101\n", Outcome::Refused("101".to_owned()))]
    #[case::nothing("", Outcome::Nothing)]
    fn an_answer_says_what_the_library_returned(#[case] answer: &str, #[case] expected: Outcome) {
        assert_eq!(Outcome::parse(answer), expected);
    }

    #[test]
    fn a_link_is_not_taken_for_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        let _listener = std::os::unix::net::UnixListener::bind(&own).unwrap();
        std::os::unix::fs::symlink(&own, folder.path().join("link")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        let user = rustix::process::geteuid();
        let found = ["own", "link", "file", "nothing"].map(|name| socket(open.as_fd(), name, user).is_some());
        assert_eq!(found, [true, false, false, false]);
        let other = Uid::from_raw(user.as_raw().wrapping_add(1));
        assert!(socket(open.as_fd(), "own", other).is_none());
    }

    #[test]
    fn a_request_that_a_killed_program_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (open, path) = (std::fs::File::open(folder.path()).unwrap(), folder.path().join("request"));
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let request = || Request::new(open.as_fd(), "request".to_owned(), user, group);
        let left = std::fs::File::create(&path).unwrap();
        assert_eq!(request().map(|_| ()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
        left.set_modified(SystemTime::now() - 2 * STALE_AFTER).unwrap();
        drop(request().unwrap());
        assert!(!path.exists());
    }

    /// `sleep` has no handler: SIGQUIT would kill it.
    #[test]
    fn a_process_that_does_not_catch_sigquit_gets_none() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        let outcome = signal(&process);
        let is_alive = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(outcome, Err(NotLoaded::NotYet(_))), "{outcome:?}");
        assert!(is_alive);
    }
}
